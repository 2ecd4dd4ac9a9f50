"""What follows from a changed configuration, before anything is touched."""

from typing import Any

import pytest

from troupe.common.config import Configuration, load
from troupe.common.config_difference import (
    GROUPS,
    Effect,
    Step,
    _leaves,
    concerned,
    difference,
    effect_of,
)

PROCESSES = {"placement": "process", "processes": 2}


def configured(data: dict[str, Any] | None = None, **sections: Any) -> Configuration:
    overrides = {"host": "here", **sections, "groups": {"data": data or {}}}
    return load(environment={}, overrides=overrides)


def step(before: dict[str, Any], after: dict[str, Any], **sections: Any) -> Step:
    found = difference(configured(before), configured(after, **sections))
    assert all(s is Step.KEEP for g, s in found.steps.items() if g != "data" and not sections)
    return found.steps["data"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {}, Step.KEEP),
        ({}, {"tasks": 4}, Step.RESIZE),
        ({}, {"mailbox": 4}, Step.RESIZE),
        ({}, {"database_connections": 9}, Step.RESIZE),
        ({}, PROCESSES, Step.MOVE),
        (PROCESSES, {}, Step.MOVE),
        (PROCESSES, {**PROCESSES, "processes": 3}, Step.SCALE),
        (PROCESSES, {**PROCESSES, "processes": 1, "tasks": 4}, Step.SCALE),
        (PROCESSES, {**PROCESSES, "tasks": 4}, Step.RESIZE),
        (PROCESSES, {**PROCESSES, "memory_limit": 500}, Step.SUCCEED),
        (PROCESSES, {**PROCESSES, "memory_limit": 500, "processes": 4}, Step.SUCCEED),
        (PROCESSES, {**PROCESSES, "watchdog": 9}, Step.SUCCEED),
        # What is about processes means nothing to a group that has none.
        ({}, {"processes": 4}, Step.KEEP),
        ({}, {"watchdog": 9, "memory_limit": 500, "start_deadline": 3}, Step.KEEP),
        ({}, {"placement": "elsewhere"}, Step.STOP),
        ({"placement": "elsewhere"}, {}, Step.START),
        ({"placement": "elsewhere"}, {"placement": "elsewhere", "tasks": 4}, Step.KEEP),
        ({}, {"hosts": ["there"]}, Step.STOP),
        ({}, {"hosts": ["there", "here"]}, Step.KEEP),
        ({"hosts": ["there"]}, {"hosts": ["here"], **PROCESSES}, Step.START),
    ],
)
def test_every_change_of_a_group_leads_to_one_step(
    before: dict[str, Any], after: dict[str, Any], expected: Step
) -> None:
    assert step(before, after) is expected


def test_what_concerns_all_groups_is_followed_by_all_and_the_rest_by_its_own() -> None:
    before = configured()
    everywhere = difference(before, configured(shutdown={"grace": 3}))
    assert set(everywhere.steps.values()) == {Step.SUCCEED}
    of_data = difference(before, configured(jobs={"lease": 30}))
    assert {g for g, s in of_data.steps.items() if s is Step.SUCCEED} == {"data"}
    quiet = difference(before, configured(log={"level": "debug"}))
    assert [change.effect for change in quiet.changes] == [Effect.AT_ONCE]
    assert set(quiet.steps.values()) == {Step.KEEP}


@pytest.mark.parametrize(
    "sections",
    [
        {"state_directory": "/elsewhere"},
        {"host": "other"},
        {"database": {"url": "postgresql://a@b/c"}},
        {"database": {"embedded_account": "x"}},
        {"auth": {"key_encryption_key_file": "/k"}},
        {"log": {"style": "json"}},
        {"processors": {"reserved": 2}},
    ],
)
def test_what_cannot_change_live_is_refused_by_name(sections: dict[str, Any]) -> None:
    found = difference(configured(), configured(**sections))
    assert [change.key for change in found.refused]
    assert all(change.effect is Effect.RESTART for change in found.refused)


def test_a_port_is_refused_although_everything_beside_it_could_change() -> None:
    found = difference(configured(), configured({"port": 9999, "tasks": 4}))
    assert [change.key for change in found.refused] == ["groups.data.port"]
    assert len(found.changes) == 2


def test_secrets_are_compared_and_never_shown() -> None:
    before = configured(database={"url": "postgresql://a:canary@b/c"})
    found = difference(before, configured(database={"url": "postgresql://a:other@b/c"}))
    (change,) = found.changes
    assert "canary" not in str(change) + repr(found)
    assert "other" not in str(change) + repr(found)


def test_a_change_is_told_with_both_values() -> None:
    found = difference(configured(), configured({"tasks": 4, "hosts": ["here", "b"]}))
    assert [str(change) for change in found.changes] == [
        "groups.data.hosts: [] → [here, b] (placement)",
        "groups.data.tasks: 32 → 4 (at once)",
    ]


def test_every_key_has_an_effect_and_the_careful_one_is_the_rule() -> None:
    keys = [key for key, _value in _leaves(configured())]
    effects = {key: effect_of(key) for key in keys}
    assert effects["auth.session_idle"] is Effect.SUCCESSION
    assert concerned("auth.session_idle") == frozenset(GROUPS)
    assert effect_of("somebody.adds_this") is Effect.SUCCESSION
    assert concerned("somebody.adds_this") == frozenset(GROUPS)
    # Where the program listens and keeps things cannot change under it.
    for key in keys:
        if key.endswith((".port", ".host", "url")) and not key.startswith("auth."):
            assert effects[key] is Effect.RESTART, key
