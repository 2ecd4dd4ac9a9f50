"""How far a job is, in words."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from troupe.cli.following import LINE_PAUSE, _Lines, describe, line_of
from troupe.common.ids import TenantId
from troupe.platform.jobs import Job, JobState, Progress


def job(state: JobState = JobState.RUNNING, **progress: Any) -> Job:
    names = {"done", "total", "phase", "message"}
    detail = {name: value for name, value in progress.items() if name not in names}
    told = {name: value for name, value in progress.items() if name in names}
    return Job(
        tenant_id=TenantId(uuid.UUID(int=1)),
        id=uuid.UUID(int=2),
        group="data",
        kind="ingest",
        state=state,
        priority=0,
        run_at=datetime(2026, 9, 1, tzinfo=UTC),
        arguments={},
        unique_key=None,
        idempotency_key=None,
        max_attempts=5,
        progress=Progress(**told, detail=detail),
        created_at=datetime(2026, 9, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({}, "running"),
        ({"phase": "connecting"}, "connecting"),
        (
            {
                "rows": 12_000, "bytes": 4_404_019, "rate": 3000, "seconds_left": 12,
                "phase": "loading", "message": "2026-09-01 loaded",
            },
            "12,000 rows, 4.2 MiB, 3,000 rows/s, 12 s left, 2026-09-01 loaded",
        ),
        ({"bytes": 2048, "seconds_left": 600}, "2 KiB, 10 min left, running"),
        ({"rows": 1, "rate": 0, "seconds_left": 10_000}, "1 rows, 2.8 h left, running"),
        ({"rows": None, "seconds_left": None, "message": "Waits"}, "Waits"),
    ],
)  # fmt: skip
def test_what_a_job_tells_is_one_line(told: dict[str, Any], said: str) -> None:
    assert describe(job(**told)) == said


def test_a_finished_job_has_no_speed() -> None:
    done = job(JobState.DONE, rows=5, rate=7, seconds_left=0, done=3, total=3, message="All loaded")
    assert line_of(done) == "ingest done 3/3: 5 rows, All loaded"
    assert line_of(job(JobState.AVAILABLE)) == "ingest available: available"


async def test_lines_are_told_when_something_changed_and_not_too_often(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    del autojump_clock
    with _Lines(quiet=False) as lines:
        lines.show(job(done=0, total=9))
        for number in range(1, 9):
            lines.show(job(done=number, total=9))
        await trio.sleep(LINE_PAUSE)
        lines.show(job(done=8, total=9))
        await trio.sleep(LINE_PAUSE)
        lines.show(job(done=8, total=9))
        lines.show(job(JobState.DONE, done=9, total=9))
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "ingest running 0/9: running",
        "ingest running 8/9: running",
        "ingest done 9/9: done",
    ]


async def test_who_wants_json_hears_nothing_else(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    del autojump_clock
    with _Lines(quiet=True) as lines:
        lines.show(job(JobState.DONE))
    assert capsys.readouterr().err == ""
