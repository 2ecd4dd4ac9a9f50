"""Amount, repeatability, days and families of what is generated."""

import dataclasses
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq
import pytest

from troupe_demo.ga4 import DEMO_PROFILES, HARBOR_SHOP, TOOL_SHOP, generate
from troupe_demo.ga4.clock import HOUR, BusinessDay, midnight, quotas
from troupe_demo.ga4.dice import Dice
from troupe_demo.ga4.export import ROBOT, Calendar

SMALL = {"days": 5, "events": 4_000, "last_day": date(2026, 7, 14)}


def tables(root):
    return {path.relative_to(root): pq.read_table(path) for path in sorted(root.rglob("*.parquet"))}


def test_the_same_arguments_give_the_same_rows(tmp_path) -> None:
    generate(tmp_path / "a", DEMO_PROFILES, seed=3, **SMALL)
    generate(tmp_path / "b", DEMO_PROFILES, seed=3, **SMALL)
    first, second = tables(tmp_path / "a"), tables(tmp_path / "b")
    assert first.keys() == second.keys()
    assert all(first[name].equals(second[name]) for name in first)


def test_another_seed_gives_other_rows(tmp_path) -> None:
    generate(tmp_path / "a", [TOOL_SHOP], seed=3, **SMALL)
    generate(tmp_path / "b", [TOOL_SHOP], seed=4, **SMALL)
    first, second = tables(tmp_path / "a"), tables(tmp_path / "b")
    assert not any(first[name].equals(second[name]) for name in first)


def test_a_tenant_does_not_depend_on_the_others(tmp_path) -> None:
    generate(tmp_path / "alone", [TOOL_SHOP], seed=3, **SMALL)
    twin = dataclasses.replace(HARBOR_SHOP, share=TOOL_SHOP.share)
    generate(tmp_path / "both", [twin, TOOL_SHOP], seed=3, **SMALL | {"events": 8_000})
    alone, both = tables(tmp_path / "alone"), tables(tmp_path / "both")
    assert all(both[name].equals(alone[name]) for name in alone)


def test_writes_at_least_the_events_that_were_asked_for(export) -> None:
    assert 60_000 <= export.summary.events < 61_000
    for tenant in export.summary.tenants:
        counting = sum(
            pq.read_metadata(export.path(tenant.profile, day)).num_rows for day in export.calendar
        )
        every = sum(pq.read_metadata(path).num_rows for path in tenant.directory.glob("*.parquet"))
        assert tenant.events == counting
        assert tenant.rows == every > counting
        assert len(tenant.tables) == len(list(tenant.directory.iterdir())) == 43


@pytest.mark.parametrize("days", [1, 2, 3])
def test_short_exports_are_whole(tmp_path, days) -> None:
    summary = generate(
        tmp_path, [HARBOR_SHOP], days=days, events=300, seed=1, last_day=date(2026, 7, 14)
    )
    assert summary.events >= 300
    assert len(summary.tenants[0].tables) == (1, 3, 6)[days - 1]


def test_tells_its_progress(tmp_path) -> None:
    seen: list[tuple[int, int]] = []
    generate(
        tmp_path,
        DEMO_PROFILES,
        seed=1,
        progress=lambda done, total: seen.append((done, total)),
        **SMALL,
    )
    assert seen == [(done, 10) for done in range(1, 11)]


@pytest.mark.parametrize("wrong", [{"days": 0}, {"events": 0}, {"profiles": []}])
def test_refuses_nothing_at_all(tmp_path, wrong) -> None:
    arguments = {"profiles": [TOOL_SHOP], "seed": 1, **SMALL, **wrong}
    with pytest.raises(ValueError, match="at least one"):
        generate(tmp_path, arguments.pop("profiles"), **arguments)


def test_days_are_the_property_s_days(profile, rows) -> None:
    zone = ZoneInfo(profile.zone)
    for row in rows:
        local = datetime.fromtimestamp(row.timestamp / 1_000_000, UTC).astimezone(zone)
        assert local.date() == row.day
        assert row.record["event_date"] == f"{row.day:%Y%m%d}"


def test_the_last_day_is_still_going_on(export, profile, rows) -> None:
    zone = ZoneInfo(profile.zone)
    last = max(row.timestamp for row in rows)
    local = datetime.fromtimestamp(last / 1_000_000, UTC).astimezone(zone)
    assert local.date() == export.calendar.last_day
    assert local.hour == 13


def test_all_families_overlap_on_one_day_and_differ(export, profile) -> None:
    day = export.calendar.last_day - timedelta(days=2)
    daily, fresh, intraday = (pq.read_table(export.path(profile, day, which)) for which in range(3))
    cookies = daily.column("user_pseudo_id").to_pylist()
    assert ROBOT not in cookies
    for left_over in (fresh, intraday):
        assert ROBOT in left_over.column("user_pseudo_id").to_pylist()
        assert left_over.num_rows != daily.num_rows
    # What a wildcard over all families would count.
    assert daily.num_rows + fresh.num_rows + intraday.num_rows > 2 * daily.num_rows


def test_families_by_age() -> None:
    calendar = Calendar(date(2026, 7, 14), 60)
    names = {
        back: [family.table(day) for family in calendar.families(day)]
        for back in range(4)
        for day in [calendar.last_day - timedelta(days=back)]
    }
    assert names == {
        0: ["events_intraday_20260714"],
        1: ["events_fresh_20260713", "events_intraday_20260713"],
        2: ["events_20260712", "events_fresh_20260712", "events_intraday_20260712"],
        3: ["events_20260711"],
    }
    assert sum(calendar.is_legacy(day) for day in calendar) == 15


def test_quotas_add_up_and_follow_week_and_growth() -> None:
    days = [date(2026, 3, 2) + timedelta(days=number) for number in range(28)]
    shares = quotas(TOOL_SHOP, days, 100_000)
    assert sum(shares) == 100_000
    assert min(shares[5], shares[6]) < min(shares[:5]) / 1.5
    assert shares[21] > shares[0]


@pytest.mark.parametrize(
    ("day", "hours"),
    [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 10, 26), 24)],
)
def test_days_with_a_clock_change_are_shorter_or_longer(day, hours) -> None:
    zone = ZoneInfo("Europe/Berlin")
    business = BusinessDay.of(day, zone, TOOL_SHOP.hours)
    assert business.end - business.start == hours * HOUR
    dice = Dice("clock")
    assert all(business.start <= business.moment(dice) < business.end for _ in range(500))


def test_the_hour_that_comes_twice_is_used_twice() -> None:
    zone = ZoneInfo("Europe/Berlin")
    business = BusinessDay.of(date(2026, 10, 25), zone, HARBOR_SHOP.hours)
    dice = Dice("clock")
    seen = set()
    for _ in range(5_000):
        moment = datetime.fromtimestamp(business.moment(dice) / 1_000_000, UTC).astimezone(zone)
        seen.add((moment.hour, moment.utcoffset()))
    assert len(seen) == 25
    assert {(2, timedelta(hours=1)), (2, timedelta(hours=2))} <= seen


def test_midnight_is_the_zone_s() -> None:
    assert midnight(date(2026, 7, 1), ZoneInfo("America/New_York")) == 1_782_878_400_000_000
