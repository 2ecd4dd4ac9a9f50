"""Leaders that are killed, and one that sleeps through its successor's election.

*Every slot has exactly one row, and a term that is over writes nothing.*
"""

import pytest
import trio

from tests.integration.schedules.conftest import ADA, LEASE, World, read_beat, soon
from tests.integration.schedules.killing import kill_leaders
from tests.integration.schedules.worker import Variant, open_workers
from troupe.platform.schedules import Schedule


async def test_every_slot_happens_once_though_twenty_leaders_are_killed(world: World) -> None:
    verdict = await kill_leaders(world, kills=20, deadline=60)
    verdict.check()
    assert verdict.slots > 100


async def sleep_through_an_election(world: World, variant: Variant) -> tuple[Schedule, int]:
    """Stop a leader until another one has written, then let it go on; slots written before that."""
    schedule = await world.make("3 0 * * *")
    async with open_workers(world.where.runtime_url, LEASE) as workers:
        sleeper = await workers.start(variant)

        async def led() -> bool:
            return bool(await world.look("SELECT count(*) > 10 FROM public.written"))

        await soon(led, "the worker leads")
        await workers.stop(sleeper)
        async with world.running(world.scheduler(read=read_beat)):

            async def succeeded() -> bool:
                return bool(await world.look("SELECT max(term) > 1 FROM public.written"))

            await soon(succeeded, "another one leads")
            before = await world.look("SELECT max(position) FROM public.written")
            await workers.resume(sleeper)
            await trio.sleep(1.5 * LEASE)
    return schedule, before


async def check_once(world: World, schedule: Schedule) -> None:
    slots = [slot for slot, _ in await world.slots(schedule)]
    until = (await world.store.get(ADA, schedule.id)).settled_until
    due = read_beat(schedule.cron, schedule.zone).after(schedule.settled_until)
    assert slots == [next(due) for _ in slots]
    assert slots[-1] == until
    assert len(await world.jobs(schedule)) == len(slots)


@pytest.mark.parametrize("variant", ["sound", "stubborn"])
async def test_a_leader_stopped_past_its_lease_writes_nothing_when_it_goes_on(
    world: World, variant: Variant
) -> None:
    """Also when it never doubts that it leads: the fence alone suffices."""
    schedule, before = await sleep_through_an_election(world, variant)
    later = "SELECT array_agg(DISTINCT term) FROM public.written WHERE position > $1"
    assert 1 not in await world.look(later, before)
    assert await world.look("SELECT count(*) > 20 FROM public.written WHERE position > $1", before)
    await check_once(world, schedule)


async def test_without_the_fence_it_writes_in_the_name_of_a_term_that_is_over(
    world: World,
) -> None:
    """The broken twin: proves that the trial above can fail. Yet no slot happens twice."""
    schedule, before = await sleep_through_an_election(world, "lawless")
    later = "SELECT array_agg(DISTINCT term) FROM public.written WHERE position > $1"
    assert 1 in await world.look(later, before)
    await check_once(world, schedule)
