"""How long a job waits for its handler, when others are few.

A consumer's process runs; a producer's process enqueues on schedule, whatever becomes of the jobs
(open loop), each job in a transaction of its own. The wait begins just before the producer sends
COMMIT and ends in the first line of the handler, on one clock: it holds the commit itself, the
notification or poll, the claim and the hand-over to the handler.
"""

import asyncio
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ops.bench.jobs.arena import Arena
from ops.bench.jobs.entrants import Entrant
from ops.bench.jobs.processes import START_DEADLINE, Process, obeyed_beside, started
from ops.bench.jobs.worker import read_instants

SETTLE: Final = 1.0
"""Seconds between a consumer's word that it is ready and the first job."""
PATIENCE: Final = 15.0
"""Seconds after the last arrival until a job counts as lost."""
ROUND_DEADLINE: Final = 300.0
"""Seconds."""
CONNECTIONS: Final = 4
"""Of the producer."""


@dataclass(frozen=True)
class Load:
    """What arrives.

    Attributes:
        jobs: In a round.
        batch: Jobs per transaction.
        pauses: Shortest and longest pause between two transactions, seconds.
        warm_up: Jobs in the beginning that are not counted.
    """

    jobs: int
    batch: int
    pauses: tuple[float, float]
    warm_up: int


IDLE: Final = Load(jobs=220, batch=1, pauses=(0.02, 0.18), warm_up=20)
STEADY: Final = Load(jobs=2_200, batch=1, pauses=(1 / 200, 1 / 200), warm_up=200)


@dataclass
class Waits:
    """Percentiles of the rounds, seconds."""

    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of the values do not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


async def all_started(consumer: Process, count: int) -> None:
    """Wait for the last handlers, within patience; what is missing then counts as lost."""
    try:
        async with asyncio.timeout(PATIENCE):
            while consumer.noted < count:  # noqa: ASYNC110 - another process's
                await asyncio.sleep(0.1)
    except TimeoutError:
        pass


async def _waits(arena: Arena, entrant: Entrant, load: Load, seed: int) -> list[float]:
    with tempfile.TemporaryDirectory() as directory:
        begun, sent = Path(directory, "begun"), Path(directory, "sent")
        async with arena.copy_of(entrant.template) as database:
            await arena.calm(database)
            urls = arena.urls(database)
            order: dict[str, Any] = {"count": load.jobs}
            async with started(entrant, urls, do="consume", file=str(begun), **order) as consumer:
                await consumer.answer(START_DEADLINE)
                await asyncio.sleep(SETTLE)
                order |= {"batch": load.batch, "pauses": load.pauses, "seed": seed}
                order |= {"do": "produce", "connections": CONNECTIONS, "file": str(sent)}
                await obeyed_beside(consumer, entrant, urls, deadline=ROUND_DEADLINE, **order)
                await all_started(consumer, load.jobs)
                await consumer.end()
        return [
            start - commit if start else math.inf
            for start, commit in zip(read_instants(begun), read_instants(sent), strict=True)
        ][load.warm_up :]


async def measure_waits(
    arena: Arena, entrants: Sequence[Entrant], load: Load, *, rounds: int
) -> dict[str, Waits]:
    """Waits by entrant's label, entrants taking turns; every round has pauses of its own."""
    figures = {entrant.label: Waits() for entrant in entrants}
    for number in range(rounds):
        for entrant in entrants:
            waits = await _waits(arena, entrant, load, seed=number)
            figure = figures[entrant.label]
            figure.p50.append(percentile(waits, 0.5))
            figure.p99.append(percentile(waits, 0.99))
            print(
                f"  round {number + 1}/{rounds}  {entrant.label:<44}"
                f" p50 {1e3 * figure.p50[-1]:>7.1f} ms  p99 {1e3 * figure.p99[-1]:>7.1f} ms"
                f"  worst {1e3 * max(waits):>7.1f} ms",
                flush=True,
            )
    return figures
