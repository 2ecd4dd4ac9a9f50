"""``troupe doctor`` on a healthy installation, and on one with one thing wrong at a time."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.processes import command
from tests.support.program import Program
from troupe.cli.context import Settings
from troupe.cli.doctor._command import examine
from troupe.cli.doctor._findings import Finding, State


def examined(environment: dict[str, str], state: Path) -> dict[str, list[Finding]]:
    """What the doctor finds, by check; in this process, since starting another takes seconds."""
    found: dict[str, list[Finding]] = {}

    async def report(finding: Finding) -> None:
        found.setdefault(finding.check, []).append(finding)

    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        trio.run(examine, Settings(state_dir=state), report)
    return found


def of(troupe: Program) -> dict[str, list[Finding]]:
    """What the doctor finds in the running program."""
    urls = {
        "TROUPE_DATABASE__URL": troupe.database.owner_url,
        "TROUPE_DATABASE__RUNTIME_URL": troupe.database.runtime_url,
        "TROUPE_AUTH__ALLOW_PRIVATE_PEERS": "127.0.0.0/8",
    }
    return examined(urls, troupe.state)


@contextmanager
def changed(troupe: Program, do: str, undo: str) -> Iterator[None]:
    """One thing wrong in the database, for a while."""
    troupe.sql(do)
    try:
        yield
    finally:
        troupe.sql(undo)


def failed(found: dict[str, list[Finding]]) -> set[str]:
    return {one.check for every in found.values() for one in every if one.state is State.FAILED}


def test_a_healthy_installation(troupe: Program) -> None:
    # The tenants' provider is one that cannot be reached; all else must be well.
    found = of(troupe)
    assert failed(found) == {"identity provider"}, found
    expected = {
        "configuration",
        "disk",
        "key file",
        "key ring",
        "time zones",
        "clock",
        "port of auth",
        "port of data",
        "port of analytics",
        "database",
        "connections",
        "roles",
        "row-level security",
        "migrations",
        "audit log",
    }
    assert expected <= found.keys()
    assert "is not known" in found["identity provider"][0].message
    with changed(
        troupe,
        "UPDATE auth.identity_providers SET enabled = false",
        "UPDATE auth.identity_providers SET enabled = true",
    ):
        found = of(troupe)
    assert failed(found) == set()
    assert found["identity provider"][0].state is State.WARNING


@pytest.mark.parametrize(
    ("check", "do", "undo", "says"),
    [
        (
            "row-level security",
            "ALTER TABLE data.sessions DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE data.sessions ENABLE ROW LEVEL SECURITY",
            "data.sessions",
        ),
        (
            "roles",
            "ALTER ROLE troupe_system LOGIN",
            "ALTER ROLE troupe_system NOLOGIN",
            "can log in",
        ),
        (
            "migrations",
            "UPDATE platform.migrations SET sha256 = repeat('0', 64) WHERE number = 13",
            "SELECT 1",
            "was changed after",
        ),
    ],
)
def test_what_is_wrong_in_the_database(
    troupe: Program, check: str, do: str, undo: str, says: str
) -> None:
    if check == "migrations":
        (row,) = troupe.sql("SELECT sha256 FROM platform.migrations WHERE number = 13")
        undo = f"UPDATE platform.migrations SET sha256 = '{row['sha256']}' WHERE number = 13"
    with changed(troupe, do, undo):
        found = of(troupe)
    assert check in failed(found)
    (finding,) = found[check]
    assert says in finding.message
    assert finding.advice


def test_a_log_that_was_tampered_with(troupe: Program) -> None:
    troupe.sql(
        "SELECT set_config('troupe.tenant_id', $1, false),"
        " auth.append_audit('system', NULL, 'test.noted', 'one', '{}')",
        str(troupe.here.tenant_id),
    )
    with changed(
        troupe,
        "UPDATE auth.audit_log SET target = 'two' WHERE action = 'test.noted'",
        "UPDATE auth.audit_log SET target = 'one' WHERE action = 'test.noted'",
    ):
        found = of(troupe)
    assert "audit log" in failed(found)
    assert str(troupe.here.tenant_id) in found["audit log"][0].message


def test_what_is_wrong_on_the_host(troupe: Program, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        urls = {
            "TROUPE_DATABASE__URL": "postgresql://troupe_owner:canary-8c@127.0.0.1:1/none",
            "TROUPE_DATABASE__RUNTIME_URL": "postgresql://troupe_runtime:canary-8c@127.0.0.1:1/none",
            "TROUPE_DATABASE__CONNECT_DEADLINE": "2",
            "TROUPE_GROUPS__DATA__PORT": port,
            "TROUPE_AUTH__KEY_ENCRYPTION_KEY_FILE": str(tmp_path / "no-keys"),
        }
        found = examined(urls, tmp_path / "state")
    for check, says in (
        ("database", "cannot be reached"),
        ("port of data", "cannot be had"),
        ("key file", "There is no"),
    ):
        (finding,) = found[check]
        assert finding.state is State.FAILED, finding
        assert says in finding.message
        assert finding.advice
        assert "canary-8c" not in finding.message


def test_a_configuration_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "troupe.toml"
    file.write_text("[groups.data]\nprot = 1\n")
    result = command("--config", str(file), "doctor")
    assert result.returncode == 9
    assert "groups.data.prot" in result.stdout
    assert "docs/configuration.md" in result.stdout


def test_what_a_person_reads(troupe: Program) -> None:
    urls: dict[str, Any] = {
        "TROUPE_DATABASE__URL": troupe.database.owner_url,
        "TROUPE_DATABASE__RUNTIME_URL": troupe.database.runtime_url,
    }
    state = ("--state-dir", str(troupe.state))
    result = command(*state, "doctor", extra=urls)
    assert "✓ migrations: All are applied." in result.stdout
    assert "✗ identity provider: " in result.stdout
    told = command(*state, "doctor", "--json", extra=urls)
    assert (told.returncode, json.loads(told.stdout)["well"]) == (9, False)
    assert "Traceback" not in result.stderr + told.stderr
