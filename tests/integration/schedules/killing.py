"""Kill the leader again and again, and count what became of the slots.

Two workers compete, both with the same host name. As soon as one of them leads it is killed, at a
random moment, and replaced. Schedules are due every few hundredths of a second, so that many a
leader dies in the middle of a transaction. In the end an undisturbed scheduler settles the rest,
and every slot is compared with the timetable.
"""

import random
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

import trio

from tests.integration.schedules.conftest import ADA, BOB, World, read_beat
from tests.integration.schedules.worker import HOST, open_workers
from troupe.common.units import MILLISECONDS
from troupe.platform.schedules import Policy, Schedule

LEASE = 0.4
LINES = (
    # hundredths of a second, policy, tenant
    (7, Policy.CATCH_UP, ADA),
    (11, Policy.COALESCE, ADA),
    (15, Policy.CATCH_UP, BOB),
)
LEADER = "SELECT term, pid, host FROM platform.leaders WHERE expires_at > clock_timestamp()"
BUSY = (
    "SELECT count(*) > 0 FROM pg_stat_activity"
    " WHERE application_name = 'troupe worker ' || $1 AND state <> 'idle'"
)


@dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes:
        kills: Leaders killed, each in a term of its own.
        within: Those of them that had a transaction open just before.
        slots: Slots that were due.
        outcomes: What became of them.
        missing: Slots that are due by the timetable and have no row.
        surplus: Rows of no slot.
        jobs: Jobs that name a slot.
        wrong_jobs: Slots with a job that should have none, the other way round, or with several.
        sorted_terms: Whether no term wrote after a later one.
        hosts: Host names of all leaders.
        seconds: It took so long.
    """

    kills: int
    within: int
    slots: int
    outcomes: Counter[str]
    missing: int
    surplus: int
    jobs: int
    wrong_jobs: int
    sorted_terms: bool
    hosts: frozenset[str]
    seconds: float

    def check(self) -> None:
        """Fail unless every slot happened exactly once."""
        assert self.missing == 0, self
        assert self.surplus == 0, self
        assert self.wrong_jobs == 0, self
        assert self.jobs == self.outcomes["enqueued"], self
        assert self.slots == self.outcomes.total(), self
        assert self.outcomes["skipped"] == 0, self
        assert self.sorted_terms, self
        assert self.hosts == {HOST}, self


async def make_schedules(world: World) -> tuple[list[Schedule], dict[object, datetime]]:
    """The schedules, and where each begins."""
    made = [
        await world.make(f"{beat} 0 * * *", policy=policy, tenant=tenant, catch_up_limit=1000)
        for beat, policy, tenant in LINES
    ]
    return made, {each.id: each.settled_until for each in made}


async def next_leader(world: World, last_term: int, alive: Collection[int]) -> tuple[int, int, str]:
    """Wait for a leader after this term that is one of these; its term, process and host name."""
    while True:
        rows = await world.rows(LEADER)
        if rows and rows[0]["term"] > last_term and rows[0]["pid"] in alive:
            return rows[0]["term"], rows[0]["pid"], rows[0]["host"]
        await trio.sleep(5 * MILLISECONDS)


async def kill_leaders(world: World, kills: int, deadline: float) -> Verdict:
    """Kill so many leaders within so many seconds."""
    begun = trio.current_time()
    made, begins = await make_schedules(world)
    chance = random.Random(kills)
    within, last_term, hosts = 0, 0, set()
    with trio.fail_after(deadline):
        async with open_workers(world.where.runtime_url, LEASE) as workers:
            alive = {await workers.start() for _ in range(2)}
            for _ in range(kills):
                last_term, leader, host = await next_leader(world, last_term, alive)
                hosts.add(host)
                await trio.sleep(chance.uniform(0, 0.1))
                within += await world.look(BUSY, str(leader))
                await workers.kill(leader)
                alive.remove(leader)
                alive.add(await workers.start())
    async with world.running(world.scheduler(read=read_beat)):
        await trio.sleep(3 * LEASE)
    return await judge(world, made, begins, kills, within, frozenset(hosts), begun)


async def judge(
    world: World,
    made: list[Schedule],
    begins: dict[object, datetime],
    kills: int,
    within: int,
    hosts: frozenset[str],
    begun: float,
) -> Verdict:
    """Compare all slots and all jobs with the timetable."""
    missing = surplus = total = wrong_jobs = jobs = 0
    outcomes: Counter[str] = Counter()
    for schedule in made:
        until = (await world.store.get(schedule.tenant_id, schedule.id)).settled_until
        due = read_beat(schedule.cron, schedule.zone).after(begins[schedule.id])
        expected = set(takewhile(lambda slot, until=until: slot <= until, due))
        rows = await world.rows(
            "SELECT s.slot, s.outcome, s.job_id, count(j.job_id) AS jobs,"
            "       bool_and(j.job_id = s.job_id) AS its_own"
            " FROM platform.schedule_slots s LEFT JOIN platform.all_jobs j"
            "   ON j.tenant_id = s.tenant_id"
            "   AND (j.arguments ->> 'slot')::timestamptz = s.slot"
            "   AND j.idempotency_key LIKE 'schedule/' || s.schedule_id || '/%'"
            " WHERE s.schedule_id = $1 GROUP BY 1, 2, 3",
            schedule.id,
        )
        found = Counter(row["slot"] for row in rows)
        total += len(expected)
        missing += len(expected - found.keys())
        surplus += found.total() - len(expected & found.keys())
        outcomes.update(row["outcome"] for row in rows)
        wrong_jobs += sum(
            row["jobs"] != (row["outcome"] == "enqueued") or row["its_own"] is False for row in rows
        )
        jobs += len(await world.jobs(schedule))
    terms = await world.look("SELECT array_agg(term ORDER BY position) FROM public.written")
    return Verdict(
        kills=kills,
        within=within,
        slots=total,
        outcomes=outcomes,
        missing=missing,
        surplus=surplus,
        jobs=jobs,
        wrong_jobs=wrong_jobs,
        sorted_terms=terms == sorted(terms),
        hosts=hosts,
        seconds=round(trio.current_time() - begun, 1),
    )
