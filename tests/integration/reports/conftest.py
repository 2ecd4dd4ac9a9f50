"""Two shops with figures and branches, a mail server that obeys, and the runner of reports."""

import asyncio
import ipaddress
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import trio

from tests.integration.analytics.warehouse import Warehouse
from tests.support.postgres import TestDatabase
from tests.support.reports.server import MailServer
from troupe.actors.analytics.answers import Answers
from troupe.actors.analytics.reports.content import ReportReader, TaskSource
from troupe.actors.analytics.reports.dispatch import Dispatch, report_kinds
from troupe.actors.analytics.reports.periods import ReportPeriod
from troupe.actors.analytics.reports.planning import SendNow, send_now
from troupe.actors.analytics.reports.records import Delivery, Recipient, Run
from troupe.actors.analytics.reports.rounds import nothing
from troupe.actors.analytics.reports.settings import ReportSettings
from troupe.actors.analytics.reports.smtp import MailLine
from troupe.actors.analytics.reports.store import ReportStore
from troupe.actors.analytics.reports.workshop import ThreadWriter
from troupe.actors.analytics.reports.writing import Press
from troupe.actors.auth.connections import put_connection
from troupe.common.bridge import aio, open_bridge
from troupe.common.database import Database, open_database
from troupe.common.outbound import OutboundGuard
from troupe.common.secrets import KeyRing, Vault
from troupe.common.units import MILLISECONDS, SECONDS
from troupe.platform.jobs import JobKind, JobRunner, RunnerSettings
from troupe.platform.pool import Pool
from troupe.platform.supervision import Supervisor
from troupe.platform.threads import Threads

BRANCHES = ("b1", "b2", "b3")
ORIGIN = "https://board.example"
ACTOR = ("operator", None)
PATIENCE = 60 * SECONDS
KEY = b"k" * 32
LOOPBACK = OutboundGuard([ipaddress.ip_network("127.0.0.0/8")])


def yesterday() -> date:
    """As the program sees it; tests that begin in the evening may end in the morning."""
    return datetime.now(UTC).date() - timedelta(days=1)


def days_until_yesterday() -> list[date]:
    """Those with data, the latest first."""
    return [yesterday() - timedelta(days=number) for number in range(40)]


def a_shop(name: str) -> Warehouse:
    shop = Warehouse(name, "UTC", "EUR", data_until=yesterday())
    shop.add_random_days(days_until_yesterday(), BRANCHES, random.Random(name))
    shop.locations = [
        {"location_id": branch, "name": f"Branch {branch}", "city": None, "email": None,
         "manager": None}
        for branch in BRANCHES
    ]  # fmt: skip
    return shop


@dataclass
class Office:
    """What a test has to work with."""

    where: TestDatabase
    database: Database
    vault: Vault
    shop: Warehouse
    rival: Warehouse
    mail: MailServer
    store: ReportStore
    threads: Threads = field(default_factory=lambda: Threads(2))

    async def connect_mail(self, shop: Warehouse | None = None, **config: Any) -> None:
        settings = {
            "host": "127.0.0.1", "port": self.mail.port, "security": "none",
            "sender": "reports@shop.example",
        } | config  # fmt: skip
        secret = settings.pop("secret", b"a password")
        tenant = (shop or self.shop).tenant
        await put_connection(self.database, self.vault, tenant, "smtp", settings, secret)

    async def add(self, address: str, branch: str | None = "b1", **more: Any) -> Recipient:
        new = Recipient(location_id=branch, address=address, **more)
        return await self.store.recipients.add(self.shop.tenant, new, ACTOR)

    async def add_many(self, addresses: list[str], branch: str = "b1") -> None:
        """Many recipients in one statement."""
        await self.database.execute(
            "INSERT INTO analytics.report_recipients (tenant_id, recipient_id, location_id,"
            " address, language, time_zone, format, secret)"
            " SELECT $1, gen_random_uuid(), $2, a, 'en', 'UTC', 'html',"
            " decode(md5(a), 'hex') FROM unnest($3::text[]) AS a",
            self.shop.tenant, branch, addresses, tenant=self.shop.tenant,
        )  # fmt: skip

    async def settle(self, **settings: Any) -> None:
        look = await self.store.look(self.shop.tenant)
        await self.store.put_settings(
            self.shop.tenant, ReportSettings(**settings), look.version, ACTOR
        )

    async def send(self, **wanted: Any) -> Run:
        asked = SendNow(**({"period": ReportPeriod.DAY, "requested_by": "a test"} | wanted))
        return await send_now(self.database, self.shop.tenant, asked, ACTOR, now=datetime.now(UTC))

    def dispatch(
        self,
        at: Callable[[str], None] = nothing,
        context: Any = None,
        sources: Sequence[TaskSource] = (),
    ) -> Dispatch:
        reader = ReportReader(Answers(self.database), sources)
        press = Press(reader, ThreadWriter(self.threads), ORIGIN)
        return Dispatch(
            self.database,
            self.vault,
            press,
            lambda config, secret: MailLine(config, secret, LOOPBACK, context=context),
            at=at,
        )

    @asynccontextmanager
    async def running(
        self, dispatch: Dispatch | None = None, more: dict[str, JobKind] | None = None
    ) -> AsyncIterator[None]:
        """The group's job runner, for as long as the context lasts."""
        runner = JobRunner(
            "analytics",
            report_kinds(dispatch or self.dispatch()) | (more or {}),
            pool=Pool("analytics", limit=8),
            database=lambda: self.database,
            settings=RunnerSettings(lease=3 * SECONDS, poll=0.2, look=0.1, report=0.1, drain=2.0),
        )
        supervisor = Supervisor("root", [runner.child_spec()])
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.serve)
            try:
                yield
            finally:
                supervisor.request_stop()

    async def deliveries(self, run: Run | None = None) -> list[Delivery]:
        found, _ = await self.store.deliveries.page(
            self.shop.tenant, limit=1000, run_id=run.id if run else None
        )
        return found

    async def becomes(self, run: Run | UUID, state: str) -> Run:
        identifier = run if isinstance(run, UUID) else run.id

        async def reached() -> bool:
            return (await self.store.runs.one(self.shop.tenant, identifier)).state == state

        await soon(reached, f"the run becomes {state}")
        return await self.store.runs.one(self.shop.tenant, identifier)

    async def as_admin(self, sql: str, *arguments: object) -> None:
        """What time alone, or somebody else, would do."""
        connection = await aio(asyncpg.connect(self.where.admin_url))
        try:
            await aio(connection.execute(sql, *arguments))
        finally:
            await aio(connection.close())

    async def value(self, sql: str, *arguments: object) -> Any:
        connection = await aio(asyncpg.connect(self.where.admin_url))
        try:
            return await aio(connection.fetchval(sql, *arguments))
        finally:
            await aio(connection.close())

    async def came_back(self) -> bool:
        """Whether a job waits for its time."""
        return bool(await self.value("SELECT count(*) FROM platform.job_delayed"))

    async def hurry(self) -> None:
        """Let what is deferred be due now, and the job that would come back come at once."""
        await self.as_admin(
            "UPDATE analytics.report_deliveries SET due_at = now() WHERE state = 'deferred'"
        )
        await self.hurry_jobs()

    async def hurry_jobs(self) -> None:
        """Let jobs that wait for their time be due; those that are due or run stay as they are."""
        await self.as_admin(
            "WITH waiting AS (UPDATE platform.job_delayed SET run_at = '2026-01-01'"
            " WHERE run_at > now() RETURNING job_id)"
            " UPDATE platform.jobs SET run_at = '2026-01-01'"
            " WHERE job_id IN (SELECT job_id FROM waiting)"
        )


async def soon(
    condition: Callable[[], Awaitable[bool]], what: str, patience: float = PATIENCE
) -> None:
    with trio.move_on_after(patience):
        while not await condition():
            await trio.sleep(20 * MILLISECONDS)
        return
    pytest.fail(f"{what}: not within {patience:g} s")


@pytest.fixture
def mail() -> Iterator[MailServer]:
    server = MailServer().start()
    yield server
    server.stop()


@pytest.fixture
async def office(fresh_database: TestDatabase, mail: MailServer) -> AsyncIterator[Office]:
    shop, rival = a_shop("Shop"), a_shop("Rival")
    for warehouse in (shop, rival):
        await trio.to_thread.run_sync(asyncio.run, warehouse.store(fresh_database.runtime_url))
    vault = Vault(KeyRing([KEY]))
    async with (
        open_bridge(),
        open_database(fresh_database.runtime_url, connections=6) as database,
    ):
        made = Office(fresh_database, database, vault, shop, rival, mail, ReportStore(database))
        await made.connect_mail()
        yield made
