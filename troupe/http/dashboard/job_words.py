"""Jobs as a person reads them: what they do, to what, how far they are, and what may be done."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from troupe.actors.analytics.metrics import Unit
from troupe.http.dashboard import formats
from troupe.platform.jobs import Job, JobState, JobValue

_KINDS: Final[Mapping[str, str]] = {
    "ingest": "Load days",
    "reconcile": "Count at the source",
    "import_master_data": "Import customers and branches",
    "derive": "Compute again",
    "retention": "Remove old days",
    "erase_person": "Forget a person",
    "erase_tenant": "Delete the tenant",
}
STATES: Final[Mapping[JobState, tuple[str, str]]] = {
    JobState.AVAILABLE: ("Waiting", "flat"),
    JobState.RUNNING: ("Running", "accent"),
    JobState.DONE: ("Done", "good"),
    JobState.FAILED: ("Failed", "bad"),
    JobState.DEAD: ("Gave up", "bad"),
    JobState.CANCELLED: ("Cancelled", "flat"),
}
"""What a state is called, and the tone of its badge."""
MOST_NAMED: Final = 3
"""Values of a result that a person is told."""


@dataclass(frozen=True, slots=True)
class JobWords:
    """A job in words.

    Attributes:
        job: The job itself.
        title: What it does.
        subject: To what; may be empty.
        state: Where it is, for people.
        tone: Of its badge.
        share: Part that is done in percent; None where that is not known.
        progress: How far it is; may be empty.
        outcome: What came of it, or why it failed; may be empty.
        seconds: How long its last attempt took; None before it has ended.
        may_cancel: Whether it can be cancelled.
        may_retry: Whether it can be run again.
    """

    job: Job
    title: str
    subject: str
    state: str
    tone: str
    share: float | None
    progress: str
    outcome: str
    seconds: float | None
    may_cancel: bool
    may_retry: bool

    @classmethod
    def of(cls, job: Job) -> "JobWords":
        """Of a job as it was read."""
        state, tone = STATES[job.state]
        ended, began = job.finished_at, job.started_at
        if job.cancel_requested and not job.state.finished:
            state, tone = "Stopping", "warn"
        return cls(
            job,
            title_of(job.kind),
            subject_of(job.arguments),
            state,
            tone,
            _share(job),
            _progress(job),
            job.error.message if job.error else _outcome(job.result),
            (ended - began).total_seconds() if ended and began else None,
            not job.state.finished and not job.cancel_requested,
            job.state in {JobState.FAILED, JobState.DEAD, JobState.CANCELLED},
        )


def title_of(kind: str) -> str:
    """What a kind of job does.

    >>> title_of("ingest"), title_of("send_report")
    ('Load days', 'Send report')
    """
    return _KINDS.get(kind, kind.replace("_", " ").capitalize())


def subject_of(arguments: Mapping[str, JobValue]) -> str:
    """To what a job does it, as far as its arguments tell a person something.

    >>> subject_of({"start_date": "2026-11-01", "end_date": "2026-11-03"})
    '1 Nov – 3 Nov 2026'
    >>> subject_of({"days": ["2026-11-01", "2026-11-03"]}), subject_of({})
    ('2 days', '')
    """
    start, end, days = (arguments.get(name) for name in ("start_date", "end_date", "days"))
    if isinstance(days, list):
        named = [str(day) for day in days]
        return _range(named[0], named[0]) if len(named) == 1 else f"{len(named)} days"
    if isinstance(start, str) and isinstance(end, str):
        return _range(start, end)
    return ""


def _range(start: str, end: str) -> str:
    try:
        return formats.days(date.fromisoformat(start), date.fromisoformat(end))
    except ValueError:
        return ""


def _share(job: Job) -> float | None:
    done, total = job.progress.done, job.progress.total
    return round(100 * done / total, 1) if total and done is not None else None


def _progress(job: Job) -> str:
    progress, rows = job.progress, job.progress.detail.get("rows")
    words = []
    if progress.done is not None and progress.total:
        words.append(f"{progress.done} of {progress.total}")
    if isinstance(rows, int) and rows:
        words.append(f"{formats.count(rows)} rows")
    if progress.message and not job.state.finished:
        words.append(progress.message)
    return " · ".join(words)


def _outcome(result: JobValue) -> str:
    """The first whole numbers of what a handler returned, with their names."""
    if not isinstance(result, Mapping):
        return ""
    numbers = [
        (name, value)
        for name, value in result.items()
        if isinstance(value, int) and not isinstance(value, bool)
    ]
    return ", ".join(
        f"{formats.figure(Decimal(value), Unit.COUNT, '')} {name.replace('_', ' ')}"
        for name, value in numbers[:MOST_NAMED]
    )
