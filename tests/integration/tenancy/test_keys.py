"""Changing keys while requests are answered: none fails, and nothing is left of the old keys."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import httpx2
import pytest

from tests.support.postgres import MakeDatabase
from tests.support.processes import command
from tests.support.program import Program, program
from troupe.common.secrets import KeyRing

SFTP = {"host": "127.0.0.1", "port": 1, "username": "shop", "host_key": ""}


@pytest.fixture(scope="module")
def troupe(
    make_database: MakeDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    """A program of its own, so that all that is sealed there is known."""
    with (
        make_database() as database,
        program(database, tmp_path_factory.mktemp("troupe")) as started,
    ):
        yield started


def cli(troupe: Program, *arguments: str) -> dict[str, Any]:
    urls = {
        "TROUPE_DATABASE__URL": troupe.database.owner_url,
        "TROUPE_DATABASE__RUNTIME_URL": troupe.database.runtime_url,
    }
    result = command("--state-dir", str(troupe.state), *arguments, "--json", extra=urls)
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


class Load:
    """People who change and try connections all the time."""

    def __init__(self, troupe: Program) -> None:
        self.statuses: list[int] = []
        self.tests: list[str] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(troupe, kind)) for kind in ("sftp", "smtp")
        ]
        self._headers = troupe.session(troupe.here, "admin")

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _work(self, troupe: Program, kind: str) -> None:
        base = f"{troupe.urls['auth']}/api/v1/tenants/{troupe.here.tenant_id}/connections/{kind}"
        config = SFTP if kind == "sftp" else {"host": "127.0.0.1", "sender": "a@b.example"}
        number = 0
        with httpx2.Client(headers=self._headers, timeout=30) as client:
            while not self._stop.is_set():
                number += 1
                body = {"config": config, "secret": f"{kind} {number}"}
                self.statuses.append(client.put(base, json=body).status_code)
                self.statuses.append(client.post(f"{base}/test").status_code)
                answer = client.get(f"{base}/test")
                self.statuses.append(answer.status_code)
                self.tests.append(answer.json()["state"])
                time.sleep(0.02)


def key_ids(troupe: Program) -> set[UUID]:
    """Data keys that seal something, by what the sealed values themselves say."""
    found = set()
    for row in troupe.sql("SELECT secret FROM auth.connections WHERE secret IS NOT NULL"):
        found.add(UUID(bytes=row["secret"][1:17]))
    for row in troupe.sql("SELECT client_secret AS s FROM auth.identity_providers"):
        if row["s"] is not None:
            found.add(UUID(bytes=row["s"][1:17]))
    return found


def bytes_everywhere(troupe: Program) -> Iterator[tuple[str, bytes]]:
    """Every bytea value of the database, with where it is."""
    columns = troupe.sql(
        "SELECT a.attrelid::regclass::text AS name, a.attname AS column FROM pg_attribute AS a"
        " JOIN pg_class AS c ON c.oid = a.attrelid AND c.relkind = 'r'"
        " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE a.atttypid = 'bytea'::regtype AND a.attnum > 0"
        " AND n.nspname IN ('platform', 'auth', 'data', 'analytics', 'staging')"
    )
    for column in columns:
        for row in troupe.sql(f'SELECT "{column["column"]}" AS value FROM {column["name"]}'):
            yield f"{column['name']}.{column['column']}", row["value"] or b""


def test_keys_change_without_a_failed_request(troupe: Program) -> None:
    path = troupe.state / "keys"
    (old,) = KeyRing.load(path).identifiers
    with Load(troupe) as load:
        deadline = time.monotonic() + 30
        while len(load.tests) < 10:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        old_data_keys = key_ids(troupe)
        done = cli(troupe, "keys", "rotate", "--data-keys")
        seen = len(load.statuses)
        while len(load.statuses) < seen + 20:
            assert time.monotonic() < deadline + 60
            time.sleep(0.05)
    assert set(load.statuses) == {200, 202}
    assert not {"failed", "dead"} & set(load.tests)
    assert done["rewrapped"] >= 1
    assert done["unreadable"] == 0

    # What was written in the moment of the change may name the old key; the next one takes it
    # along.
    cli(troupe, "keys", "rotate", "--to", done["id"], "--data-keys")
    new, *others = KeyRing.load(path).identifiers
    assert (str(new), others) == (done["id"], [old])
    wraps = {UUID(bytes=row["wrapped_key"][1:17]) for row in troupe.sql("TABLE auth.data_keys")}
    assert wraps == {new}
    named = key_ids(troupe)
    assert named
    assert not named & old_data_keys
    # Whatever column somebody adds: no sealed value anywhere names the old keys but their own rows.
    for where, value in bytes_everywhere(troupe):
        for key in (old, *old_data_keys):
            assert key.bytes not in value, where

    shown = cli(troupe, "keys", "show")
    assert [key["first"] for key in shown["keys"]] == [True, False]
    assert shown["missing"] == []
    assert cli(troupe, "keys", "retire") == {"retired": [str(old)]}
    assert KeyRing.load(path).identifiers == (new,)
    assert path.stat().st_mode & 0o777 == 0o600
    assert cli(troupe, "keys", "retire") == {"retired": []}
    # The program, which nobody restarted, still opens everything.
    with Load(troupe) as load:
        time.sleep(1)
    assert set(load.statuses) <= {200, 202}
    assert not {"failed", "dead"} & set(load.tests)


def test_a_key_that_is_distributed_first(troupe: Program) -> None:
    path = troupe.state / "keys"
    before = KeyRing.load(path).identifiers
    added = cli(troupe, "keys", "add")["id"]
    assert [str(key) for key in KeyRing.load(path).identifiers] == [str(before[0]), added]
    assert cli(troupe, "keys", "rotate", "--to", added)["id"] == added
    assert [str(key) for key in KeyRing.load(path).identifiers] == [added, str(before[0])]


@pytest.mark.parametrize("arguments", [["rotate", "--to", "00000000-0000-7000-8000-000000000000"]])
def test_a_key_that_is_not_there(troupe: Program, arguments: list[str], tmp_path: Path) -> None:
    path = troupe.state / "keys"
    before = path.read_bytes()
    urls = {
        "TROUPE_DATABASE__URL": troupe.database.owner_url,
        "TROUPE_DATABASE__RUNTIME_URL": troupe.database.runtime_url,
    }
    refused = command("--state-dir", str(troupe.state), "keys", *arguments, extra=urls)
    assert refused.returncode == 3
    assert "troupe keys show" in refused.stderr
    assert path.read_bytes() == before
    missing = command("--state-dir", str(tmp_path), "keys", "rotate", extra=urls)
    assert missing.returncode == 3
    assert "cannot be read" in missing.stderr
