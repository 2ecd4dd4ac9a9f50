"""Two hosts and one database: hosts are cut off and come back, while both of them work.

On each host one process runs jobs and another asks for some. A cut is of either kind, of one host
or of both, and shorter or longer than the lease, so that a host that comes back finds its jobs as
it left them, or with somebody else. It may hold statements that were sent before the cut and arrive
after it, and handlers that want to commit once more before they go.
"""

import random
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.support.chaos import checks
from tests.support.chaos.fleet import ROOT, Fleet
from tests.support.chaos.ground import Ground
from tests.support.chaos.proxy import open_proxy
from tests.support.chaos.worker import COMPLETION, Flaw, Options
from tests.support.hosts.network import Host, open_network
from troupe.common.units import MINUTES, SECONDS

NAMES = ("north", "south")
LIMIT, TENANT_LIMIT = 6, 3
CLIENT_END = 10 * SECONDS


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much trouble. Durations are in seconds.

    Attributes:
        cuts: How many.
        seed: Of everything random.
        lease: Short, so that it is over soon.
        shortest: Cut.
        longest: Cut.
        slots: Jobs at a time on each host.
        flaw: Of a broken twin.
    """

    cuts: int
    seed: int
    lease: float = 1.0
    shortest: float = 0.2
    longest: float = 3.0
    slots: int = 8
    flaw: Flaw = ""


@dataclass
class Tally:
    """What happened.

    Attributes:
        cuts: Of each kind.
        past_lease: Of them: longer than a lease.
        promised: Operations that were acknowledged to somebody.
        outcomes: How attempts ended.
    """

    cuts: Counter[str] = field(default_factory=Counter)
    past_lease: int = 0
    promised: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)


async def cut(host: Host, plan: Plan, chance: random.Random, tally: Tally) -> None:
    """Cut a host off for a while."""
    seconds = chance.uniform(plan.shortest, plan.longest)
    kind = chance.choice(("link down", "black hole"))
    await (host.link_down() if kind == "link down" else host.black_hole())
    await trio.sleep(seconds)
    await host.heal()
    tally.cuts[kind] += 1
    tally.past_lease += seconds > plan.lease


async def endure_cuts(
    ground: Ground, fleet: Fleet, logs: Path, plan: Plan
) -> tuple[Tally, list[str], list[Path]]:
    """Cut hosts off under load and check what is left.

    Returns:
        What happened, what is wrong, and the operation logs.
    """
    tally, chance = Tally(), random.Random(plan.seed)
    written = [logs / f"{kind}-{name}.operations" for name in NAMES for kind in ("work", "asks")]
    async with (
        open_network() as network,
        open_proxy(ground.where.runtime_url, await network.listen()) as database,
    ):
        hosts = [await network.add(name) for name in NAMES]
        workers = []
        for host in hosts:
            options = Options(
                url=database.url,
                slots=plan.slots,
                lease=plan.lease,
                poll=0.2,
                limit=LIMIT,
                tenant_limit=TENANT_LIMIT,
                flaw=plan.flaw,
                log=str(logs / f"work-{host.name}.operations"),
            )
            workers.append(await fleet.start(options, host.prefix))
        async with trio.open_nursery() as clients:
            for host in hosts:
                asks = logs / f"asks-{host.name}.operations"
                await clients.start(_ask, host, database.url, asks, plan.seed)
            while tally.cuts.total() < plan.cuts:
                async with trio.open_nursery() as nursery:
                    for host in chance.sample(hosts, k=1 if chance.random() < 0.8 else 2):
                        nursery.start_soon(cut, host, plan, chance, tally)
                await trio.sleep(chance.uniform(0, 2 * plan.lease))
            clients.cancel_scope.cancel()
        await ground.all_finish(patience=2 * MINUTES)
        for worker in workers:
            tally.outcomes.update((await worker.finish()).outcomes)
    tally.promised = sum(len(path.read_bytes().splitlines()) for path in written)
    enqueued = await ground.look("SELECT count(*) FROM platform.all_jobs")
    found = [
        *await checks.unkept_promises(ground, written),
        *await checks.stale_effects(ground),
        *await checks.doubled_completions(ground, COMPLETION),
        *await checks.exceeded_limits(ground, "limited", LIMIT, TENANT_LIMIT),
        *await checks.lost_jobs(ground, enqueued),
    ]
    return tally, found, written


async def _ask(
    host: Host,
    url: str,
    log: Path,
    seed: int,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Let a client ask for jobs until cancelled."""
    command = [sys.executable, "-m", "tests.support.hosts.client", url, str(log)]
    async with _running([*host.prefix, *command, f"{seed} {host.name}"]) as process:
        assert process.stdout is not None
        assert await process.stdout.receive_some() == b"ready\n"
        task_status.started()
        await trio.sleep_forever()


@asynccontextmanager
async def _running(command: list[str]) -> AsyncIterator[trio.Process]:
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        yield process
    finally:
        with trio.CancelScope(shield=True):
            process.terminate()
            with trio.move_on_after(CLIENT_END):
                await process.wait()
            process.kill()
            await process.wait()
