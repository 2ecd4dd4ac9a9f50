from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest

from troupe.actors.data.availability import SourceDayStatus
from troupe.common.ids import TenantId
from troupe.http.dashboard import formats
from troupe.http.dashboard.data_page import DataQuery
from troupe.http.dashboard.job_words import JobWords, subject_of, title_of
from troupe.http.dashboard.sections import SECTIONS, sections_for
from troupe.http.dashboard.supply import MONTHS, flags_of, lay_out
from troupe.http.principal import Role
from troupe.platform.jobs import Job, JobFailure, JobState, Progress

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
JOB = Job(
    tenant_id=TenantId(UUID(int=1)),
    id=UUID(int=2),
    group="data",
    kind="ingest",
    state=JobState.RUNNING,
    priority=0,
    run_at=NOON,
    arguments={"start_date": "2026-11-01", "end_date": "2026-11-03"},
    unique_key=None,
    idempotency_key=None,
    max_attempts=5,
    created_at=NOON,
)


def known(day: date, state: str = "loaded") -> SourceDayStatus:
    return SourceDayStatus(day, state, "daily", 5, 5, 0, NOON, NOON, None)


@pytest.mark.parametrize("week_start", [1, 7])
def test_every_day_stands_once_under_its_weekday(week_start: int) -> None:
    first, last = date(2026, 8, 20), date(2026, 11, 26)
    days = [known(first + timedelta(days=n)) for n in range((last - first).days + 1)]
    months = lay_out(days, last, last=last, week_start=week_start)
    assert [month.first.month for month in months] == [8, 9, 10, 11]
    cells = [
        (at, cell)
        for month in months
        for week in month.weeks
        for at, cell in enumerate(week)
        if cell is not None
    ]
    assert all((cell.day.isoweekday() - week_start) % 7 == at for at, cell in cells)
    shown = [cell.day for _, cell in cells]
    assert shown == [date(2026, 8, 1) + timedelta(days=n) for n in range(len(shown))]
    assert shown[-1] == last
    assert {cell.day for _, cell in cells if cell.status is None} == {
        date(2026, 8, 1) + timedelta(days=n) for n in range(19)
    }


def test_the_calendar_ends_where_it_is_asked_to_and_is_bounded() -> None:
    days = [known(date(2020, 1, 1)), known(date(2026, 11, 26))]
    months = lay_out(days, date(2024, 2, 29), last=date(2026, 11, 26), week_start=1)
    assert len(months) == MONTHS
    assert months[-1].first == date(2024, 2, 1)
    assert lay_out([], date(2026, 11, 26), last=date(2026, 11, 26), week_start=1)[0].first == date(
        2026, 11, 1
    )


def test_jobs_in_words() -> None:
    running = replace(JOB, progress=Progress(done=1, total=3, detail={"rows": 12_000}))
    words = JobWords.of(running)
    assert (words.title, words.subject) == ("Load days", "1 Nov – 3 Nov 2026")
    assert (words.state, words.share, words.progress) == ("Running", 33.3, "1 of 3 · 12,000 rows")
    assert words.may_cancel
    assert not words.may_retry
    stopping = JobWords.of(replace(running, cancel_requested=True))
    assert (stopping.state, stopping.may_cancel) == ("Stopping", False)
    failed = JobWords.of(
        replace(
            JOB,
            state=JobState.FAILED,
            error=JobFailure("PeerRefused", "The table is not there."),
            started_at=NOON,
            finished_at=NOON + timedelta(seconds=200),
        )
    )
    assert (failed.outcome, failed.seconds) == ("The table is not there.", 200)
    assert failed.may_retry


def test_arguments_that_say_nothing_break_nothing() -> None:
    assert subject_of({"days": []}) == "0 days"
    assert subject_of({"start_date": "yesterday", "end_date": "today"}) == ""
    assert subject_of({"days": ["2026-11-05"]}) == "5 Nov 2026"
    assert title_of("send_report") == "Send report"


def test_only_what_is_odd_is_said() -> None:
    row = {"duplicates": 2, "without_key": 0, "currency_missing": 1, "other_currency": 0,
           "value_mismatch": 0}  # fmt: skip
    assert flags_of(row) == ("2 not counted again", "1 without a currency")


def test_addresses_open_and_close() -> None:
    query = DataQuery(state=JobState.FAILED, day=date(2026, 11, 3))
    assert query.link(job=UUID(int=1), day=None) == f"/data?state=failed&job={UUID(int=1)}"
    assert query.closed == "/data?state=failed"
    assert DataQuery().link() == "/data"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (10, "10 s"), (60, "1 min 0 s"),
                          (3599.6, "1 h 0 min"), (90_000, "25 h 0 min")]
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert formats.duration(seconds) == text


@pytest.mark.parametrize(
    ("name", "text"), [("Ada Lovelace", "AL"), ("ada", "A"), ("Ada van der Berg", "AB"), ("", "·"),
                       ("<b>", "B"), ("?!", "?")]
)  # fmt: skip
def test_initials(name: str, text: str) -> None:
    assert formats.initials(name) == text


def test_sections_are_told_apart_and_shown_to_whom_they_are_for() -> None:
    for attribute in ("name", "path", "key", "title"):
        values = [getattr(section, attribute) for section in SECTIONS]
        assert len(set(values)) == len(values)
    shown = {s.name for _, entries in sections_for(Role.VIEWER) for s in entries}
    assert shown == {s.name for s in SECTIONS if s.least is Role.VIEWER}
    assert {s.name for _, entries in sections_for(Role.OWNER) for s in entries} == {
        s.name for s in SECTIONS
    }
