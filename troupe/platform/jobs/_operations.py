"""What operators do with kinds of jobs, over all tenants: look, pause, resume."""

from dataclasses import dataclass
from datetime import datetime

from troupe.common.database import Database
from troupe.common.errors import NotFound
from troupe.platform.jobs._enqueue import QUERIES


@dataclass(frozen=True, slots=True, kw_only=True)
class KindAtWork:
    """One kind of job, over all tenants.

    Attributes:
        group: The actor group that runs it.
        kind: Its name.
        waiting: Jobs that could be claimed now; counted up to 100,000.
        delayed: Jobs whose time has not come; likewise.
        running: Jobs that an attempt holds.
        oldest_seconds: How long the oldest waiting job has been due; None: nothing waits.
        paused_at: Since when none is claimed; None: not paused.
    """

    group: str
    kind: str
    waiting: int
    delayed: int
    running: int
    oldest_seconds: float | None
    paused_at: datetime | None


async def kinds_at_work(database: Database) -> list[KindAtWork]:
    """Every kind that any process has ever offered to run."""
    rows = await database.fetch(QUERIES["kinds_at_work"], read_only=True)
    return [
        KindAtWork(
            group=row["group_name"],
            kind=row["kind"],
            waiting=row["waiting"],
            delayed=row["delayed"],
            running=row["running"],
            oldest_seconds=row["oldest_seconds"],
            paused_at=row["paused_at"],
        )
        for row in rows
    ]


async def pause_kind(database: Database, kind: str) -> None:
    """Claim no more jobs of a kind, in any process; those that run go on.

    Raises:
        NotFound: No process has ever offered to run it.
    """
    await _set_paused(database, kind, paused=True)


async def resume_kind(database: Database, kind: str) -> None:
    """Claim jobs of a kind again.

    Raises:
        NotFound: No process has ever offered to run it.
    """
    await _set_paused(database, kind, paused=False)


async def _set_paused(database: Database, kind: str, *, paused: bool) -> None:
    if not await database.fetch_value(QUERIES["pause_kind"], kind, paused):
        raise NotFound(f"There is no kind of job called {kind!r}.")
