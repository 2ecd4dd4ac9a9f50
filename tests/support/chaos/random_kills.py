"""SIGKILL for processes of groups and for the supervisor, at random, under a mixed load."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from uuid import UUID

import trio

from tests.support.chaos.ground import MAX_ATTEMPTS, open_ground
from tests.support.chaos.ledger import Ledger
from tests.support.chaos.mixed import MixedLoad, Shop
from tests.support.chaos.program import READY, open_program
from tests.support.postgres import TestDatabase
from troupe.actors.auth.connections import put_connection
from troupe.common.bridge import open_bridge
from troupe.common.database import Database
from troupe.common.errors import DatabaseError
from troupe.common.ids import TenantId
from troupe.common.postgres import running_server
from troupe.common.postgres._layout import Layout
from troupe.common.postgres.roles import ADMIN, DATABASE, connection_url
from troupe.common.secrets import KeyRing, Vault
from troupe.common.units import SECONDS
from troupe_demo.bigquery import StandIn, create_service_account, start
from troupe_demo.ga4 import TOOL_SHOP, generate

DAYS, EVENTS = 4, 800
LAST_DAY = date(2026, 9, 30)
SUPERVISORS = 0.12
"""The share of the kills that hit the supervisor, and with it everything."""
LONGEST_PAUSE = 1.2 * SECONDS
PATIENT = f"""
    CREATE FUNCTION public.be_patient() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.max_attempts := {MAX_ATTEMPTS}; RETURN NEW; END $$;
    CREATE TRIGGER patience BEFORE INSERT ON platform.jobs
        FOR EACH ROW EXECUTE FUNCTION public.be_patient();
"""
"""Attempts are the platform's business: these trials want more of them than it gives."""
FRESH = """
    UPDATE platform.jobs SET attempt = 0 WHERE (tenant_id, job_id) IN (
        SELECT tenant_id, job_id FROM platform.jobs WHERE attempt > 1 FOR UPDATE SKIP LOCKED)
"""
"""So that none waits long for its next one; one that is about to commit keeps its number."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came of it.

    Attributes:
        seed: Of everything that was left to chance.
        kills: Of ``child`` and ``supervisor``.
        answers: How often which request was answered how.
        reads: How often which page was.
        found: What is wrong.
        seconds: It took so long.
    """

    seed: int
    kills: Counter[str]
    answers: Counter[tuple[str, str]]
    reads: Counter[str]
    found: list[str]
    seconds: float

    def __str__(self) -> str:
        told = ", ".join(f"{what} {how}: {n}" for (what, how), n in sorted(self.answers.items()))
        return (
            f"seed {self.seed}: {self.kills.total()} kills ({dict(self.kills)}) in"
            f" {self.seconds:.0f} s; {told}; pages {dict(self.reads)};"
            f" {self.found or 'all is well'}"
        )


@contextmanager
def exports(directory: Path) -> Iterator[StandIn]:
    """BigQuery with some days of a shop."""
    generate(directory, [TOOL_SHOP], days=DAYS, events=DAYS * EVENTS, seed=3, last_day=LAST_DAY)
    with start(directory) as stand_in:
        yield stand_in


async def connect(
    database: Database, state: Path, tenant: TenantId, directory: Path, bigquery: StandIn
) -> None:
    """Point a tenant at the exports."""
    account = create_service_account(directory, TOOL_SHOP.project, bigquery.token_uri)
    await put_connection(
        database,
        Vault(KeyRing.load_or_create(state / "keys")),
        tenant,
        "bigquery",
        {
            "project": TOOL_SHOP.project,
            "dataset": TOOL_SHOP.dataset,
            "property_time_zone": TOOL_SHOP.zone,
            "api_endpoint": bigquery.url,
            "storage_endpoint": bigquery.grpc,
        },
        json.dumps(account).encode(),
    )


def where_is(state: Path) -> TestDatabase:
    """The embedded database of an installation that runs."""
    urls = running_server(state)
    layout = Layout(state.absolute())
    admin = connection_url(
        ADMIN, layout.passwords().admin, "127.0.0.1", layout.port() or 0, DATABASE
    )
    return TestDatabase(DATABASE, urls.owner, urls.runtime, admin)


async def _forgive(admin: Database) -> None:
    with suppress(DatabaseError):  # it is away: the next kill comes
        await admin.execute(FRESH, deadline=1 * SECONDS)


async def kill_at_random(
    directory: Path,
    *,
    seed: int,
    kills: int,
    seconds: float,
    flaw: str = "",
    supervisors: float = SUPERVISORS,
    ingests: bool = True,
) -> Trial:
    """Kill so many processes, or for so long, and audit what is left.

    Args:
        directory: For everything.
        seed: Of everything that is left to chance.
        kills: After so many it ends.
        seconds: After so long it ends.
        flaw: Of the program, see `effectful`.
        supervisors: The share of the kills that hit the supervisor.
        ingests: Whether ingestions belong to the load.
    """
    chance = random.Random(seed)
    killed: Counter[str] = Counter()
    begun = trio.current_time()
    exported = directory / "exports"
    with exports(exported) as bigquery:
        async with (
            open_bridge(),
            open_program(directory, {"EFFECTFUL_FLAW": flaw}) as program,
            open_ground(where_is(program.state)) as ground,
            trio.open_nursery() as nursery,
        ):
            identifier, token = await trio.to_thread.run_sync(program.tenant, "Chaos")
            tenant = TenantId(UUID(identifier))
            await connect(ground.database, program.state, tenant, exported, bigquery)
            days = (LAST_DAY - timedelta(DAYS - 1), LAST_DAY)
            shop = Shop(id=tenant, token=token, days=days if ingests else None)
            ledger = Ledger(directory / "ledger.jsonl")
            load = MixedLoad(program.urls, shop, ground, ledger, seed)
            await ground.admin.run(lambda connection: connection.execute(PATIENT))
            await load.prepare()
            nursery.start_soon(load.run)
            await load.more_reads(5)
            async with trio.open_nursery() as keeping:
                keeping.start_soon(program.keep)
                struck = trio.current_time()
                while killed.total() < kills and trio.current_time() - struck < seconds:
                    await trio.sleep(chance.uniform(0, LONGEST_PAUSE))
                    # One that was always killed while it starts would never have done anything.
                    all_of_it = program.is_ready or chance.random() < supervisors
                    if all_of_it and chance.random() < supervisors:
                        killed["supervisor"] += program.kill_supervisor()
                    else:
                        killed["child"] += program.kill_child(chance)
                    await _forgive(ground.admin)
                with trio.fail_after(READY):
                    while not program.is_ready:
                        await trio.sleep(0.1)
                keeping.cancel_scope.cancel()
            await load.more_reads(5)
            await load.stop()
            await _forgive(ground.admin)
            found = await load.audit()
    return Trial(
        seed=seed,
        kills=killed,
        answers=ledger.counts(),
        reads=load.reads,
        found=found,
        seconds=trio.current_time() - begun,
    )
