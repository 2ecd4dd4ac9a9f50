"""A mixed load on the whole program, whose every acknowledgement is written down, and its audit.

Clients read figures, enqueue jobs and start ingestions, all the time and through every trouble;
schedules are due many times a second. The audit compares the ledger with the database:

- nothing that was acknowledged is gone, and every job ended well;
- no key made two jobs, no job left two effects, no slot happened twice or never;
- the days that were asked for hold what the source holds, and no job published one twice.
"""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import takewhile
from typing import Any

import httpx2
import trio

from tests.integration.schedules.conftest import read_beat
from tests.support.chaos import checks
from tests.support.chaos.effectful import NOTE
from tests.support.chaos.ground import MAX_ATTEMPTS, Ground
from tests.support.chaos.ledger import Ledger
from tests.support.chaos.worker import COMPLETION
from troupe.common.database import CommitUnknown
from troupe.common.errors import DatabaseError
from troupe.common.ids import TenantId
from troupe.common.units import MILLISECONDS, MINUTES, SECONDS
from troupe.platform.jobs import NewJob, enqueue
from troupe.platform.schedules import NewSchedule, Policy, Schedule, ScheduleStore

PATIENCE = 5 * SECONDS
SETTLED = 2 * MINUTES
BACKLOG = 500
"""Jobs that may wait: a machine that is killed more often than it works would gather thousands."""
BEATS = ((13, Policy.CATCH_UP), (29, Policy.COALESCE))
"""Hundredths of a second between slots."""
PAGES = (
    ("analytics", "/api/v1/stats?preset=28d"),
    ("auth", "/api/v1/me"),
    ("data", "/api/v1/jobs"),
)

DEDUPLICATED = """
    SELECT idempotency_key AS key, array_agg(job_id::text) AS jobs
    FROM platform.all_jobs WHERE kind = $1 AND idempotency_key IS NOT NULL GROUP BY 1
"""
NOT_DONE = """
    SELECT job_id::text, kind, state, error_message AS error FROM platform.all_jobs
    WHERE state <> 'done'
"""
SLOTS = """
    SELECT s.slot, s.outcome, s.job_id, count(j.job_id) AS jobs
    FROM platform.schedule_slots s LEFT JOIN platform.all_jobs j
      ON j.tenant_id = s.tenant_id AND (j.arguments ->> 'slot')::timestamptz = s.slot
     AND j.idempotency_key LIKE 'schedule/' || s.schedule_id || '/%'
    WHERE s.schedule_id = $1 GROUP BY 1, 2, 3
"""
DAYS_ASKED_FOR = """
    SELECT sum((arguments ->> 'end_date')::date - (arguments ->> 'start_date')::date + 1)
    FROM platform.all_jobs WHERE kind = 'ingest'
"""
DAYS_THERE = """
    SELECT source_day, source_rows, loaded_rows,
           (SELECT count(*) FROM data.events e
            WHERE e.tenant_id = d.tenant_id AND e.source_day = d.source_day) AS events
    FROM data.source_days d WHERE tenant_id = $1
"""


@dataclass(frozen=True, kw_only=True)
class Shop:
    """The tenant that the load is of.

    Attributes:
        id: Of the tenant.
        token: Good on all ports.
        days: Exported days, first and last; None: there is nothing to ingest.
    """

    id: TenantId
    token: str
    days: tuple[date, date] | None = None


class MixedLoad:
    """The clients.

    Args:
        urls: Group to the URL of its port; these stay.
        shop: Whose load it is.
        ground: Its database, past the program.
        ledger: Where answers are written down.
        seed: Of what is asked when.
    """

    def __init__(
        self, urls: Mapping[str, str], shop: Shop, ground: Ground, ledger: Ledger, seed: int
    ) -> None:
        self.ledger = ledger
        self.reads: Counter[str] = Counter()
        self._urls = urls
        self._shop = shop
        self._ground = ground
        self._chance = random.Random(seed)
        self._stop = trio.Event()
        self._finished = trio.Event()
        self._schedules: list[tuple[Schedule, datetime]] = []

    async def prepare(self) -> None:
        """Make the schedules."""
        store = ScheduleStore(self._ground.database)
        for beat, policy in BEATS:
            made = await store.create(
                self._shop.id,
                NewSchedule(
                    name=f"beat {beat}",
                    cron=f"{beat} 0 * * *",
                    zone="UTC",
                    policy=policy,
                    group="data",
                    kind=NOTE,
                    catch_up_limit=1000,
                ),
            )
            self._schedules.append((made, made.settled_until))

    async def run(self) -> None:
        """Ask until told to stop; everything that was begun is asked for until it is known."""
        async with trio.open_nursery() as nursery:
            for number in range(2):
                nursery.start_soon(self._read)
                nursery.start_soon(self._enqueue, f"note-{number}")
            if self._shop.days is not None:
                nursery.start_soon(self._ingest)
        self._finished.set()

    async def stop(self) -> None:
        """Begin nothing more, and stop the schedules.

        The store's own way of doing so gives up slots that are due and not yet written.
        """
        self._stop.set()
        await self._ground.change("UPDATE platform.schedules SET enabled = false")

    async def more_reads(self, count: int = 20) -> None:
        """Wait until every page has been answered so many more times."""
        goal = {group: self.reads[group] + count for group, _ in PAGES}
        with trio.fail_after(SETTLED):
            while any(self.reads[group] < wanted for group, wanted in goal.items()):
                await trio.sleep(20 * MILLISECONDS)

    # ---- clients

    async def _pause(self, longest: float) -> None:
        with trio.move_on_after(self._chance.uniform(0, longest)):
            await self._stop.wait()

    def _client(self) -> httpx2.AsyncClient:
        headers = {"Authorization": f"Bearer {self._shop.token}"}
        return httpx2.AsyncClient(timeout=PATIENCE, headers=headers)

    async def _read(self) -> None:
        async with self._client() as client:
            while not self._stop.is_set():
                group, path = self._chance.choice(PAGES)
                try:
                    answer = await client.get(f"{self._urls[group]}{path}")
                except httpx2.HTTPError:
                    self.reads["lost"] += 1
                else:
                    good = answer.status_code == 200
                    self.reads[group if good else f"{group} {answer.status_code}"] += 1
                await self._pause(60 * MILLISECONDS)

    async def _enqueue(self, name: str) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            await self._enqueue_one(f"{name}-{number}")
            await self._pause(40 * MILLISECONDS)
            while number % 20 == 0 and await self._is_buried() and not self._stop.is_set():
                await self._pause(1 * SECONDS)

    async def _is_buried(self) -> bool:
        try:
            waiting: int = await self._ground.look(
                "SELECT count(*) FROM platform.jobs WHERE kind = $1", NOTE
            )
        except DatabaseError:  # it is away: who enqueues waits for it
            return False
        return waiting > BACKLOG

    async def _enqueue_one(self, key: str) -> None:
        new = NewJob(group="data", kind=NOTE, idempotency_key=key, max_attempts=MAX_ATTEMPTS)
        while True:
            try:
                job = await self._ground.database.run(
                    lambda connection: enqueue(connection, new),
                    tenant=self._shop.id,
                    deadline=PATIENCE,
                )
            except CommitUnknown:
                self.ledger.note(NOTE, key, "unknown")
            except DatabaseError:
                self.ledger.note(NOTE, key, "refused")
            else:
                self.ledger.note(NOTE, key, "acknowledged", job.id)
                return
            await trio.sleep(100 * MILLISECONDS)

    async def _ingest(self) -> None:
        assert self._shop.days is not None
        first, last = self._shop.days
        span = (last - first).days
        number = 0
        async with self._client() as client:
            while not self._stop.is_set():
                number += 1
                begin = self._chance.randint(0, span)
                end = self._chance.randint(begin, span)
                body = {
                    "start_date": (first + timedelta(begin)).isoformat(),
                    "end_date": (first + timedelta(end)).isoformat(),
                }
                key = f"ingestion-{number}"
                for _ in range(1 + (self._chance.random() < 0.3)):  # some ask twice
                    await self._ingest_once(client, key, body)
                await self._pause(1 * SECONDS)
            # Whatever was left out by chance: in the end all days must be there.
            whole = {"start_date": first.isoformat(), "end_date": last.isoformat()}
            number += 1
            while not await self._ingest_once(client, f"ingestion-{number}", whole):
                number += 1

    async def _ingest_once(
        self, client: httpx2.AsyncClient, key: str, body: Mapping[str, Any]
    ) -> bool:
        """Ask until there is an answer; False if it says that the first try is not over yet.

        Of one whose process died the server says so for two minutes, which nobody here waits for.
        """
        while True:
            try:
                answer = await client.post(
                    f"{self._urls['data']}/api/v1/ingestions",
                    json=body,
                    headers={"Idempotency-Key": key},
                )
            except httpx2.HTTPError:
                self.ledger.note("ingestion", key, "unknown")
            else:
                if answer.is_success:
                    self.ledger.note("ingestion", key, "acknowledged", answer.json()["id"])
                    return True
                assert answer.status_code in {409, 503, 504}, answer.text
                self.ledger.note("ingestion", key, f"refused {answer.status_code}")
                if answer.status_code == 409:
                    return False
            await trio.sleep(100 * MILLISECONDS)

    # ---- the audit

    async def audit(self) -> list[str]:
        """What is wrong, in sentences; the program must run undisturbed now."""
        with trio.fail_after(SETTLED):
            await self._finished.wait()
        await self._ground.all_finish(patience=SETTLED)
        return [
            *await self._lost_or_doubled(),
            *await checks.stale_effects(self._ground),
            *await checks.doubled_completions(self._ground, COMPLETION),
            *await self._effects(),
            *[line for made in self._schedules for line in await self._slots(*made)],
            *await self._days(),
        ]

    async def _lost_or_doubled(self) -> list[str]:
        found = [
            f"{row['kind']} {row['job_id']} ended as {row['state']}: {row['error']}"
            for row in await self._ground.rows(NOT_DONE)
        ]
        rows = await self._ground.rows(DEDUPLICATED, NOTE)
        jobs = {row["key"]: set(row["jobs"]) for row in rows if row["key"].startswith("note-")}
        known: dict[str, set[str]] = {NOTE: set(), "ingest": set()}
        for row in await self._ground.rows(
            "SELECT kind, job_id::text AS id FROM platform.all_jobs"
        ):
            known[row["kind"]].add(row["id"])
        for what, kind in ((NOTE, NOTE), ("ingestion", "ingest")):
            for key, named in self.ledger.acknowledged(what).items():
                if len(named) > 1:
                    found.append(f"{key} was acknowledged as {len(named)} jobs")
                if not named <= known[kind]:
                    found.append(f"{key} was acknowledged and is gone")
                if what == NOTE and jobs.get(key) != named:
                    found.append(f"{key} made {jobs.get(key)}, and {named} was acknowledged")
        if stray := jobs.keys() - self.ledger.asked(NOTE):
            found.append(f"nobody asked for {stray}")
        # Those who ask for the same days at the same time may be given the same job.
        acknowledged = set().union(*self.ledger.acknowledged("ingestion").values())
        stray = known["ingest"] - acknowledged
        open_ends = self.ledger.asked("ingestion") - self.ledger.acknowledged("ingestion").keys()
        if len(stray) > len(open_ends):
            found.append(f"{len(stray)} ingestions nobody was told of, {len(open_ends)} might be")
        return found

    async def _effects(self) -> list[str]:
        jobs = await self._ground.look(
            "SELECT count(*) FROM platform.all_jobs WHERE kind = $1 AND state = 'done'", NOTE
        )
        effects = await self._ground.look("SELECT count(*) FROM public.effects")
        affected = await self._ground.look("SELECT count(DISTINCT job_id) FROM public.effects")
        if (effects, affected) == (jobs, jobs):
            return []
        return [f"{jobs} notes are done, {affected} left effects, {effects} effects in all"]

    async def _slots(self, schedule: Schedule, begin: datetime) -> list[str]:
        until = await self._ground.look(
            "SELECT settled_until FROM platform.schedules WHERE schedule_id = $1", schedule.id
        )
        due = read_beat(schedule.cron, schedule.zone).after(begin)
        expected = set(takewhile(lambda slot: slot <= until, due))
        rows = await self._ground.rows(SLOTS, schedule.id)
        there = Counter(row["slot"] for row in rows)
        wrong = sum(row["jobs"] != (row["outcome"] == "enqueued") for row in rows)
        found = []
        if missing := expected - there.keys():
            found.append(f"{len(missing)} slots of {schedule.name} never happened")
        if surplus := there.total() - len(expected & there.keys()):
            found.append(f"{surplus} slots of {schedule.name} happened twice or are none")
        if wrong:
            found.append(f"{wrong} slots of {schedule.name} have a wrong number of jobs")
        return found

    async def _days(self) -> list[str]:
        if self._shop.days is None:
            return []
        first, last = self._shop.days
        rows = await self._ground.rows(DAYS_THERE, self._shop.id)
        version = await self._ground.look(
            "SELECT data_version FROM data.versions WHERE tenant_id = $1", self._shop.id
        )
        wanted = (last - first).days + 1
        found = [
            f"{row['source_day']} has {row['events']} events of {row['source_rows']}"
            for row in rows
            if row["events"] != row["source_rows"]
        ]
        if len(rows) != wanted:
            found.append(f"{len(rows)} days are there of {wanted}")
        # Jobs that overlap may each have found the same day to be new. None publishes it twice.
        if not wanted <= version <= (most := await self._ground.look(DAYS_ASKED_FOR)):
            found.append(f"{wanted} days, asked for {most} times, were published {version} times")
        return found
