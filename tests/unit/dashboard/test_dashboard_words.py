"""Nothing that can be filled in, or that was done, is without words."""

import doctest
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from troupe.actors.auth import audit
from troupe.common.connections import CONFIGS
from troupe.common.tenant_settings import TenantSettings
from troupe.http.dashboard import audit_words, browsers, event_words, report_words
from troupe.http.dashboard.connection_forms import ABOUT, CONNECTION_WORDS
from troupe.http.dashboard.fields import Field, FieldGroup, fields_of
from troupe.http.dashboard.tenant_forms import SETTING_WORDS, zones

Fields = tuple[Field | FieldGroup, ...]


def all_of(fields: Fields) -> Iterator[Field | FieldGroup]:
    for one in fields:
        yield one
        if isinstance(one, FieldGroup):
            yield from all_of(one.fields)


def test_every_setting_has_words_and_a_place_on_the_page() -> None:
    assert SETTING_WORDS.keys() == TenantSettings.model_fields.keys()
    shown = fields_of(TenantSettings, {}, SETTING_WORDS, path="settings")
    assert all(one.help and "`" not in one.help and "None" not in one.help for one in shown)


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_field_of_a_connection_has_words(kind: str) -> None:
    words = CONNECTION_WORDS[kind]  # type: ignore[index]
    fields = list(all_of(fields_of(CONFIGS[kind], {}, words, path="config")))  # type: ignore[index]
    named = {one.name.removeprefix("config.") for one in fields}
    assert named <= words.keys(), named - words.keys()
    assert kind in ABOUT


def test_a_field_knows_what_its_model_knows() -> None:
    values = {"cart_idle_hours": 48, "scan_budget_gib": None}
    names = ["cart_idle_hours", "scan_budget_gib", "branch_parameter"]
    hours, budget, branch = fields_of(
        TenantSettings, values, SETTING_WORDS, path="settings", only=names
    )
    assert isinstance(hours, Field)
    assert (hours.kind, hours.value, hours.low, hours.high) == ("number", "48", "1", "720")
    assert hours.note == "1 to 720, usually 24"
    assert isinstance(budget, Field)
    assert (budget.value, budget.null_if_empty, budget.step) == ("", True, "any")
    assert isinstance(branch, Field)
    assert (branch.kind, branch.value, branch.longest) == ("text", "branch_id", 100)


def test_every_action_of_the_log_has_words() -> None:
    table = re.findall(r"^``([a-z_]+\.[a-z_]+)``", audit.__doc__ or "", re.MULTILINE)
    assert len(table) > 20
    assert not set(table) - audit_words.ACTIONS.keys()


def test_an_entry_is_told_even_where_nobody_has_found_words_for_it() -> None:
    person = UUID(int=7)

    def told(action: str, target: str = "", **detail: object) -> str:
        entry = audit.AuditEntry(1, datetime.now(UTC), "user", person, action, target, detail, b"")
        return audit_words.tell(entry, {person: "Ada"}, {}).what

    assert told("member.changed", str(person), role="admin", before="viewer") == (
        "made Ada admin (before: viewer)"
    )
    assert (
        told("member.removed", str(UUID(int=8))) == f"ended the membership of {audit_words.FORMER}"
    )
    assert told("tenant.changed", fields=["name", "settings.retention_days"]) == (
        "changed the settings: name, retention days"
    )
    assert told("provider.put") == "set up logins through …"
    assert (
        told("token.created", name="{role} {0}", role="viewer")
        == "made the token {role} {0} (viewer)"
    )
    assert told("moon.landed", "there") == "moon.landed there"


def test_a_pause_is_told_in_its_largest_unit() -> None:
    assert event_words.pause(timedelta(hours=30)) == "1 day without anything"
    assert event_words.span(timedelta(days=800)) == "2 years"


def test_a_task_rests_until_eight_in_the_morning_whatever_the_clocks_do() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    before = datetime(2026, 10, 24, 20, tzinfo=UTC)  # the night in which clocks go back
    (until, name), *_ = event_words.snoozes(before, berlin)
    assert name == "Tomorrow"
    assert datetime.fromisoformat(until).astimezone(berlin).hour == 8


def test_zones_are_those_that_the_api_takes() -> None:
    assert {"Europe/Berlin", "UTC"} < set(zones())
    assert not [zone for zone in zones() if zone.startswith(("posix", "right"))]


def test_examples_hold() -> None:
    for module in (browsers, event_words, report_words):
        result = doctest.testmod(module)
        assert result.attempted > 0
        assert result.failed == 0
