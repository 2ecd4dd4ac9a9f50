"""The whole system, started once as a person starts it: ``troupe demo``."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from xdist.scheduler import LoadFileScheduling

from tests.support.processes import Running, postgres_processes, running
from troupe_demo.ga4 import DEMO_PROFILES

DAYS = 12
EVENTS = 24_000
SEED = 7
READY = 300
WITHOUT_IT = (
    "hosts/",
    "oidc_provider/",
    "test_full_disk.py",
    "test_memory.py",
    "test_report_servers.py",
)
"""Tests that need no demonstration."""
TRUTH = Path(__file__).parents[2] / "ops" / "demo" / "truth.py"


@dataclass
class Tenant:
    """One tenant of the demonstration and how to ask about it."""

    id: str
    name: str
    token: str
    export: Path
    zone: str
    last_day: date
    urls: dict[str, str]

    def get(self, group: str, path: str, **parameters: Any) -> httpx2.Response:
        return httpx2.get(
            f"{self.urls[group]}{path}",
            params=parameters,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=60,
        )

    def post(self, group: str, path: str, body: Any = None) -> httpx2.Response:
        return httpx2.post(
            f"{self.urls[group]}{path}",
            json=body,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=60,
        )

    @property
    def first_day(self) -> date:
        return self.last_day - timedelta(days=DAYS - 1)

    def truth(self, start: date, end: date) -> Any:
        """The figures by the independent script, straight from the exported files."""
        result = subprocess.run(
            [
                sys.executable,
                TRUTH,
                str(self.export),
                "--start",
                start.isoformat(),
                "--end",
                end.isoformat(),
                "--zone",
                self.zone,
                "--json",
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        return json.loads(result.stdout)


@dataclass
class Demo:
    """The running demonstration."""

    process: Running
    state: Path
    ready: dict[str, Any]
    tenants: list[Tenant]


class _ByInstallation(LoadFileScheduling):  # type: ignore[misc]  # it has no types
    """Tests of a file run one after the other, and so do all of the demonstration's.

    Two workers that both start it take longer than one. (Groups by marks, xdist's own way, have no
    effect under pytest 9.2.)
    """

    def _split_scope(self, nodeid: str) -> str:
        path = str(super()._split_scope(nodeid))
        return "demo" if _needs_the_demonstration(path) else path


def _needs_the_demonstration(path: str) -> bool:
    return not path.removeprefix("tests/e2e/").startswith(WITHOUT_IT)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    return _ByInstallation(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        path, needed = item.nodeid.split("::")[0], "demo" in getattr(item, "fixturenames", ())
        if path.startswith("tests/e2e/") and needed != _needs_the_demonstration(path):
            raise pytest.UsageError(f"{path} belongs into WITHOUT_IT, or out of it")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    directory = tmp_path_factory.mktemp("demo")
    state, ready_file = directory / "state", directory / "ready.json"
    arguments = [
        "demo",
        *("--days", str(DAYS), "--events", str(EVENTS), "--seed", str(SEED)),
        *("--state-dir", str(state), "--ports", "auto", "--ready-file", str(ready_file)),
    ]
    with running(arguments, directory / "log") as process:
        ready = process.wait_for_file(ready_file, READY)
        plan = json.loads((state / "demo.json").read_text())
        yield Demo(process, state, ready, list(_tenants(ready, state, plan)))
        assert process.stop() == 0, process.text()[-3000:]
    assert not postgres_processes(state)


def _tenants(ready: dict[str, Any], state: Path, plan: dict[str, Any]) -> Iterator[Tenant]:
    profiles = {profile.name: profile for profile in DEMO_PROFILES}
    for tenant in ready["tenants"]:
        profile = profiles[tenant["name"]]
        yield Tenant(
            **tenant,
            export=state / "bigquery" / profile.project / profile.dataset,
            zone=profile.zone,
            last_day=date.fromisoformat(plan["last_days"][profile.project]),
            urls=ready["urls"],
        )
