"""The task lists that a report offers are those that there are."""

from troupe.actors.analytics.reports.content import TASK_KINDS
from troupe.actors.analytics.reports.task_lists import REASONS, every_list
from troupe.http import task_reasons


def test_every_kind_is_offered() -> None:
    assert tuple(one.kind for one in every_list()) == TASK_KINDS


def test_every_reason_has_words() -> None:
    assert REASONS.keys() == task_reasons.REASONS.keys()
