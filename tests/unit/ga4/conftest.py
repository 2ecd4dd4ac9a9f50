"""One export, generated once, that all tests here look at."""

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest

from troupe_demo.ga4 import DEMO_PROFILES, GeneratedSummary, TenantProfile, generate
from troupe_demo.ga4.export import Calendar, table_path

DAYS = 40
EVENTS = 60_000
# Clocks change in Berlin on 25 October and in New York on 1 November.
LAST_DAY = date(2026, 11, 6)


# Turning all 217 paths into dictionaries would take most of the tests' time.
LEAVES = [
    "event_date",
    "event_timestamp",
    "event_name",
    "event_params",
    "user_id",
    "user_pseudo_id",
    "privacy_info",
    "user_properties",
    "device.category",
    "geo.city",
    "ecommerce",
    "items",
    "collected_traffic_source.gclid",
    "is_active_user",
    "session_traffic_source_last_click.cross_channel_campaign.default_channel_group",
]


@dataclass
class Row:
    """One event, with its parameters and user properties as dictionaries."""

    day: date
    timestamp: int
    name: str
    cookie: str | None
    user_id: str | None
    params: dict[str, Any]
    properties: dict[str, Any]
    record: dict[str, Any]

    @property
    def session(self) -> tuple[str | None, int | None]:
        return self.cookie, self.params.get("ga_session_id")


def as_row(day: date, record: dict[str, Any]) -> Row:
    def values(entries: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            entry["key"]: next((v for v in entry["value"].values() if v is not None), None)
            for entry in entries
        }

    return Row(
        day=day,
        timestamp=record["event_timestamp"],
        name=record["event_name"],
        cookie=record["user_pseudo_id"],
        user_id=record["user_id"],
        params=values(record["event_params"]),
        properties=values(record["user_properties"]),
        record=record,
    )


@dataclass
class Export:
    root: Path
    summary: GeneratedSummary
    calendar: Calendar

    def path(self, profile: TenantProfile, day: date, which: int = 0) -> Path:
        return table_path(self.root, profile, self.calendar.families(day)[which], day)

    def rows(self, profile: TenantProfile) -> Iterator[Row]:
        for day in self.calendar:
            for record in pq.ParquetFile(self.path(profile, day)).read(LEAVES).to_pylist():
                yield as_row(day, record)


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    root = tmp_path_factory.mktemp("export")
    summary = generate(root, DEMO_PROFILES, days=DAYS, events=EVENTS, seed=7, last_day=LAST_DAY)
    return Export(root, summary, Calendar(LAST_DAY, DAYS))


@pytest.fixture(scope="session", params=DEMO_PROFILES, ids=lambda profile: profile.project)
def profile(request: pytest.FixtureRequest) -> TenantProfile:
    chosen = request.param
    assert isinstance(chosen, TenantProfile)
    return chosen


@pytest.fixture(scope="session")
def rows(export: Export, profile: TenantProfile) -> list[Row]:
    """All events that count, of one property."""
    return list(export.rows(profile))


@pytest.fixture(scope="session")
def truth() -> ModuleType:
    """The independent script, which is no module of any package."""
    path = Path(__file__).parents[3] / "ops" / "demo" / "truth.py"
    spec = importlib.util.spec_from_file_location("demo_truth", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
