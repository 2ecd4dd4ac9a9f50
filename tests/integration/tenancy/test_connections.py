"""Trying connections: real servers of each kind, and what a person reads when one does not work."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.companions import companion
from tests.support.program import Program
from troupe_demo.bigquery import create_service_account

PATIENCE = 60
PASSWORD = "sftp-password-canary"
FILES = {
    "locations": {"file": "locations.csv", "columns": {"location_id": "id", "name": "name"}},
}


def api(troupe: Program, method: str, path: str, body: Any = None) -> httpx2.Response:
    return httpx2.request(
        method,
        f"{troupe.urls['auth']}/api/v1/tenants/{troupe.here.tenant_id}{path}",
        json=body,
        headers=troupe.session(troupe.here, "admin"),
        timeout=PATIENCE,
    )


def tried(troupe: Program, kind: str, config: dict[str, Any], secret: str | None) -> dict[str, Any]:
    """Set a connection up and have it tried; what the test found."""
    put = api(troupe, "PUT", f"/connections/{kind}", {"config": config, "secret": secret})
    assert put.status_code == 200, put.text
    started = api(troupe, "POST", f"/connections/{kind}/test")
    assert started.status_code == 202, started.text
    job = started.json()["job_id"]
    end = time.monotonic() + PATIENCE
    while True:
        found: dict[str, Any] = api(troupe, "GET", f"/connections/{kind}/test").json()
        assert found["job_id"] == job
        if found["state"] in {"done", "failed", "dead"}:
            assert found["state"] == "done", found
            if secret is not None:
                assert secret not in json.dumps(found)
            return found
        assert time.monotonic() < end, found
        time.sleep(0.1)


@pytest.fixture(scope="module")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    root = tmp_path_factory.mktemp("sftp")
    users = root / "users.json"
    users.write_text(json.dumps({"users": {"shop": {"password": PASSWORD}}}))
    served = root / "served"
    (served / "shop").mkdir(parents=True)
    (served / "shop" / "locations.csv").write_text("id,name\n1,Branch\n")
    arguments = [str(served), "--users", str(users)]
    with companion("troupe_demo.sftp", arguments, root / "log") as ready:
        yield {
            "host": ready["host"],
            "port": ready["port"],
            "username": "shop",
            "host_key": ready["host_key"],
            "locations": FILES["locations"],
        }


@pytest.fixture(scope="module")
def mail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    root = tmp_path_factory.mktemp("mail")
    with companion("troupe_demo.mail", [str(root / "mail")], root / "log") as ready:
        host, port = ready["smtp"].split(":")
        yield {"host": host, "port": int(port), "sender": "a@shop.example", "security": "none"}


@pytest.fixture(scope="module")
def bigquery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], str]]:
    root = tmp_path_factory.mktemp("bigquery")
    (root / "harbor-shop" / "analytics_1").mkdir(parents=True)
    with companion("troupe_demo.bigquery", [str(root)], root / "log") as ready:
        account = create_service_account(root, "harbor-shop", f"{ready['url']}/token")
        config = {
            "project": "harbor-shop",
            "dataset": "analytics_1",
            "api_endpoint": ready["url"],
            "storage_endpoint": ready["grpc"],
        }
        yield config, json.dumps(account)


def test_sftp_that_works(troupe: Program, sftp: dict[str, Any]) -> None:
    found = tried(troupe, "sftp", sftp, PASSWORD)
    assert found["works"] is True, found
    assert [step["name"] for step in found["steps"]] == ["connecting", "looking for locations.csv"]
    assert "17 bytes" in found["steps"][1]["message"]


@pytest.mark.parametrize(
    ("changes", "secret", "says"),
    [
        ({}, "wrong", "does not accept the account's credentials"),
        ({"username": "nobody"}, PASSWORD, "does not accept the account's credentials"),
        ({"locations": {**FILES["locations"], "file": "none.csv"}}, PASSWORD, "no such file"),
        ({"host_key": ""}, PASSWORD, "It shows: ssh-ed25519 "),
        ({"host_key": "", "port": 1}, PASSWORD, "cannot be reached"),
        ({"host_key": "", "host": "10.255.255.1"}, PASSWORD, "auth.allow_private_peers"),
        ({"authentication": "key"}, PASSWORD, "not a private key"),
        ({"host": "10.255.255.1"}, PASSWORD, "auth.allow_private_peers"),
        ({"host": "no-such-host.invalid"}, PASSWORD, "is not known"),
    ],
)
def test_sftp_that_does_not_work(
    troupe: Program, sftp: dict[str, Any], changes: dict[str, Any], secret: str, says: str
) -> None:
    found = tried(troupe, "sftp", sftp | changes, secret)
    assert found["works"] is False
    assert says in found["message"]


def test_mail_that_works(troupe: Program, mail: dict[str, Any]) -> None:
    found = tried(troupe, "smtp", mail, None)
    assert found["works"] is True, found
    assert [step["name"] for step in found["steps"]] == ["connecting", "offering the sender"]


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("changes", "secret", "says"),
    [
        ({"security": "starttls"}, "canary", "offers no STARTTLS"),
        ({"username": "ada"}, None, "no password yet"),
        ({"username": "ada"}, "canary", "offers no login"),
        ({"port": "closed"}, "canary", "does not answer on port"),
        ({"host": "192.168.255.1"}, "canary", "auth.allow_private_peers"),
        ({"host": "8.8.8.8", "port": 25}, "canary", "Without encryption"),
    ],
)
def test_mail_that_does_not_work(
    troupe: Program, mail: dict[str, Any], changes: dict[str, Any], secret: str | None, says: str
) -> None:
    config = mail | changes
    if config["port"] == "closed":
        config["port"] = closed_port()
    api(troupe, "DELETE", "/connections/smtp")
    found = tried(troupe, "smtp", config, secret)
    assert found["works"] is False
    assert says in found["message"]


def test_bigquery_that_works(troupe: Program, bigquery: tuple[dict[str, Any], str]) -> None:
    found = tried(troupe, "bigquery", *bigquery)
    assert found["works"] is True, found
    assert [step["name"] for step in found["steps"]] == ["signing in", "listing tables", "querying"]
    assert "0 of the last 14 days" in found["steps"][1]["message"]


def test_bigquery_that_does_not_work(
    troupe: Program, bigquery: tuple[dict[str, Any], str], tmp_path: Path
) -> None:
    config, secret = bigquery
    account = json.loads(secret)
    metadata = "http://169.254.169.254/computeMetadata/v1/token"
    for changes, altered, says in (
        ({"dataset": "analytics_2"}, {}, "nothing there"),
        ({}, {"token_uri": metadata}, "auth.allow_private_peers"),
        ({"api_endpoint": "http://10.0.0.1"}, {}, "auth.allow_private_peers"),
        ({"storage_endpoint": "10.0.0.1:443"}, {}, "auth.allow_private_peers"),
        ({"api_endpoint": "", "storage_endpoint": ""}, {"token_uri": metadata}, "allow_private"),
        ({}, {"private_key": "canary"}, "not a service account"),
    ):
        found = tried(troupe, "bigquery", config | changes, json.dumps(account | altered))
        assert found["works"] is False
        assert says in found["message"], (changes, altered, found)


def test_a_connection_that_is_not_there(troupe: Program) -> None:
    api(troupe, "DELETE", "/connections/smtp")
    assert api(troupe, "POST", "/connections/smtp/test").status_code == 404
    assert api(troupe, "DELETE", "/connections/smtp").status_code == 404
