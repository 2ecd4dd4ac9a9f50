"""Several supervisors on one PostgreSQL: who is there, and that each runs its share."""

import base64
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.postgres import MakeDatabase, TestDatabase
from tests.support.reloads import Site, configured, enqueue_steps, finished, site, write
from troupe.common.bridge import open_bridge
from troupe.common.database import Database, open_database
from troupe.common.errors import ConfigurationError
from troupe.control import AskStatus, ask
from troupe.platform.errors import ChildFailedToStart
from troupe.platform.hosts import Identity, Presence, site_of
from troupe.platform.supervision import Supervisor

LEASE = 1.0


@pytest.fixture(autouse=True)
async def bounded() -> AsyncIterator[None]:
    with trio.fail_after(120):
        yield


# ---- presence alone


def identity(host: str, **others: Any) -> Identity:
    given: dict[str, Any] = {"site": uuid.uuid4(), "version": "1", "key_ids": ("k",)} | others
    return Identity(host=host, **given)


def presence(database: TestDatabase, who: Identity) -> Presence:
    return Presence(
        who,
        url=lambda: database.runtime_url,
        groups=lambda: {"data": {"state": "running"}},
        lease=LEASE,
    )


@asynccontextmanager
async def present(database: TestDatabase, who: Identity) -> AsyncIterator[Presence]:
    """A host while the context is open; left in order."""
    one = presence(database, who)
    root = Supervisor("root", [one.child_spec()])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.serve)
        yield one
        root.request_stop()


async def states(database: Database) -> dict[str, str]:
    """Host to state, as anybody may ask."""
    rows = await database.fetch("SELECT host, state FROM platform.known_hosts()")
    return dict(map(tuple, rows))


async def vanish(database: TestDatabase, who: Identity) -> None:
    """A host that takes its name and is never heard of again."""
    async with trio.open_nursery() as nursery:
        one = presence(database, who)
        await nursery.start(Supervisor("root", [one.child_spec()]).serve)
        nursery.cancel_scope.cancel()


async def test_hosts_see_each_other_and_who_has_left(
    database: Database, fresh_database: TestDatabase
) -> None:
    async with present(fresh_database, identity("a")) as a:
        async with present(fresh_database, identity("b")):
            while {host.host: host.state for host in a.known} != {"a": "running", "b": "running"}:
                await trio.sleep(0.05)
            assert a.known[0].groups == {"data": {"state": "running"}}
        assert await states(database) == {"a": "running", "b": "stopped"}
        await vanish(fresh_database, identity("c"))
        while (await states(database))["c"] != "silent":
            await trio.sleep(0.05)
        assert (await states(database))["a"] == "running"


async def test_a_name_that_somebody_lives_under_is_refused(fresh_database: TestDatabase) -> None:
    async with open_bridge(), present(fresh_database, identity("a")):
        expected = pytest.RaisesExc(ChildFailedToStart, match="give this one another name")
        with pytest.RaisesGroup(expected, flatten_subgroups=True):
            async with present(fresh_database, identity("a")):
                pytest.fail("it cannot have the name")


async def test_a_name_is_free_once_its_host_is_not_heard_of(fresh_database: TestDatabase) -> None:
    async with open_bridge():
        await vanish(fresh_database, identity("a"))
        begun = trio.current_time()
        async with present(fresh_database, identity("a")):
            assert LEASE / 2 < trio.current_time() - begun < LEASE + 3


async def test_a_host_that_was_killed_is_itself_at_once(fresh_database: TestDatabase) -> None:
    async with open_bridge():
        who = identity("a")
        await vanish(fresh_database, who)
        begun = trio.current_time()
        async with present(fresh_database, who):
            assert trio.current_time() - begun < LEASE


async def test_hosts_without_a_key_in_common_do_not_work_together(
    fresh_database: TestDatabase,
) -> None:
    async with open_bridge(), present(fresh_database, identity("a", key_ids=("old", "new"))):
        async with present(fresh_database, identity("b", key_ids=("new",))):
            pass
        expected = pytest.RaisesExc(ChildFailedToStart, match="auth.key_encryption_key_file")
        with pytest.RaisesGroup(expected, flatten_subgroups=True):
            async with present(fresh_database, identity("b", key_ids=("other",))):
                pytest.fail("it could not read a's secrets")


async def test_a_name_that_was_lost_is_taken_again(
    database: Database, fresh_database: TestDatabase
) -> None:
    async with present(fresh_database, identity("a")) as a:
        await database.execute("SELECT platform.stop_host('a', holder) FROM platform.known_hosts()")
        async with present(fresh_database, identity("a")):
            await trio.sleep(LEASE / 2)
        while await states(database) != {"a": "running"} or not a.known:
            await trio.sleep(0.05)


async def test_a_state_directory_keeps_its_identifier(tmp_path: Path) -> None:
    made = site_of(tmp_path / "state")
    assert site_of(tmp_path / "state") == made
    (tmp_path / "state" / "host-id").write_text("nonsense")
    assert site_of(tmp_path / "state") != made
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        site_of(blocked)


# ---- the whole program


@pytest.fixture
def empty(make_empty_database: MakeDatabase) -> Iterator[TestDatabase]:
    with make_empty_database() as database:
        yield database


def shared_configuration(place: Path, database: TestDatabase, **data: Any) -> Path:
    """One file for two hosts: ``a`` has auth, ``b`` has analytics, both have data."""
    keys = place / "keys"
    keys.write_text(base64.b64encode(os.urandom(32)).decode())
    keys.chmod(0o600)
    file = place / "shared.toml"
    sections = configured(
        data=data,
        auth={
            "key_encryption_key_file": str(keys),
            "public_url": "https://auth.test",
            "dashboard_url": "https://dashboard.test",
        },
        database={"url": database.owner_url, "runtime_url": database.runtime_url},
        groups__auth={"hosts": ["a"]},
        groups__analytics={"hosts": ["b"]},
        jobs={"lease": 2.0},
    )
    write(file, sections)
    return file


async def hosts(running: Site) -> dict[str, dict[str, Any]]:
    """All hosts, as this one knows them."""
    known = (await ask(running.state, AskStatus(), deadline=10))["hosts"]
    return {host["host"]: host for host in known}


async def ready_shares(running: Site) -> dict[str, dict[str, bool]]:
    """Which share of each host is ready, as `running` knows it."""
    return {
        name: {group: share["ready"] for group, share in host["groups"].items()}
        for name, host in (await hosts(running)).items()
    }


async def test_two_hosts_with_one_file_run_their_shares_and_show_each_other(
    tmp_path: Path, empty: TestDatabase
) -> None:
    file = shared_configuration(tmp_path, empty, placement="process")
    with ExitStack() as stack:
        # Both at once, on an empty database: migrations and roles are made by either.
        a, b = (
            stack.enter_context(
                site(tmp_path, name=name, file=file, options=["--host", name], wait=False)
            )
            for name in ("a", "b")
        )
        a.ready(), b.ready()
        assert (set(a.urls), set(b.urls)) == ({"auth", "data"}, {"data", "analytics"})
        expected = {"a": {"auth": True, "data": True}, "b": {"data": True, "analytics": True}}
        # Each hears of the other at its own beat: what one knows already the other may not.
        for knowing in (a, b):
            while await ready_shares(knowing) != expected:
                await trio.sleep(0.2)
        shown = b.command("status")
        assert shown.returncode == 0, shown.stderr
        (line,) = (line for line in shown.stdout.splitlines() if line.startswith("a  "))
        assert "auth running" in line
        assert "data running in 1 process" in line
        assert "b (this one)" in shown.stdout

        tenant, _token = a.tenant()
        async with open_bridge(), open_database(empty.runtime_url, connections=2) as database:
            await enqueue_steps(database, tenant, 24, steps=25, pause=0.1, attempts=3)
            where = "SELECT DISTINCT pid FROM pg_stat_activity WHERE application_name ~ 'data-1'"
            assert len(await database.fetch(where)) >= 2
            await trio.sleep(1)
            b.troupe.stop(signal.SIGKILL)  # all of it: its processes die with it
            done = await finished(database, tenant, 24)
        results: list[Any] = [job.result for job in done]
        assert [result["committed"] for result in results] == [25] * 24
        assert any(job.attempt == 2 for job in done)  # b had its share
        assert any(job.attempt == 1 for job in done)  # and a too
        assert a.troupe.stop() == 0


async def test_a_group_is_handed_from_host_to_host_by_a_reload(
    tmp_path: Path, empty: TestDatabase
) -> None:
    file = shared_configuration(tmp_path, empty, hosts=["a"])
    with ExitStack() as stack:
        a, b = (
            stack.enter_context(
                site(tmp_path, name=name, file=file, options=["--host", name], wait=False)
            )
            for name in ("a", "b")
        )
        a.ready(), b.ready()
        before = file.read_text(encoding="utf-8")
        handed = before.replace('"a"]\n[groups.analytics]', '"b"]\n[groups.analytics]')
        assert handed != before
        file.write_text(handed)
        assert (await b.reload())["groups"] == {"data": "start"}
        assert (await a.reload())["groups"] == {"data": "stop"}
        status = await ask(b.state, AskStatus(), deadline=10)
        assert set(status["groups"]) == {"data", "analytics"}
        assert "data" not in (await ask(a.state, AskStatus(), deadline=10))["groups"]
        stream = await trio.open_tcp_stream("127.0.0.1", int(status["urls"]["data"].split(":")[-1]))
        await stream.aclose()
        with pytest.raises(OSError, match=r"refused|all attempts"):
            await trio.open_tcp_stream("127.0.0.1", int(a.urls["data"].split(":")[-1]))
        assert (a.troupe.stop(), b.troupe.stop()) == (0, 0)
    assert "Traceback" not in a.troupe.text() + b.troupe.text()


async def test_a_host_that_runs_nothing_or_has_a_name_that_is_taken_says_so(
    tmp_path: Path, empty: TestDatabase
) -> None:
    file = shared_configuration(tmp_path, empty, hosts=["a"])
    with site(tmp_path, name="a", file=file, options=["--host", "a"]) as a:
        stranger = a.command("up", "--host", "c")
        assert stranger.returncode == 3
        assert "called c; groups.*.hosts name a, b" in stranger.stderr
        twin = a.command("--state-dir", str(tmp_path / "twin"), "up", "--host", "a")
        assert twin.returncode == 3
        assert "give this one another name with --host" in twin.stderr
        again = a.command("up", "--host", "a")
        assert again.returncode == 3
        assert "Another Troupe is using" in again.stderr
        assert json.loads(a.command("status", "--json").stdout)["host"] == "a"
