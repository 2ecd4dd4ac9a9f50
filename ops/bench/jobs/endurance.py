"""What a transaction that stays open does to a queue at 800 jobs per second.

As long as a transaction holds a snapshot, vacuum removes nothing that was deleted after it began:
dead rows and dead index entries pile up where the next claim looks. The same load runs without and
beside such a transaction (REPEATABLE READ, with a snapshot and a transaction id, in the contender's
database). It arrives open loop, 8 jobs per transaction every 10 ms. Counted are handlers started,
in windows of ten seconds, so that a decay shows; the wait from just before COMMIT to the handler;
what is left behind (dead rows exactly, by pgstattuple); write-ahead log per job, everything from
enqueueing to vacuum included.

A queue may keep up with 800 jobs per second although each has become costly. So in the end, with
the transaction still open, a backlog is enqueued and drained as in `throughput`.
"""

import asyncio
import statistics
import tempfile
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg

from ops.bench.jobs.arena import Arena
from ops.bench.jobs.entrants import Entrant
from ops.bench.jobs.latency import CONNECTIONS, SETTLE, all_started, percentile
from ops.bench.jobs.processes import START_DEADLINE, Process, obeyed, obeyed_beside, started
from ops.bench.jobs.worker import read_instants

RATE: Final = 800
"""Jobs per second."""
BATCH: Final = 8
WINDOW: Final = 10.0
"""Seconds."""
TELL_EVERY: Final = 30.0
"""Seconds between two lines of progress."""
BACKLOG_CHUNK: Final = 5_000

_USER_TABLES: Final = """
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""
_DEAD: Final = (
    "SELECT n.nspname || '.' || c.relname AS name, (pgstattuple(c.oid)).dead_tuple_count AS dead"
    + _USER_TABLES
)
_BYTES: Final = "SELECT sum(pg_total_relation_size(c.oid))" + _USER_TABLES
_DEAD_ESTIMATE: Final = "SELECT sum(n_dead_tup) FROM pg_stat_user_tables"
_LOG_POSITION: Final = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"


@dataclass(frozen=True)
class Endurance:
    """One run.

    Attributes:
        offered: Jobs that arrived.
        started: Handlers started.
        rate: Handlers started per second, while jobs arrived.
        windows: The same in windows of ten seconds, in order.
        wait_p50: Seconds from commit to handler.
        wait_p99: The same; of the last tenth of the jobs in ``late_wait_p99``.
        late_wait_p99: Seconds.
        dead: Dead rows in the end, by table; tables without any left out.
        grown: Bytes by which tables and indexes have grown.
        log_bytes: Write-ahead log per job.
        server_cpu: CPU seconds of the server per job.
        drain: Jobs per second from a backlog in the end.
    """

    offered: int
    started: int
    rate: float
    windows: list[float]
    wait_p50: float
    wait_p99: float
    late_wait_p99: float
    dead: dict[str, int]
    grown: int
    log_bytes: float
    server_cpu: float
    drain: float


@asynccontextmanager
async def _held_open(arena: Arena, database: str) -> AsyncIterator[None]:
    async with arena.connected(database) as connection:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await connection.fetchval("SELECT pg_current_xact_id()")
        yield
        await connection.execute("ROLLBACK")


async def _tell(label: str, consumer: Process, look: asyncpg.Connection) -> None:
    seconds = 0.0
    while True:
        await asyncio.sleep(TELL_EVERY)
        seconds += TELL_EVERY
        dead = await look.fetchval(_DEAD_ESTIMATE)
        print(
            f"  {label}: {seconds:,.0f} s, {consumer.noted:,} jobs run,"
            f" about {dead or 0:,} dead rows",
            flush=True,
        )


async def _run(
    arena: Arena, entrant: Entrant, seconds: float, backlog: int, label: str, database: str
) -> Endurance:
    count = int(RATE * seconds)
    urls = arena.urls(database)
    pause = BATCH / RATE
    with tempfile.TemporaryDirectory() as directory:
        begun, sent = Path(directory, "begun"), Path(directory, "sent")
        async with arena.connected(database) as look:
            cpu_seconds = arena.cpu_seconds()
            log_position = await look.fetchval(_LOG_POSITION)
            size = await look.fetchval(_BYTES)
            async with started(
                entrant, urls, do="consume", file=str(begun), count=count
            ) as consumer:
                await consumer.answer(START_DEADLINE)
                await asyncio.sleep(SETTLE)
                telling = asyncio.create_task(_tell(label, consumer, look))
                order: dict[str, Any] = {"batch": BATCH, "pauses": (pause, pause), "seed": 0}
                order |= {"do": "produce", "connections": CONNECTIONS, "file": str(sent)}
                order |= {"count": count, "deadline": 3 * seconds + 60}
                await obeyed_beside(consumer, entrant, urls, **order)
                await all_started(consumer, count)
                telling.cancel()
                await asyncio.wait([telling])
                await consumer.end()
            server_cpu = (arena.cpu_seconds() - cpu_seconds) / count
            log_bytes = (await look.fetchval(_LOG_POSITION) - log_position) / count
            dead = {row["name"]: row["dead"] for row in await look.fetch(_DEAD) if row["dead"]}
            grown = await look.fetchval(_BYTES) - size
        starts, commits = read_instants(begun), read_instants(sent)
    await obeyed(entrant, urls, do="enqueue", count=backlog, chunk=BACKLOG_CHUNK)
    drained = await obeyed(entrant, urls, do="drain", count=backlog)
    waits = [
        start - commit if start else float("inf")
        for start, commit in zip(starts, commits, strict=True)
    ]
    windows = windows_of(starts, min(commits), seconds)
    return Endurance(
        offered=count,
        started=sum(start > 0 for start in starts),
        rate=statistics.fmean(windows),
        windows=windows,
        wait_p50=percentile(waits, 0.5),
        wait_p99=percentile(waits, 0.99),
        late_wait_p99=percentile(waits[-count // 10 :], 0.99),
        dead=dead,
        grown=int(grown),
        log_bytes=float(log_bytes),
        server_cpu=server_cpu,
        drain=backlog / drained["seconds"],
    )


def windows_of(starts: "array[float]", beginning: float, seconds: float) -> list[float]:
    """Handlers started per second in each whole window while jobs arrived."""
    counts = [0] * max(1, int(seconds / WINDOW))
    width = min(WINDOW, seconds)
    for start in starts:
        number = int((start - beginning) / width)
        if start and number < len(counts):
            counts[number] += 1
    return [count / width for count in counts]


async def measure_endurance(
    arena: Arena, entrants: Sequence[Entrant], *, minutes: float, backlog: int
) -> dict[str, dict[str, Endurance]]:
    """For each entrant's label the runs ``without`` and ``beside`` an open transaction.

    Args:
        arena: Where.
        entrants: Who.
        minutes: Length of one run.
        backlog: Jobs to drain in the end.
    """
    figures: dict[str, dict[str, Endurance]] = {}
    for entrant in entrants:
        runs = figures[entrant.label] = {}
        for way in ("without", "beside"):
            async with arena.copy_of(entrant.template) as database:
                async with arena.connected(database) as connection:
                    await connection.execute("CREATE EXTENSION pgstattuple")
                await arena.calm(database)
                label = f"{entrant.queue} {way}"
                arguments = (arena, entrant, 60 * minutes, backlog, label, database)
                if way == "beside":
                    async with _held_open(arena, database):
                        runs[way] = await _run(*arguments)
                else:
                    runs[way] = await _run(*arguments)
            run = runs[way]
            print(
                f"  {label}: {run.rate:,.0f} jobs/s, {run.offered - run.started:,} lost,"
                f" {sum(run.dead.values()):,} dead rows, {run.log_bytes:,.0f} bytes of log per job,"
                f" then drains {run.drain:,.0f}/s",
                flush=True,
            )
    return figures
