"""A running Troupe whose configuration is changed again and again, under load and with jobs."""

import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import trio

from tests.support.load import Books, Load
from tests.support.processes import Running, command, running
from tests.support.stepping import KIND
from troupe.common.bridge import open_bridge
from troupe.common.database import Database, open_database
from troupe.common.ids import TenantId
from troupe.common.postgres import running_server
from troupe.control import AskReload, ask
from troupe.platform.jobs import Job, JobState, JobStore, NewJob, enqueue_many

PROGRAM = (sys.executable, "-P", str(Path(__file__).with_name("stepping.py")))
READY = 90
RELOADED = 120
GROUPS = ("auth", "data", "analytics")
Sections = Mapping[str, Mapping[str, Any]]


def write(file: Path, sections: Sections) -> None:
    """Write a configuration file."""
    lines = []
    for name, keys in sections.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass
class Site:
    """One supervisor and its configuration file.

    Attributes:
        file: The configuration.
        state: Its state directory.
        troupe: The process.
        urls: Group to address.
    """

    file: Path
    state: Path
    troupe: Running
    urls: Mapping[str, str]

    def ready(self) -> None:
        """Wait until it is."""
        self.urls = self.troupe.wait_for_file(self.state / "run.json", READY)["urls"]

    def configure(self, *, data: Mapping[str, Any] | None = None, **sections: Any) -> None:
        """Change the file; what is not named is as in the beginning."""
        write(self.file, configured(data=data, **sections))

    async def reload(self) -> dict[str, Any]:
        """Have it put into force; the outcome."""
        return await ask(self.state, AskReload(), deadline=RELOADED)

    def command(self, *arguments: str, **options: Any) -> Any:
        """Run ``troupe --config FILE ARGUMENTS``."""
        return command(
            "--config", str(self.file), "--state-dir", str(self.state), *arguments, **options
        )

    def events(self) -> list[dict[str, Any]]:
        """What it has logged so far."""
        lines = self.troupe.text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def tenant(self, **options: Any) -> tuple[TenantId, str]:
        """A new tenant, and a token for it."""
        made = json.loads(self.command("tenants", "create", "Storm", "--json", **options).stdout)
        issued = self.command(
            "tenants", "token", "Storm", "--name", "t", "--role", "owner", **options
        )
        return TenantId(UUID(made["id"])), issued.stdout.split()[-1]


def configured(*, data: Mapping[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
    """The sections of a file: free ports, and what is given for the data group and others."""
    groups = {f"groups.{name}": {"port": 0} for name in GROUPS}
    groups["groups.data"] |= dict(data or {})
    for name, keys in sections.items():
        groups.setdefault(name.replace("__", "."), {}).update(keys)
    return {"shutdown": {"grace": 8}, **groups, "log": {"style": "json", **groups.pop("log", {})}}


@contextmanager
def site(
    place: Path,
    *,
    data: Mapping[str, Any] | None = None,
    extra: Mapping[str, str] | None = None,
    name: str = "troupe",
    options: Sequence[str] = (),
    file: Path | None = None,
    wait: bool = True,
    **sections: Any,
) -> Iterator[Site]:
    """Run it while the context is open.

    Args:
        place: Where its files lie.
        data: Keys of the data group.
        extra: Environment variables.
        name: Of its files; several may share a place.
        options: Of ``up``.
        file: A configuration that is there already.
        wait: Whether it is ready when the context is entered; else `Site.ready` waits.
        **sections: Keys of other sections, with ``__`` for a dot.
    """
    state = place / f"{name}-state"
    if file is None:
        file = place / f"{name}.toml"
        write(file, configured(data=data, **sections))
    arguments = ["--config", str(file), "--state-dir", str(state), "up", *options]
    log = place / f"{name}.log"
    with running(arguments, log, extra=extra, program=PROGRAM) as troupe:
        started = Site(file, state, troupe, {})
        if wait:
            started.ready()
        yield started


async def enqueue_steps(
    database: Database,
    tenant: TenantId,
    jobs: int,
    *,
    steps: int,
    pause: float,
    heeds: bool = True,
    attempts: int = 1,
    until: Path | None = None,
) -> None:
    """Give it jobs to go through: so many steps, and more until a file exists."""
    arguments: Any = {
        "steps": steps,
        "pause": pause,
        "heeds": heeds,
        "until": None if until is None else str(until),
    }
    new = [NewJob(group="data", kind=KIND, arguments=arguments, max_attempts=attempts)] * jobs

    async def unit(connection: Any) -> None:
        await enqueue_many(connection, new)

    await database.run(unit, tenant=tenant)


async def finished(database: Database, tenant: TenantId, count: int) -> list[Job]:
    """Wait until so many jobs have finished."""
    store = JobStore(database)
    alive = {JobState.AVAILABLE, JobState.RUNNING}
    while True:
        page = await store.list(tenant, limit=500)
        if page.total == count and not any(job.state in alive for job in page.data):
            return list(page.data)
        await trio.sleep(0.1)


def assert_nothing_lost(jobs: list[Job], steps: int) -> int:
    """Every job was done in its first attempt, all its steps; how often they were resumed."""
    resumed = 0
    for job in jobs:
        assert job.state is JobState.DONE, job
        assert job.attempt == 1, job
        result: Any = job.result
        assert result["committed"] >= steps
        resumed += result["lives"] - 1
    return resumed


@dataclass
class Storm:
    """What a storm of reloads did.

    Attributes:
        reloads: How many.
        seconds: How long all took.
        resumed: How often a job went on in another process.
        books: Of the load, by its name.
    """

    reloads: int
    seconds: float
    resumed: int
    books: Mapping[str, Books]


def changes(placement_every: int) -> Iterator[dict[str, Any]]:
    """Settings of the data group, each different from the one before; sizes mostly.

    Every so many the placement, the number of processes or their limits change as well.
    """
    places: list[dict[str, Any]] = [
        {"placement": "process", "processes": 2},
        {"placement": "process", "processes": 1},
        {"placement": "process", "processes": 1, "memory_limit": 2048},
        {"placement": "process", "processes": 2, "memory_limit": 2048},
        {"placement": "inline"},
    ]
    for number in itertools.count():
        turn = number // placement_every
        yield {
            **places[turn % len(places)],
            "tasks": 4 + number % 29,
            "database_connections": 2 + number % 5,
            "mailbox": 100 + number,
        }


async def storm(
    running_site: Site,
    *,
    reloads: int,
    jobs: int,
    steps: int,
    pause: float,
    between: float,
    placement_every: int,
) -> Storm:
    """Reload again and again, with clients of every kind and jobs, and count what goes wrong.

    The jobs go on until the last reload, however long the machine takes for it.
    """
    over = running_site.file.with_name("over")
    tenant, token = running_site.tenant()
    urls = running_site.urls
    asking = {"Authorization": f"Bearer {token}"}
    loads = {
        "live": Load(f"{urls['data']}/health/live", loyal=8, fickle=8, pause=0.02),
        "database": Load(
            f"{urls['data']}/api/v1/jobs", loyal=1, fickle=1, pause=0.5, headers=asking
        ),
        "neighbour": Load(f"{urls['auth']}/health/live", loyal=2, fickle=2, pause=0.1),
    }
    url = running_server(running_site.state).runtime
    begun = trio.current_time()
    async with open_bridge(), open_database(url, connections=2) as database:
        await enqueue_steps(database, tenant, jobs, steps=steps, pause=pause, until=over)
        async with (
            loads["live"].running(),
            loads["database"].running(),
            loads["neighbour"].running(),
        ):
            await loads["live"].more(50)
            settings = changes(placement_every)
            for _ in range(reloads):
                running_site.configure(data=next(settings))
                outcome = await running_site.reload()
                assert outcome["changes"], outcome
                assert not outcome["late"], outcome
                await trio.sleep(between)
            running_site.configure(data={"tasks": 64})
            await running_site.reload()
            over.touch()
            done = await finished(database, tenant, jobs)
            await loads["live"].more(50)
    resumed = assert_nothing_lost(done, steps)
    books = {name: load.books for name, load in loads.items()}
    return Storm(reloads + 1, trio.current_time() - begun, resumed, books)
