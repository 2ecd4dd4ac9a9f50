"""``python -m ops.bench.reports``: see docs/benchmarks.md, "Reports".

An installation as an operator runs it, with branches and recipients of its own, sends one report to
each of them, to a server in another process that counts. Each mail has its own picture or shares it
with the other readers of its branch and language, as they do in life (``--readers``).
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final
from uuid import UUID

import asyncpg
import httpx2

from ops.bench.site import Site, resident, running_site
from ops.bench.visitors import Options, Seen, visitors
from troupe.common.niceness import give_way
from troupe.common.postgres import running_server
from troupe.common.sql import parse

LEAST_RATE: Final = 10.0
MOST_GROWTH: Final = 1.15
MOST_NOTICED: Final = 1.2
MiB: Final = 1024 * 1024
DAYS: Final = 60
PATIENCE: Final = 300.0
NICENESS: Final = 15
"""Of the mail server, which in reality computes elsewhere."""
PAGE: Final = "/api/v1/stats?preset=28d&compare=previous"
QUERIES: Final = parse(
    files(__package__).joinpath("fill.sql").read_text(encoding="utf-8"), origin="fill.sql"
)


@dataclass
class Figures:
    """What was measured, over all rounds."""

    rates: list[float] = field(default_factory=list)
    memory: list[tuple[int, int]] = field(default_factory=list)
    alone: Seen = field(default_factory=Seen)
    beside: Seen = field(default_factory=Seen)
    size: int = 0

    @property
    def growth(self) -> float:
        """Of memory, from after the first round to the most in the last one."""
        return self.memory[-1][1] / self.memory[0][1]

    @property
    def noticed(self) -> float:
        """Ratio of the 99th percentiles."""
        return self.beside.percentile(0.99) / self.alone.percentile(0.99)


class Sink:
    """The counting server, in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None  # noqa: S101 - a pipe
        self._process = process
        self.port = int(process.stdout.readline())

    def count(self) -> tuple[int, int, int]:
        """Mails, different recipients, bytes."""
        pipe_in, pipe_out = self._process.stdin, self._process.stdout
        assert pipe_in is not None  # noqa: S101 - a pipe
        assert pipe_out is not None  # noqa: S101 - a pipe
        pipe_in.write("\n")
        pipe_in.flush()
        mails, recipients, size = json.loads(pipe_out.readline())
        return mails, recipients, size


@contextmanager
def sink() -> Iterator[Sink]:
    """Run the server while the context is open."""
    with subprocess.Popen(
        [sys.executable, "-m", "ops.bench.reports.sink"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: give_way(NICENESS),  # noqa: PLW1509 - one thread
    ) as process:
        try:
            yield Sink(process)
        finally:
            process.terminate()


def operator(token: str) -> httpx2.Client:
    """Who asks for mails; opened once: that reads certificates for 50 ms."""
    return httpx2.Client(
        headers={"Authorization": f"Bearer {token}"}, timeout=30, verify=False, trust_env=False
    )


def ask(client: httpx2.Client, url: str, method: str = "GET", body: Any = None) -> Any:
    """One answer of the installation."""
    headers = {}
    if method == "PUT":  # what is replaced is named
        headers["If-Match"] = client.get(url).headers.get("ETag", "*")
    answer = client.request(method, url, json=body, headers=headers)
    answer.raise_for_status()
    return answer.json()


async def fill(site: Site, tenant: UUID, options: Namespace) -> None:
    """Give the tenant branches, figures and recipients."""
    last: date = datetime.now(UTC).date() - timedelta(days=1)
    connection = await asyncpg.connect(running_server(site.state).runtime)
    try:
        async with connection.transaction():
            await connection.execute("SELECT set_config('troupe.tenant_id', $1, true)", str(tenant))
            branches = options.mails // options.readers
            await connection.execute(QUERIES["branches"], tenant, branches)
            await connection.execute(QUERIES["rollups"], tenant, branches, last, DAYS)
            await connection.execute(QUERIES["money"], tenant, branches, last, DAYS)
            await connection.execute(QUERIES["daily_money"], tenant)
            await connection.execute(QUERIES["version"], tenant, last, DAYS)
            await connection.execute(QUERIES["recipients"], tenant, branches, options.readers)
    finally:
        await connection.close()


def connect(site: Site, tenant: UUID, client: httpx2.Client, port: int) -> None:
    """Tell the tenant's mail server and pace."""
    config = {"host": "127.0.0.1", "port": port, "security": "none", "sender": "r@shop.example"}
    where = f"{site.urls['auth']}/api/v1/tenants/{tenant}/connections/smtp"
    client.put(where, json={"config": config}).raise_for_status()
    settings = {"messages_per_minute": 60_000, "connections": 4}
    ask(client, f"{site.urls['analytics']}/api/v1/reports/settings", "PUT", settings)


def send(site: Site, client: httpx2.Client, mails: int) -> float:
    """Send one report to everybody; seconds that it took."""
    base = f"{site.urls['analytics']}/api/v1/reports"
    begin = time.monotonic()
    run = ask(client, f"{base}/send", "POST", {"to": "all"})
    while True:
        seen = ask(client, f"{base}/runs/{run['id']}")
        if seen["state"] == "done":
            break
        if time.monotonic() - begin > PATIENCE:
            raise RuntimeError(f"the run does not end: {seen}")
        time.sleep(0.2)
    if seen["mails"] != {"sent": mails}:
        raise RuntimeError(f"not all mails were sent: {seen['mails']}")
    return time.monotonic() - begin


@contextmanager
def watched(pid: int) -> Iterator[Callable[[], int]]:
    """Watch a process's memory; gives the most that it had."""
    over, most = Event(), [resident(pid)]

    def look() -> None:
        while not over.wait(0.1):
            most[0] = max(most[0], resident(pid))

    thread = Thread(target=look)
    thread.start()
    try:
        yield lambda: most[0]
    finally:
        over.set()
        thread.join()


def measure(options: Namespace, directory: Path) -> Figures:
    """All rounds: send with nobody looking, look with nothing sent, then both."""
    figures = Figures()
    settings = {"TROUPE_AUTH__ALLOW_PRIVATE_PEERS": "127.0.0.0/8", "TROUPE_LOG__LEVEL": "warning"}
    with (
        running_site(directory / "site", **settings) as site,
        sink() as server,
        operator(token := site.tenant("Bench")) as client,
    ):
        (made,) = json.loads(site.command("tenants", "list", "--json"))
        tenant = UUID(made["id"])
        asyncio.run(fill(site, tenant, options))
        connect(site, tenant, client, server.port)

        def look(seed: int, seconds: float) -> Seen:
            return visitors(
                Options(
                    url=site.urls["analytics"] + PAGE,
                    token=token,
                    rate=options.rate,
                    seconds=seconds,
                    seed=seed,
                )
            )

        look(0, 2)
        sent = 0
        for number in range(options.rounds):
            with watched(site.pid) as most:
                seconds = send(site, client, options.mails)
                figures.rates.append(options.mails / seconds)
                figures.memory.append((resident(site.pid), most()))
            figures.alone += look(number, options.seconds)
            sending = Thread(target=send, args=(site, client, options.mails))
            sending.start()
            figures.beside += look(number, min(options.seconds, seconds))
            sending.join()
            sent += 2 * options.mails
            print(f"round {number + 1}: {figures.rates[-1]:.1f} mails/s", file=sys.stderr)
        mails, recipients, size = server.count()
        if mails != sent or recipients != options.mails:
            raise RuntimeError(f"{sent} mails were sent, {mails} came, to {recipients} people")
        figures.size = size // mails
    return figures


def main() -> int:
    """Measure and print; 0 if all targets are met."""
    parser = ArgumentParser(prog="python -m ops.bench.reports")
    parser.add_argument("--mails", type=int, default=1000, help="in each round")
    parser.add_argument("--readers", type=int, default=2, help="of each branch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8, help="of each look at the dashboard")
    parser.add_argument("--rate", type=float, default=40, help="requests per second")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        figures = measure(options, Path(directory))
    rate = statistics.median(figures.rates)
    print(f"mails per second     {rate:8.1f}   at least {LEAST_RATE:.0f}")
    print(f"bytes of a mail      {figures.size:8,}")
    print(f"memory, most, MiB    {figures.memory[-1][1] / MiB:8.0f}")
    print(f"memory, growth       {figures.growth:8.2f}   at most {MOST_GROWTH}")
    print(f"dashboard p99, alone {1e3 * figures.alone.percentile(0.99):8.1f} ms")
    print(f"dashboard p99 beside {1e3 * figures.beside.percentile(0.99):8.1f} ms")
    print(f"ratio                {figures.noticed:8.2f}   at most {MOST_NOTICED}")
    good = (
        rate >= LEAST_RATE
        and figures.growth <= MOST_GROWTH
        and figures.noticed <= MOST_NOTICED
        and not figures.beside.failed
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
