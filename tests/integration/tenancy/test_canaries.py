"""Secrets go in on every path, most of which fail; none is in the database, the log or an
answer."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.companions import companion
from tests.support.postgres import MakeDatabase
from tests.support.processes import command
from tests.support.program import Program, program
from troupe_demo.bigquery import create_service_account

PATIENCE = 60


@pytest.fixture(scope="module")
def troupe(
    make_database: MakeDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    """A program of its own that writes everything into its log."""
    with (
        make_database() as database,
        program(
            database, tmp_path_factory.mktemp("troupe"), {"TROUPE_LOG__LEVEL": "debug"}
        ) as started,
    ):
        yield started


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Real servers, none of which accepts what it will be given."""
    root = tmp_path_factory.mktemp("servers")
    users = root / "users.json"
    users.write_text(json.dumps({"users": {"shop": {"password": "another"}}}))
    account = root / "account.json"
    account.write_text(json.dumps({"user": "shop", "password": "another"}))
    sftp = [str(root / "sftp"), "--users", str(users)]
    mail = [str(root / "mail"), "--account", str(account)]
    (root / "bigquery").mkdir()
    with (
        companion("troupe_demo.sftp", sftp, root / "sftp.log") as files,
        companion("troupe_demo.mail", mail, root / "mail.log") as letters,
        companion("troupe_demo.bigquery", [str(root / "bigquery")], root / "bq.log") as warehouse,
    ):
        yield {"sftp": files, "smtp": letters, "bigquery": warehouse, "root": root}


class Journey:
    """Requests as an owner; everything that was answered is kept."""

    def __init__(self, troupe: Program) -> None:
        self.troupe = troupe
        self.answers: list[str] = []
        self.base = f"{troupe.urls['auth']}/api/v1/tenants/{troupe.here.tenant_id}"

    def send(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        headers = self.troupe.session(self.troupe.here, "owner") | arguments.pop("headers", {})
        url = path if path.startswith("http") else self.base + path
        answer = httpx2.request(method, url, headers=headers, timeout=PATIENCE, **arguments)
        self.answers.append(answer.text + str(answer.headers))
        return answer

    def try_out(self, kind: str, config: dict[str, Any], secret: str) -> None:
        body = {"config": config, "secret": secret}
        put = self.send("PUT", f"/connections/{kind}", json=body)
        assert put.status_code == 200, put.text
        self.send("POST", f"/connections/{kind}/test")
        end = time.monotonic() + PATIENCE
        while True:
            found = self.send("GET", f"/connections/{kind}/test").json()
            if found["works"] is not None:
                break
            assert time.monotonic() < end, found
            time.sleep(0.1)
        assert found["works"] is False, (kind, found)

    def run_job(self, path: str, body: dict[str, Any]) -> None:
        """Start a job of the data group and wait until it has failed."""
        url = self.troupe.urls["data"]
        job = self.send("POST", f"{url}{path}", json=body).json()["id"]
        end = time.monotonic() + PATIENCE
        while self.send("GET", f"{url}/api/v1/jobs/{job}").json()["state"] == "running":
            assert time.monotonic() < end
            time.sleep(0.1)
        self.send("POST", f"{url}/api/v1/jobs/{job}/cancel")


def everything(troupe: Program) -> str:
    """Every value of every table, as text; bytes also as text, not only as hexadecimal."""
    tables = troupe.sql(
        "SELECT c.oid::regclass::text AS name FROM pg_class AS c JOIN pg_namespace AS n"
        " ON n.oid = c.relnamespace WHERE c.relkind = 'r'"
        " AND n.nspname IN ('platform', 'auth', 'data', 'analytics', 'staging')"
    )
    found = []
    for table in tables:
        for row in troupe.sql(f"SELECT * FROM {table['name']}"):
            found += [
                value.decode("latin-1") + value.hex() if isinstance(value, bytes) else str(value)
                for value in row.values()
            ]
    return "\n".join(found)


def test_no_path_leaves_a_secret_anywhere(
    troupe: Program, servers: dict[str, Any], tmp_path: Path
) -> None:
    canaries = {
        name: f"canary-{name}-5f1c" for name in ("sftp", "smtp", "body", "header", "cookie", "old")
    }
    journey = Journey(troupe)
    files, mail = servers["sftp"], servers["smtp"]["smtp"].split(":")
    sftp = {
        "host": files["host"],
        "port": files["port"],
        "username": "shop",
        "host_key": files["host_key"],
        "locations": {"file": "l.csv", "columns": {"location_id": "id", "name": "name"}},
    }
    smtp = {"host": mail[0], "port": int(mail[1]), "sender": "a@b.example", "security": "none"}
    account = create_service_account(
        servers["root"] / "bigquery", "shop", f"{servers['bigquery']['url']}/token"
    )
    # A key of the right form that the token service does not know.
    stranger = create_service_account(tmp_path, "shop", f"{servers['bigquery']['url']}/token")
    assert stranger["private_key"] != account["private_key"]
    canaries["key"] = stranger["private_key"].splitlines()[2]
    bigquery = {
        "project": "shop",
        "dataset": "analytics_1",
        "api_endpoint": servers["bigquery"]["url"],
        "storage_endpoint": servers["bigquery"]["grpc"],
    }

    journey.try_out("sftp", sftp, canaries["old"])
    for changes in ({}, {"host_key": ""}, {"authentication": "key"}, {"host": "10.9.9.9"}):
        journey.try_out("sftp", sftp | changes, canaries["sftp"])
    for changes in ({}, {"username": "shop"}, {"security": "tls"}, {"security": "starttls"}):
        if changes:
            journey.try_out("smtp", smtp | changes, canaries["smtp"])
    for changes in ({}, {"api_endpoint": "http://10.9.9.9"}):
        journey.try_out("bigquery", bigquery | changes, json.dumps(stranger))

    # Bodies that are refused, with the secret at the wrong place, and broken ones.
    wrong = {"config": {**sftp, "password": canaries["body"]}, "secret": canaries["body"]}
    assert journey.send("PUT", "/connections/sftp", json=wrong).status_code == 422
    broken = json.dumps(wrong)[:-3].encode()
    typed = {"Content-Type": "application/json"}
    for content in (broken, broken + b"\xff", json.dumps([wrong]).encode()):
        journey.send("PUT", "/connections/sftp", content=content, headers=typed)
    journey.send("PATCH", f"/connections/sftp?secret={canaries['body']}", json=wrong)
    journey.send("GET", "", headers={"Authorization": f"Bearer {canaries['header']}"})
    journey.send("GET", "", headers={"Cookie": f"troupe_session={canaries['cookie']}"})

    # Jobs that use the connections and fail.
    journey.run_job("/api/v1/imports", {})
    journey.run_job("/api/v1/ingestions", {"start_date": "2026-01-01", "end_date": "2026-01-01"})

    # Tokens and sessions that work, and end.
    made = journey.send("POST", f"{troupe.urls['auth']}/api/v1/tokens", json={"name": "canary"})
    canaries["token"] = made.json()["token"]
    journey.answers.pop()  # the one answer that shows it
    bearer = {"Authorization": f"Bearer {canaries['token']}"}
    httpx2.get(f"{troupe.urls['data']}/api/v1/jobs", headers=bearer)
    httpx2.delete(
        f"{troupe.urls['auth']}/api/v1/tokens/{made.json()['token_id']}",
        headers=troupe.session(troupe.here, "owner"),
    )
    session = troupe.session(troupe.here, "viewer")
    httpx2.get(f"{troupe.urls['auth']}/api/v1/me", headers=session)
    canaries["session"] = session["Cookie"].split("=")[1]
    canaries["CSRF token"] = session["X-CSRF-Token"]

    # Keys change, and the database goes away in the middle of it all.
    urls = {
        "TROUPE_DATABASE__URL": troupe.database.owner_url,
        "TROUPE_DATABASE__RUNTIME_URL": troupe.database.runtime_url,
    }
    state = ("--state-dir", str(troupe.state))
    said = ""
    for arguments in (("keys", "rotate", "--data-keys"), ("keys", "show"), ("doctor", "--json")):
        result = command(*state, *arguments, extra=urls)
        said += result.stdout + result.stderr
    name = troupe.database.name
    troupe.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = $1 AND usename = 'troupe_runtime'",
        name,
    )
    for _ in range(3):
        journey.send("PUT", "/connections/sftp", json={"config": sftp, "secret": canaries["sftp"]})
    exported = journey.send("POST", "/export", json={})
    assert exported.status_code == 200
    assert '"auth.connections"' in exported.text

    for line in (troupe.state / "keys").read_text().splitlines():
        if not line.startswith("#"):
            canaries[f"key-encryption key {line[:4]}"] = line
    stored, log = everything(troupe), troupe.process.text()
    assert "a@b.example" in stored  # the dump sees what is there
    assert "request_answered" in log
    assert "job_started" in log
    for canary, secret in canaries.items():
        assert secret not in stored, f"{canary} is in the database"
        assert secret not in log, f"{canary} is in the log"
        assert secret not in said, f"{canary} was said by a command"
        assert secret.encode().hex() not in stored, f"{canary} is in the database"
        for answer in journey.answers:
            assert secret not in answer, f"{canary} was answered"
