"""What becomes of slots, as a table; and that it is the same however many are settled at once."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troupe.common.errors import InvalidInput
from troupe.common.ids import TenantId
from troupe.platform.schedules import CronTimetable, NewSchedule, Outcome, Policy, Schedule
from troupe.platform.schedules._policy import Rule
from troupe.platform.schedules._writing import _job, _look

NOW = datetime(2027, 1, 1, 12, 0, 20, tzinfo=UTC)
LETTERS = {Outcome.ENQUEUED: "J", Outcome.SKIPPED: "s", Outcome.COALESCED: "c"}


def word(outcomes: list[Outcome]) -> str:
    return "".join(LETTERS[outcome] for outcome in outcomes)


# Slots by how many seconds ago they were, with a grace of 60. J: a job, s: skipped, c: coalesced.
TABLE = [
    # ago                      skip     coalesce  catch up, 2 jobs at most
    ([], "", "", ""),
    ([0], "J", "J", "J"),
    ([60], "J", "J", "J"),
    ([61], "s", "J", "J"),
    ([90, 30], "sJ", "cJ", "JJ"),
    ([50, 40, 30], "JJJ", "ccJ", "JJJ"),
    ([300, 200, 100], "sss", "ccJ", "JJs"),
    ([300, 200, 100, 59, 1], "sssJJ", "ccccJ", "JJsJJ"),
]


@pytest.mark.parametrize(("ago", "skip", "coalesce", "catch_up"), TABLE)
def test_the_table(ago: list[int], skip: str, coalesce: str, catch_up: str) -> None:
    slots = [NOW - timedelta(seconds=seconds) for seconds in ago]
    for policy, expected in zip(Policy, (skip, coalesce, catch_up), strict=True):
        rule = Rule(policy=policy, grace=timedelta(minutes=1), room=2)
        assert word(rule.outcomes(slots, NOW, more=False)) == expected, policy


def test_with_more_to_come_nothing_is_the_latest_yet() -> None:
    slots = [NOW - timedelta(hours=hours) for hours in (3, 2)]
    rule = Rule(policy=Policy.COALESCE, grace=timedelta(minutes=1))
    assert word(rule.outcomes(slots, NOW, more=True)) == "cc"


def schedule(policy: Policy, **fields: object) -> Schedule:
    values = {
        "tenant_id": TenantId(uuid.UUID(int=1)),
        "id": uuid.UUID(int=2),
        "name": "nightly",
        "group": "data",
        "kind": "ingest",
        "cron": "*/10 * * * *",
        "zone": "UTC",
        "arguments": {"depth": 1},
        "policy": policy,
        "grace": 900.0,
        "catch_up_limit": 5,
        "version": 1,
        "created_at": NOW,
        "changed_at": NOW,
        "settled_until": NOW - timedelta(minutes=200),
        "caught_up": 0,
        "problem": None,
    }
    return Schedule(**values | fields)


def settled(policy: Policy, at_once: int) -> list[tuple[datetime, Outcome]]:
    """All that is due, settled so many at a time."""
    found: list[tuple[datetime, Outcome]] = []
    until, caught_up = NOW - timedelta(minutes=200), 0
    for _ in range(100):
        present = schedule(policy, settled_until=until, caught_up=caught_up)
        look = _look(present, NOW, at_once, CronTimetable)
        found += look.slots
        until, caught_up = look.settled_until, look.caught_up
        if look.look_again > NOW:
            assert caught_up == 0
            assert look.look_again == NOW.replace(minute=10, second=0)
            return found
    pytest.fail("it never ends")


@given(st.sampled_from(Policy), st.integers(1, 30))
def test_slots_fare_the_same_however_many_are_settled_at_once(policy: Policy, at_once: int) -> None:
    whole = settled(policy, 1000)
    assert settled(policy, at_once) == whole
    letters = word([outcome for _, outcome in whole])
    # 20 slots, the last two of them within the grace of a quarter of an hour.
    assert (
        letters
        == {
            Policy.SKIP: "s" * 18 + "JJ",
            Policy.COALESCE: "c" * 19 + "J",
            Policy.CATCH_UP: "J" * 5 + "s" * 13 + "JJ",
        }[policy]
    )


def test_a_zone_that_this_host_does_not_know_puts_a_schedule_off_and_loses_nothing() -> None:
    present = schedule(Policy.SKIP, zone="Europe/Atlantis", caught_up=3)
    look = _look(present, NOW, 10, CronTimetable)
    assert look.problem == "/zone must be a time zone, such as Europe/Berlin"
    assert (look.slots, look.settled_until, look.caught_up) == ([], present.settled_until, 3)
    assert look.look_again == NOW + timedelta(minutes=5)


def test_a_job_is_told_its_slot_and_is_named_by_it() -> None:
    slot = datetime(2027, 1, 1, 12, tzinfo=UTC)
    job = _job(schedule(Policy.SKIP), slot)
    assert job.arguments == {"depth": 1, "slot": "2027-01-01T12:00:00Z"}
    assert job.idempotency_key == f"schedule/{uuid.UUID(int=2)}/2027-01-01T12:00:00Z"
    assert job.run_at == slot


@pytest.mark.parametrize(
    ("where", "fields"),
    [
        ("/name", {"name": ""}),
        ("/name", {"name": " nightly"}),
        ("/name", {"name": "n" * 101}),
        ("/name", {"name": "a\x00b"}),
        ("/group", {"group": "Data"}),
        ("/group", {"group": ""}),
        ("/kind", {"kind": ""}),
        ("/arguments", {"arguments": {"slot": 1}}),
        ("/arguments", {"arguments": {"x": float("nan")}}),
        ("/arguments", {"arguments": {"x": {1, 2}}}),
        ("/arguments", {"arguments": {"x": "\x00"}}),
        ("/arguments", {"arguments": {"x": "y" * 70_000}}),
        ("/grace", {"grace": 0}),
        ("/grace", {"grace": float("nan")}),
        ("/catch_up_limit", {"catch_up_limit": 0}),
        ("/priority", {"priority": 40_000}),
        ("/max_attempts", {"max_attempts": 0}),
        ("/cron", {"cron": "0 0 31 2 *"}),
        ("/cron", {"cron": "* * */20 * 1L"}),
        ("/zone", {"zone": "Mars/Olympus"}),
    ],
)
def test_what_a_schedule_cannot_be(where: str, fields: dict[str, object]) -> None:
    sound = {"name": "nightly", "group": "data", "kind": "ingest", "cron": "0 2 * * *"}
    NewSchedule(**sound).check(NOW)
    with pytest.raises(InvalidInput) as refused:
        NewSchedule(**sound | fields).check(NOW)
    assert [pointer for pointer, _ in refused.value.errors] == [where]
