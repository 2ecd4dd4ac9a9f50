"""The host of the instance that writes the schedules' slots is cut off, and another one goes on."""

import random
from collections import Counter

import trio

from tests.integration.schedules.conftest import open_world, read_beat
from tests.integration.schedules.killing import LEASE, judge, make_schedules, next_leader
from tests.integration.schedules.worker import open_workers
from tests.support.chaos.proxy import open_proxy
from tests.support.hosts.cuts import NAMES
from tests.support.hosts.network import open_network
from tests.support.postgres import TestDatabase
from troupe.common.units import SECONDS

CUTS, SEED = 6, 3
DEADLINE = 60 * SECONDS


async def test_every_slot_happens_once_though_the_leaders_host_is_cut_off(
    fresh_database: TestDatabase,
) -> None:
    chance, term, names = random.Random(SEED), 0, set()
    cuts: Counter[str] = Counter()
    begun = trio.current_time()
    async with (
        open_world(fresh_database) as world,
        open_network() as network,
        open_proxy(world.where.runtime_url, await network.listen()) as database,
    ):
        made, begins = await make_schedules(world)
        north, south = [await network.add(name) for name in NAMES]
        async with (
            open_workers(database.url, LEASE, north.prefix) as northern,
            open_workers(database.url, LEASE, south.prefix) as southern,
        ):
            hosts = {await northern.start(): north, await southern.start(): south}
            with trio.fail_after(DEADLINE):
                while cuts.total() < CUTS:
                    term, leader, name = await next_leader(world, term, hosts)
                    names.add(name)
                    await trio.sleep(chance.uniform(0, 0.2))
                    kind = chance.choice(("link down", "black hole"))
                    host = hosts[leader]
                    await (host.link_down() if kind == "link down" else host.black_hole())
                    cuts[kind] += 1
                    # While it is cut off, the other one takes over.
                    term, _, _ = await next_leader(world, term, hosts.keys() - {leader})
                    await trio.sleep(chance.uniform(0, LEASE))
                    await host.heal()
                    await trio.sleep(chance.uniform(0, LEASE))
                    term -= 1  # whoever leads now is the next to be cut off
        async with world.running(world.scheduler(read=read_beat)):
            await trio.sleep(3 * LEASE)
        verdict = await judge(world, made, begins, 0, 0, frozenset(names), begun)
    verdict.check()
    assert len(cuts) == 2, cuts
