"""How many jobs per second are enqueued in bulk, and how many one consumer drains.

Each round: a fresh copy of the contender's database; one process enqueues; the database is brought
to rest; another process, warm and connected, starts its consumer and stops the clock when a third
connection sees that no job is left unfinished. Contenders take turns within a round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ops.bench.jobs.arena import Arena
from ops.bench.jobs.entrants import Entrant
from ops.bench.jobs.processes import obeyed


@dataclass
class Throughput:
    """One entrant's rounds.

    Attributes:
        enqueue: Jobs per second.
        drain: The same.
        enqueue_cpu: CPU seconds per job, of the client and of the server.
        drain_cpu: The same.
    """

    enqueue: list[float] = field(default_factory=list)
    drain: list[float] = field(default_factory=list)
    enqueue_cpu: list[tuple[float, float]] = field(default_factory=list)
    drain_cpu: list[tuple[float, float]] = field(default_factory=list)


async def measure_throughput(
    arena: Arena,
    entrants: Sequence[Entrant],
    *,
    jobs: Mapping[str, int],
    chunk: int,
    rounds: int,
) -> dict[str, Throughput]:
    """Rates by entrant's label.

    Args:
        arena: Where.
        entrants: Who.
        jobs: How many in a round, by queue.
        chunk: Jobs per transaction when enqueueing.
        rounds: How often.
    """
    figures = {entrant.label: Throughput() for entrant in entrants}
    for number in range(rounds):
        for entrant in entrants:
            count = jobs[entrant.queue]
            async with arena.copy_of(entrant.template) as database:
                urls = arena.urls(database)
                cpu = [arena.cpu_seconds()]
                enqueued = await obeyed(entrant, urls, do="enqueue", count=count, chunk=chunk)
                cpu.append(arena.cpu_seconds())
                await arena.calm(database)
                cpu.append(arena.cpu_seconds())
                drained = await obeyed(entrant, urls, do="drain", count=count)
                cpu.append(arena.cpu_seconds())
            figure = figures[entrant.label]
            figure.enqueue.append(count / enqueued["seconds"])
            figure.drain.append(count / drained["seconds"])
            figure.enqueue_cpu.append((enqueued["cpu_seconds"] / count, (cpu[1] - cpu[0]) / count))
            figure.drain_cpu.append((drained["cpu_seconds"] / count, (cpu[3] - cpu[2]) / count))
            print(
                f"  round {number + 1}/{rounds}  {entrant.label:<44}"
                f" enqueue {figure.enqueue[-1]:>7,.0f}/s  drain {figure.drain[-1]:>7,.0f}/s",
                flush=True,
            )
    return figures
