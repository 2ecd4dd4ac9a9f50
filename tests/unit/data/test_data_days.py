"""What an ingestion knows of its days."""

from datetime import UTC, date, datetime

import pytest
import trio

from troupe.actors.data.bigquery import ExportTable
from troupe.actors.data.days import Known, Tally
from troupe.actors.data.flattening import Family
from troupe.actors.data.job_requests import days_of, ingest_days_job, ingest_job

FIRST, SECOND, THIRD = (date(2026, 9, day) for day in (1, 2, 3))
WRITTEN = datetime(2026, 9, 2, tzinfo=UTC)


def table(**changes: object) -> ExportTable:
    usual = {
        "day": FIRST, "family": Family.DAILY, "name": "events_20260901", "modified": WRITTEN,
        "rows": 10, "schema": (), "settled": True,
    }  # fmt: skip
    return ExportTable(**(usual | changes))


KNOWN = Known("loaded", Family.DAILY, WRITTEN, 10, "abc")


def test_a_table_is_read_again_only_if_something_differs() -> None:
    assert KNOWN.is_current(table(), "abc")
    assert not KNOWN.is_current(table(), "abd")
    assert not KNOWN.is_current(table(rows=11), "abc")
    assert not KNOWN.is_current(table(modified=datetime(2026, 9, 3, tzinfo=UTC)), "abc")
    assert not KNOWN.is_current(table(settled=False), "abc")
    assert not KNOWN.is_current(table(family=Family.FRESH), "abc")
    assert not Known("stale", Family.DAILY, WRITTEN, 10, "abc").is_current(table(), "abc")


def test_a_worse_family_replaces_nothing() -> None:
    assert KNOWN.outranks(Family.INTRADAY)
    assert not KNOWN.outranks(Family.DAILY)
    assert not Known("missing", None, None, None, None).outranks(Family.INTRADAY)


def test_a_jobs_arguments_go_both_ways() -> None:
    job = ingest_job(FIRST, THIRD)
    assert days_of(job.arguments) == [FIRST, SECOND, THIRD]
    assert job.unique_key == ingest_job(FIRST, THIRD).unique_key
    assert job.unique_key != ingest_job(FIRST, SECOND).unique_key
    with pytest.raises(ValueError, match="before"):
        ingest_job(SECOND, FIRST)


async def test_a_checkpoint_carries_days_and_rows_to_the_next_attempt() -> None:
    first = Tally([FIRST, SECOND, THIRD])
    first.rows = 100
    saved = first.checkpoint([FIRST])
    assert saved == {"done": ["2026-09-01"], "rows": 100}
    second = Tally([FIRST, SECOND, THIRD])
    second.restore(saved)
    assert second.done == {FIRST}
    assert second.checkpoint([SECOND, THIRD])["done"] == ["2026-09-01", "2026-09-02", "2026-09-03"]
    second.restore(None)
    assert second.done == {FIRST}


def test_a_job_may_name_just_some_days() -> None:
    job = ingest_days_job([THIRD, FIRST, FIRST])
    assert days_of(job.arguments) == [FIRST, THIRD]
    assert job.unique_key == ingest_days_job([FIRST, THIRD]).unique_key
    assert job.unique_key != ingest_days_job([FIRST, SECOND]).unique_key
    with pytest.raises(ValueError, match="no days"):
        ingest_days_job([])


def test_the_last_days_end_before_the_slot_in_the_propertys_zone() -> None:
    # In Auckland the fourth has begun.
    arguments = {"last_days": 2, "slot": "2026-09-03T18:00:00Z"}
    assert days_of(arguments, zone="Pacific/Auckland") == [SECOND, THIRD]
    assert days_of(arguments, zone="UTC") == [FIRST, SECOND]
    assert days_of(arguments | {"include_today": True}, zone="UTC") == [SECOND, THIRD]
    by_hand = {"last_days": 1}
    assert days_of(by_hand, enqueued=datetime(2026, 9, 3, 1, tzinfo=UTC)) == [SECOND]


async def test_rate_and_time_left_are_of_this_attempt(
    autojump_clock: trio.testing.MockClock,
) -> None:
    del autojump_clock
    tally = Tally([FIRST, SECOND, THIRD])
    tally.restore({"done": ["2026-09-01"], "rows": 500})
    assert tally.progress()["seconds_left"] is None
    await trio.sleep(10)
    tally.arrived(SECOND, 50, 1000, of=50)
    tally.done.add(SECOND)
    assert tally.progress() == {
        "done": 2, "total": 3, "rows": 550, "bytes": 1000, "rate": 5, "seconds_left": 10,
    }  # fmt: skip
    tally.missing.append(THIRD)
    assert tally.progress()["done"] == 3
    assert tally.progress()["seconds_left"] == 0


async def test_a_day_half_read_counts_for_its_part(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    tally = Tally([FIRST, SECOND])
    await trio.sleep(9)
    tally.arrived(FIRST, 500, 1000, of=1000)  # 0.45 of two days
    told = tally.progress()
    assert told["done"] == 0
    assert told["seconds_left"] == 31
    tally.arrived(FIRST, 700, 1000, of=1000)  # more than the source said
    assert tally.reading[FIRST] == 0.9
