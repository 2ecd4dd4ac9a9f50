"""What is ingested: a shop's export at the BigQuery stand-in, over and over again."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx2
import trio

from ops.bench.site import Site
from troupe.common.bridge import open_bridge
from troupe.common.database import open_database
from troupe.common.ids import TenantId
from troupe.common.niceness import give_way, keep_off, reserved
from troupe.common.postgres import running_server
from troupe.platform.jobs import NewJob, enqueue
from troupe_demo.bigquery.accounts import create_service_account
from troupe_demo.ga4 import TOOL_SHOP, generate

LAST_DAY: Final = date(2026, 9, 30)
DAYS: Final = 10
NICENESS: Final = 15
"""Of the stand-in, which in reality computes on Google's machines."""
POLL: Final = 1.0
"""Seconds between two looks at a job, which take some of the time that is measured."""
ENDED: Final = frozenset({"done", "failed", "cancelled", "dead"})


class Source:
    """The export, the stand-in, and a tenant that is connected to it.

    Args:
        site: Where the tenant is.
        exports: The stand-in's directory.
        told: What the stand-in has said of its addresses.
    """

    def __init__(self, site: Site, exports: Path, told: dict[str, str]) -> None:
        self.token = site.tenant("Nord")
        self.rows = 0
        self._site = site
        self._folder = exports / TOOL_SHOP.project / TOOL_SHOP.dataset
        self._client = httpx2.Client(headers={"Authorization": f"Bearer {self.token}"}, timeout=60)
        self._connect(exports, told)

    def _connect(self, exports: Path, told: dict[str, str]) -> None:
        account = create_service_account(exports, TOOL_SHOP.project, f"{told['url']}/token")
        me = self._client.get(f"{self._site.urls['auth']}/api/v1/me").raise_for_status().json()
        self._tenant = tenant = me["tenant"]["tenant_id"]
        config = {
            "project": TOOL_SHOP.project,
            "dataset": TOOL_SHOP.dataset,
            "property_time_zone": TOOL_SHOP.zone,
            "api_endpoint": told["url"],
            "storage_endpoint": told["grpc"],
        }
        self._client.put(
            f"{self._site.urls['auth']}/api/v1/tenants/{tenant}/connections/bigquery",
            json={"config": config, "secret": json.dumps(account)},
        ).raise_for_status()

    def ingest(self, going_on: Any = lambda: True) -> None:
        """Load all days once; they count as changed at the source."""
        now = time.time()
        for table in self._folder.glob("*.parquet"):
            os.utime(table, (now, now))
        url = self._site.urls["data"]
        body = {
            "start_date": (LAST_DAY - timedelta(days=DAYS - 1)).isoformat(),
            "end_date": LAST_DAY.isoformat(),
        }
        job = self._client.post(f"{url}/api/v1/ingestions", json=body).raise_for_status().json()
        while job["state"] not in ENDED and going_on():
            time.sleep(POLL)
            job = self._client.get(f"{url}/api/v1/jobs/{job['id']}").raise_for_status().json()
            self.rows = max(self.rows, job["progress"]["rows"] or 0)
        if job["state"] not in ENDED:
            self._client.post(f"{url}/api/v1/jobs/{job['id']}/cancel")
        if job["state"] in {"failed", "dead"}:
            raise RuntimeError(job["error"])

    @contextmanager
    def at_full_speed(self, rates: list[float]) -> Iterator[None]:
        """Load all days again and again while the context is open; notes rows per second."""
        over = threading.Event()
        loaded = 0.0

        def go_on() -> None:
            nonlocal loaded
            while not over.is_set():
                self.rows = 0
                self.ingest(lambda: not over.is_set())
                loaded += self.rows

        thread = threading.Thread(target=go_on)
        thread.start()
        began = time.monotonic()
        time.sleep(1)
        try:
            yield
        finally:
            over.set()
            thread.join(60)
            rates.append(loaded / (time.monotonic() - began))
            self._until_quiet()

    def misbehave(self, kind: str) -> None:
        """Enqueue a job of `troubled`."""
        new = NewJob(group="data", kind=kind, max_attempts=1000)

        async def work() -> None:
            async with (
                open_bridge(),
                open_database(running_server(self._site.state).runtime, connections=1) as database,
            ):
                tenant = TenantId(UUID(self._tenant))
                await database.run(lambda connection: enqueue(connection, new), tenant=tenant)

        trio.run(work)

    def _until_quiet(self) -> None:
        url = f"{self._site.urls['data']}/api/v1/jobs"
        while any(job["state"] not in ENDED for job in self._client.get(url).json()["data"]):
            time.sleep(0.2)


def _stand_aside() -> None:
    give_way(NICENESS)
    keep_off(os.getpid(), reserved(1))


@contextmanager
def open_source(site: Site, directory: Path, events: int) -> Iterator[Source]:
    """A source with so many events a day."""
    exports = directory / "exports"
    if not exports.exists():
        generate(exports, [TOOL_SHOP], days=DAYS, events=DAYS * events, seed=3, last_day=LAST_DAY)
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "troupe_demo.bigquery", str(exports)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=_stand_aside,  # noqa: PLW1509 - one thread
    ) as process:
        if process.stdout is None:
            raise RuntimeError("no pipe")
        try:
            yield Source(site, exports, json.loads(process.stdout.readline()))
        finally:
            process.terminate()
