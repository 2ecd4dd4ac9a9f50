"""Tenants whose files lie at the SFTP companion, and the data group's job runner."""

import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import trio

from tests.support.postgres import TestDatabase
from troupe.actors.auth.connections import put_connection
from troupe.actors.auth.tenants import create_tenant
from troupe.actors.data.job_requests import IMPORT_MASTER_DATA, import_job
from troupe.actors.data.master_data import master_data_kind
from troupe.actors.data.master_ssh import SftpDeadlines
from troupe.common.bridge import aio, open_bridge
from troupe.common.database import Database, open_database
from troupe.common.ids import TenantId
from troupe.common.outbound import OutboundGuard
from troupe.common.secrets import KeyRing, Vault
from troupe.common.units import MILLISECONDS, MINUTES, SECONDS
from troupe.platform.jobs import Job, JobFailure, JobRunner, JobState, JobStore, RunnerSettings
from troupe.platform.pool import Pool
from troupe.platform.supervision import Supervisor
from troupe.platform.threads import Threads
from troupe_demo.ga4 import HARBOR_SHOP, TOOL_SHOP, TenantProfile, write_master_data

PROFILES = (TOOL_SHOP, HARBOR_SHOP)
PATIENCE = 1 * MINUTES
READY_WITHIN = 30.0
EARLIER = 3600
"""Seconds: files are this old, so that their time of writing can be trusted."""


def password_of(profile: TenantProfile) -> str:
    return f"password of {profile.project}"


def failure_of(job: Job) -> JobFailure:
    """Why a job's last attempt failed."""
    assert job.error is not None, job.result
    return job.error


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The companion's announcement; it runs in a process of its own, as in the demonstration."""
    users = {profile.project: {"password": password_of(profile)} for profile in PROFILES}
    file = tmp_path / "users.json"
    file.write_text(json.dumps({"users": users}))
    command = [
        sys.executable,
        "-m",
        "troupe_demo.sftp",
        str(tmp_path / "sftp"),
        "--users",
        str(file),
    ]
    with (
        (tmp_path / "sftp.log").open("wb") as log,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (tmp_path / "sftp.log").read_text()
            yield json.loads(line)
        finally:
            process.kill()


@dataclass
class Shop:
    """One tenant of a test and the folder that its server serves."""

    tenant: TenantId
    profile: TenantProfile
    folder: Path
    config: dict[str, Any]

    def file(self, content: str) -> Path:
        return self.folder / f"{content}.csv"

    def rewrite(self, content: str, change: Callable[[str], str], *, age: int = EARLIER) -> None:
        """Write a file again."""
        path, encoding = self.file(content), self.profile.master.encoding
        before = path.stat()
        text = path.read_bytes().decode(encoding)
        path.write_bytes(change(text).encode(encoding))
        os.utime(path, (before.st_mtime - age, before.st_mtime - age))


@dataclass
class World:
    """What a test has to work with."""

    database: Database
    admin: asyncpg.Connection
    vault: Vault
    store: JobStore
    server: dict[str, Any]
    root: Path
    guard: OutboundGuard
    deadlines: SftpDeadlines

    async def shop(self, profile: TenantProfile = TOOL_SHOP) -> Shop:
        """A tenant with its files, connected to them."""
        tenant = await create_tenant(
            self.database,
            profile.name,
            reporting_time_zone=profile.zone,
            reporting_currency=profile.currency,
        )
        folder = self.root / profile.project
        for path in write_master_data(profile, folder):
            written = path.stat().st_mtime - EARLIER
            os.utime(path, (written, written))
        form = profile.master
        config = {
            "host": self.server["host"],
            "port": self.server["port"],
            "username": profile.project,
            "host_key": self.server["host_key"],
            "delimiter": form.delimiter,
            "encoding": form.encoding,
            "customers": {"file": "customers.csv", "columns": dict(form.customer_columns)},
            "locations": {"file": "locations.csv", "columns": dict(form.location_columns)},
        }
        shop = Shop(tenant, profile, folder, config)
        await self.connect(shop)
        return shop

    async def connect(self, shop: Shop, *, secret: bytes | None = None, **changes: Any) -> None:
        """Write a tenant's connection."""
        await put_connection(
            self.database,
            self.vault,
            shop.tenant,
            "sftp",
            shop.config | changes,
            secret or password_of(shop.profile).encode(),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The data group's job runner."""
        kind = master_data_kind(self.database, self.vault, self.guard, Threads(4), self.deadlines)
        runner = JobRunner(
            "data",
            {IMPORT_MASTER_DATA: kind},
            pool=Pool("data", limit=8),
            database=lambda: self.database,
            settings=RunnerSettings(poll=0.2, look=0.1, report=0.1, drain=2.0),
        )
        supervisor = Supervisor("root", [runner.child_spec()])
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.serve)
            try:
                yield
            finally:
                supervisor.request_stop()

    async def ended(
        self, job: Job, until: Callable[[Job], bool] = lambda job: job.state.finished
    ) -> Job:
        with trio.fail_after(PATIENCE):
            while not until(found := await self.store.get(job.tenant_id, job.id)):
                await trio.sleep(30 * MILLISECONDS)
        return found

    async def start(self, shop: Shop, *, attempts: int = 1, again: bool = False) -> Job:
        return await self.store.enqueue(
            shop.tenant, replace(import_job(again=again), max_attempts=attempts)
        )

    async def attempt(self, shop: Shop, *, again: bool = False) -> Job:
        """Run one import to its end."""
        job = await self.start(shop, again=again)
        async with self.running():
            return await self.ended(job)

    async def imported(self, shop: Shop, *, again: bool = False) -> dict[str, Any]:
        """Run one import that must succeed; its result."""
        job = await self.attempt(shop, again=again)
        assert job.state is JobState.DONE, job.error
        result: dict[str, Any] = job.result
        return result

    async def refused(self, shop: Shop) -> Job:
        """Run one import that must fail for good."""
        job = await self.attempt(shop)
        assert job.state in {JobState.FAILED, JobState.DEAD}, job.result
        return job

    async def rows(self, shop: Shop, table: str) -> dict[str, dict[str, Any]]:
        """A tenant's rows by id, as the superuser sees them."""
        key = "location_id" if table == "locations" else "customer_id"
        found = await aio(
            self.admin.fetch(f"SELECT * FROM data.{table} WHERE tenant_id = $1", shop.tenant)
        )
        return {row[key]: dict(row) for row in found}

    async def files(self, shop: Shop) -> dict[str, dict[str, Any]]:
        found = await aio(
            self.admin.fetch("SELECT * FROM data.master_files WHERE tenant_id = $1", shop.tenant)
        )
        return {row["content"]: dict(row) for row in found}

    async def version(self, shop: Shop) -> int:
        found = await aio(
            self.admin.fetchval(
                "SELECT data_version FROM data.versions WHERE tenant_id = $1", shop.tenant
            )
        )
        return found or 0


@pytest.fixture
async def world(
    fresh_database: TestDatabase, sftp: dict[str, Any], tmp_path: Path
) -> AsyncIterator[World]:
    async with open_bridge():
        admin = await aio(asyncpg.connect(fresh_database.admin_url))
        try:
            async with open_database(fresh_database.runtime_url, connections=5) as database:
                yield World(
                    database=database,
                    admin=admin,
                    vault=Vault(KeyRing([b"k" * 32])),
                    store=JobStore(database),
                    server=sftp,
                    root=tmp_path / "sftp",
                    guard=OutboundGuard([ipaddress.ip_network("127.0.0.0/8")]),
                    deadlines=SftpDeadlines(
                        connect=10 * SECONDS,
                        answer=10 * SECONDS,
                        settle=0.2 * SECONDS,
                        resume=(0.1 * SECONDS, 0.1 * SECONDS),
                    ),
                )
        finally:
            with trio.CancelScope(shield=True):
                await aio(admin.close(timeout=5 * SECONDS))


@pytest.fixture
async def listener(world: World) -> AsyncIterator[Callable[..., Awaitable[int]]]:
    """Start a TCP listener: ``await listener(handler)`` gives its port."""
    async with trio.open_nursery() as nursery:

        async def start(handler: Callable[[trio.SocketStream], Awaitable[None]]) -> int:
            async def guarded(stream: trio.SocketStream) -> None:
                try:
                    await handler(stream)
                except* (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass  # the other side has left, as it may

            serve = partial(trio.serve_tcp, guarded, 0, host="127.0.0.1")
            listeners = await nursery.start(serve)
            port: int = listeners[0].socket.getsockname()[1]
            return port

        yield start
        nursery.cancel_scope.cancel()
