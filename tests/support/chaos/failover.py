"""The primary is killed and the standby takes its place, under load, again and again.

The program is told of both servers and never of the failover. None of its processes may be started
again because of it.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import trio

from tests.support.chaos.ground import open_ground
from tests.support.chaos.ledger import Ledger
from tests.support.chaos.mixed import MixedLoad, Shop
from tests.support.chaos.pair import DATABASE, Pair, open_pair
from tests.support.chaos.program import Program, open_program
from tests.support.postgres import TestDatabase
from troupe.common.bridge import open_bridge
from troupe.common.ids import TenantId
from troupe.common.units import SECONDS

UNDISTURBED = 1.5 * SECONDS
SEED = 11


@dataclass(frozen=True, kw_only=True)
class Failovers:
    """What came of them.

    Attributes:
        away: For each, seconds from the kill until every page was answered again.
        answers: How often which request was answered how.
        restarted: Processes that were started again.
        found: What is wrong.
    """

    away: list[float]
    answers: Counter[tuple[str, str]]
    restarted: int
    found: list[str]

    def __str__(self) -> str:
        told = ", ".join(f"{what} {how}: {n}" for (what, how), n in sorted(self.answers.items()))
        away = ", ".join(f"{seconds:.1f}" for seconds in self.away)
        return (
            f"{len(self.away)} failovers, all pages back after {away} s; {told};"
            f" {self.restarted} processes started again; {self.found or 'all is well'}"
        )


async def fail_over_under_load(
    directory: Path, *, times: int, synchronous: bool = True
) -> Failovers:
    """Fail over so many times, and audit what is left.

    Args:
        directory: For everything.
        times: How often.
        synchronous: Whether the primary waits for the standby at every commit. Without it what it
            acknowledged last may be lost with it.
    """
    away: list[float] = []
    with open_pair(synchronous=synchronous) as pair:
        options = {
            "TROUPE_DATABASE__URL": pair.owner_url,
            "TROUPE_DATABASE__RUNTIME_URL": pair.runtime_url,
            "TROUPE_DATABASE__STATEMENT_DEADLINE": "10",
        }
        async with (
            open_bridge(),
            open_program(directory, options) as program,
            open_ground(
                TestDatabase(DATABASE, pair.owner_url, pair.runtime_url, pair.admin)
            ) as ground,
            trio.open_nursery() as nursery,
        ):
            identifier, token = await trio.to_thread.run_sync(program.tenant, "Chaos")
            shop = Shop(id=TenantId(UUID(identifier)), token=token)
            ledger = Ledger(directory / "ledger.jsonl")
            load = MixedLoad(program.urls, shop, ground, ledger, SEED)
            await load.prepare()
            before = _processes(program)
            nursery.start_soon(load.run)
            for number in range(times):
                if number:
                    await trio.to_thread.run_sync(pair.replace_standby)
                await load.more_reads(10)
                await trio.sleep(UNDISTURBED)
                away.append(await _fail_over(pair, load))
            await load.more_reads(20)
            await load.stop()
            found = await load.audit()
            restarted = len(_processes(program) - before)
    return Failovers(away=away, answers=ledger.counts(), restarted=restarted, found=found)


async def _fail_over(pair: Pair, load: MixedLoad) -> float:
    begun = trio.current_time()
    await trio.to_thread.run_sync(pair.fail_over)
    await load.more_reads(1)
    return trio.current_time() - begun


def _processes(program: Program) -> set[int | None]:
    return {program.supervisor, *program.children}
