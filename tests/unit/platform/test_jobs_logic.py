"""What jobs decide without a database."""

import uuid
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import trio
import trio.testing

from troupe.common.errors import (
    ConfigurationError,
    CredentialsRejected,
    DatabaseUnavailable,
    Forbidden,
    InvalidInput,
    PeerUnavailable,
    TooManyRequests,
    TroupeError,
)
from troupe.common.ids import TenantId
from troupe.platform.errors import PermanentJobError, summarise, unexpected
from troupe.platform.jobs import (
    DEFAULT_RETRY,
    ClaimedJob,
    Job,
    JobKind,
    JobRun,
    JobState,
    NewJob,
    Progress,
)
from troupe.platform.jobs._outcome import judge
from troupe.platform.jobs._runner import _Bell
from troupe.platform.jobs._store import decode_cursor, encode_cursor


def make_run() -> JobRun:
    now = datetime.now(UTC)
    job = Job(
        tenant_id=TenantId(uuid.uuid4()),
        id=uuid.uuid4(),
        group="data",
        kind="work",
        state=JobState.RUNNING,
        priority=0,
        run_at=now,
        arguments={},
        unique_key=None,
        idempotency_key=None,
        attempt=1,
        max_attempts=5,
        fencing_token=1,
        cancel_requested=False,
        progress=Progress(),
        checkpoint=None,
        error=None,
        result=None,
        created_at=now,
        started_at=now,
        finished_at=None,
    )
    return JobRun(None, ClaimedJob.of(job))  # type: ignore[arg-type] - nothing here reaches a database


@pytest.mark.parametrize(
    ("error", "permanent", "retry_after"),
    [
        (PermanentJobError("no"), True, 0),
        (InvalidInput("no"), True, 0),
        (Forbidden("no"), True, 0),
        (ConfigurationError("no"), True, 0),
        (CredentialsRejected("no"), True, 0),
        (TooManyRequests("slow", 30), False, 30),
        (PeerUnavailable("down"), False, 0),
        (PeerUnavailable("later", 12.5), False, 12.5),
        (DatabaseUnavailable("down"), False, 0),
        (KeyError("ours"), False, 0),
        (ExceptionGroup("", [KeyError(), ExceptionGroup("", [Forbidden("no")])]), True, 0),
        (ExceptionGroup("", [PeerUnavailable("a", 3), PeerUnavailable("b", 9)]), False, 9),
    ],
)
def test_whose_fault_an_error_is_decides_whether_to_retry(error, permanent, retry_after):
    verdict = judge(error)
    assert (verdict.permanent, verdict.retry_after) == (permanent, retry_after)
    assert "\n" not in verdict.message


def test_of_several_errors_the_one_that_no_retry_mends_is_told():
    verdict = judge(ExceptionGroup("", [KeyError("x"), Forbidden("Not you.")]))
    assert (verdict.kind, verdict.message) == ("Forbidden", "Not you.")


def test_waits_between_attempts_grow_to_a_limit():
    waits = [DEFAULT_RETRY.delay(attempt, 0.0) for attempt in range(1, 12)]
    assert waits[:4] == [2, 6, 18, 54]
    assert waits[-1] == 900
    assert DEFAULT_RETRY.delay(1, 1.0) == 1.5


def test_summaries_quote_our_own_words_only():
    class Ours(TroupeError):
        pass

    assert summarise(Ours("First line.\nSecond line.")) == "First line."
    assert summarise(Ours()) == "Ours"
    assert summarise(ExceptionGroup("x", [Ours("a"), Ours("b"), Ours("c")])) == "a (and 2 more)"
    assert len(summarise(Ours("x" * 1000))) == 300
    secret = "postgresql://user:hunter2@host"
    with pytest.raises(OSError, match="hunter2") as caught:
        raise OSError(secret)
    assert "hunter2" not in summarise(caught.value)
    assert summarise(caught.value).startswith("OSError in test_jobs_logic.test_summaries")
    assert unexpected(caught.value) is caught.value
    assert unexpected(ExceptionGroup("x", [Ours("a"), Ours("b")])) is None


def test_cursors_survive_the_round_trip():
    job_id = uuid.uuid4()
    assert decode_cursor(encode_cursor(job_id)) == job_id
    with pytest.raises(InvalidInput):
        decode_cursor(encode_cursor(job_id)[:-3])


def test_requests_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="time zone"):
        NewJob(group="data", kind="x", run_at=datetime(2030, 1, 1))  # noqa: DTZ001 - the point
    with pytest.raises(ValueError, match="max_attempts"):
        NewJob(group="data", kind="x", max_attempts=0)
    with pytest.raises(ValueError, match="concurrency"):
        JobKind(handler=lambda _run: None, concurrency=0)  # type: ignore[arg-type,return-value]


async def test_a_bell_is_heard_once_even_when_rung_before():
    bell = _Bell()
    bell.ring()
    bell.ring()
    begun = trio.current_time()
    await bell.wait(10)
    assert trio.current_time() == begun
    await bell.wait(10)
    assert trio.current_time() == pytest.approx(begun + 10)


@pytest.mark.parametrize(
    ("report", "error"),
    [
        ({"detail": object()}, TypeError),
        ({"message": "a\0b"}, ValueError),
        ({"rate": float("nan")}, ValueError),
        ({"rate": Decimal("NaN")}, TypeError),
        ({"rate": Decimal("1.5")}, None),
    ],
)
async def test_reports_that_cannot_be_stored_fail_in_the_handlers_own_line(report, error):
    run = make_run()
    if error is None:
        await run.progress(1, **report)
        assert run.take_unreported() is not None
    else:
        with pytest.raises(error):
            await run.progress(1, **report)


async def test_reports_are_merged_and_the_newest_wins():
    run = make_run()
    await run.progress(1, 10, "read", rows=5)
    await run.progress(2, message="two", bytes=7)
    report = run.take_unreported()
    assert report is not None
    assert (report.done, report.total, report.phase, report.message) == (2, 10, "read", "two")
    assert report.detail == {"rows": 5, "bytes": 7}
    assert run.take_unreported() is None
    run.give_back_unreported(report)
    await run.progress(3)
    newer = run.take_unreported()
    assert newer is not None
    assert newer.done == 3
