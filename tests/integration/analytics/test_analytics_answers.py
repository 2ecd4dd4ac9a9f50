"""Answers equal a brute-force reading of the same rows, from one snapshot, of one tenant only."""

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import asyncpg
import pytest

from tests.integration.analytics.conftest import AUTUMN, BRANCHES, SPRING, Town
from tests.integration.analytics.warehouse import Row, Warehouse, summary_as_row
from tests.support.postgres import TestDatabase
from troupe.actors.analytics.answers import QUERIES, Answers, Snapshot, Summary
from troupe.actors.analytics.filters import Filters
from troupe.actors.analytics.metrics import METRICS, change
from troupe.actors.analytics.periods import clock_hours
from troupe.actors.analytics.series import Series, read_series
from troupe.common.bridge import aio
from troupe.common.database import Database
from troupe.common.dates import Compare, DateRange, Granularity
from troupe.common.errors import NotFound
from troupe.common.ids import TenantId, new_id

DRAWS = 120
NOTHING: Row = summary_as_row(Summary())


def random_range(dice: random.Random, longest: int = 60) -> DateRange:
    """Often within the data, sometimes before, between or after it."""
    first = dice.choice((AUTUMN[0], AUTUMN[30], SPRING[0], SPRING[40], date(2024, 2, 20)))
    start = first + timedelta(days=dice.randint(-20, 40))
    return DateRange(start, start + timedelta(days=dice.randint(0, longest)))


def random_branches(dice: random.Random) -> list[str] | None:
    return dice.choice((None, None, dice.sample(BRANCHES, dice.randint(1, 4)), [""], ["never"]))


def both(town: Town) -> list[Warehouse]:
    return [town.shop, town.rival]


async def test_summaries_equal_a_reading_of_all_rows(answers: Answers, town: Town) -> None:
    dice = random.Random(1)
    for draw in range(DRAWS):
        warehouse = dice.choice(both(town))
        periods = [random_range(dice) for _ in range(dice.randint(1, 4))]
        branches = random_branches(dice)

        async def question(
            snapshot: Snapshot, periods: list[DateRange] = periods, wanted: Any = branches
        ) -> list[Summary]:
            return await snapshot.summaries(periods, Filters.of_branches(wanted))

        found = await answers.ask(warehouse.tenant, question)
        assert [summary_as_row(summary) for summary in found] == [
            warehouse.over(period, branches) for period in periods
        ], (draw, warehouse.name, periods, branches)


async def test_branches_equal_a_reading_of_all_rows(answers: Answers, town: Town) -> None:
    dice = random.Random(2)
    for draw in range(DRAWS):
        warehouse = dice.choice(both(town))
        periods = [random_range(dice) for _ in range(dice.randint(1, 2))]
        wanted = random_branches(dice)

        async def question(
            snapshot: Snapshot, periods: list[DateRange] = periods, wanted: Any = wanted
        ) -> list[dict[Any, Summary]]:
            return await snapshot.branches(periods, Filters.of_branches(wanted))

        found = await answers.ask(warehouse.tenant, question)
        ids = warehouse.branch_ids(periods)
        expected_ids = ids if wanted is None else ids & set(wanted)
        names = {row["location_id"]: (row["name"], row["city"]) for row in warehouse.locations}
        for period, summaries in zip(periods, found, strict=True):
            rows = {branch.location_id: summary_as_row(s) for branch, s in summaries.items()}
            assert rows == {branch: warehouse.over(period, [branch]) for branch in expected_ids}, (
                draw,
                warehouse.name,
                period,
                wanted,
            )
            for branch in summaries:
                assert (branch.name, branch.city) == names.get(branch.location_id, (None, None))


async def test_hours_equal_a_reading_of_all_rows(answers: Answers, town: Town) -> None:
    dice = random.Random(3)
    changes = (date(2025, 10, 4), date(2025, 10, 25), date(2026, 3, 28), date(2026, 4, 4))
    for draw in range(25):
        warehouse = dice.choice(both(town))
        start = dice.choice(changes) + timedelta(days=dice.randint(-3, 2))
        days = DateRange(start, start + timedelta(days=dice.randint(0, 6)))
        branches = random_branches(dice)

        async def question(
            snapshot: Snapshot, days: DateRange = days, wanted: Any = branches
        ) -> list[Any]:
            return await snapshot.hours(days, Filters.of_branches(wanted))

        found = await answers.ask(warehouse.tenant, question)
        label = (draw, warehouse.name, days, branches)
        zone = ZoneInfo(warehouse.zone)
        assert found[0][0].start == datetime.combine(days.start, datetime.min.time(), zone)
        assert all(a.end == b.start for (a, _), (b, _) in pairwise(found)), label
        for hour, summary in found:
            assert summary_as_row(summary) == warehouse.at(hour.key, branches), (*label, hour)
        # No row of the days was left out because its hour has another name.
        total = warehouse.over(days, branches)
        for name in ("events", "sessions", "purchases", "gross_revenue"):
            assert sum(getattr(s.measures, name) for _, s in found) == total[name], (*label, name)


@pytest.mark.parametrize("granularity", ["day", "week", "month"])
@pytest.mark.parametrize("compare", list(Compare))
async def test_series_cover_the_range_and_what_it_is_compared_with(
    answers: Answers, town: Town, granularity: str, compare: Compare
) -> None:
    dice = random.Random(f"{granularity} {compare}")
    for _ in range(8):
        warehouse = dice.choice(both(town))
        days = random_range(dice)

        async def question(snapshot: Snapshot, days: DateRange = days) -> Series:
            return await read_series(snapshot, days, Granularity(granularity), compare)

        series = await answers.ask(warehouse.tenant, question)
        for point in (*series.points, *(point for point in series.comparison if point)):
            assert isinstance(point.start, date)
            assert isinstance(point.end, date)
            assert summary_as_row(point.summary) == warehouse.over(
                DateRange(point.start, point.end)
            )
        assert (series.points[0].start, series.points[-1].end) == (days.start, days.end)
        if granularity == "week":
            begins = [point.start.isoweekday() for point in series.points[1:]]
            assert set(begins) <= {warehouse.week_start}
        earlier = days.compared(compare)
        assert bool(series.comparison) == (earlier is not None)
        if earlier is not None:
            assert len(series.comparison) == len(series.points)
            if compare is not Compare.YEAR:  # like with like: as many days on either side
                lengths = [[p.end - p.start for p in side if p] for side in both_sides(series)]
                assert lengths[0] == lengths[1]
            known = [point for point in series.comparison if point]
            assert (known[0].start, known[-1].end) == (earlier.start, earlier.end)
            assert (
                sum(point.summary.measures.events for point in known)
                == (warehouse.over(earlier)["events"])
            )


def both_sides(series: Series) -> list[Sequence[Any]]:
    return [series.points, series.comparison]


async def test_clock_hours_are_those_of_the_rollups(pool: Database) -> None:
    """Hours are named as ``date_trunc`` names them, in every zone and through every change."""
    dice = random.Random(4)
    # Short names ("MET") are abbreviations without summer time to PostgreSQL: no reporting zones.
    zones = ["UTC", *sorted(name for name in available_timezones() if "/" in name)]
    odd = ["Australia/Lord_Howe", "America/Havana", "Asia/Beirut", "America/Santiago", "Asia/Gaza"]
    for name in [*odd, *dice.sample(zones, 60)]:
        zone = ZoneInfo(name)
        instants = [
            datetime(2005, 1, 1, tzinfo=UTC) + timedelta(minutes=dice.randint(0, 22 * 525_600))
            for _ in range(100)
        ]
        instants += [
            datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=10 * step)
            for step in change_neighbourhoods(zone)
        ]
        rows = await pool.fetch(
            "SELECT at, date_trunc('hour', at, $2) AS key, (at AT TIME ZONE $2)::date AS day"
            " FROM unnest($1::timestamptz[]) AS at",
            instants,
            name,
        )
        hours = {day: clock_hours(DateRange(day, day), zone) for day in {r["day"] for r in rows}}
        for row in rows:
            found = [h.key for h in hours[row["day"]] if h.start <= row["at"] < h.end]
            assert found == [row["key"]], (name, row)
        for listed in hours.values():
            assert len({hour.key for hour in listed}) == len(listed), name


def change_neighbourhoods(zone: ZoneInfo) -> list[int]:
    """Multiples of ten minutes in 2025 that lie within a day of a change of the zone's clock."""
    start = datetime(2025, 1, 1, tzinfo=UTC)
    offsets = [(start + timedelta(days=d)).astimezone(zone).utcoffset() for d in range(366)]
    days = [day for day, (a, b) in enumerate(pairwise(offsets)) if a != b]
    return [step for day in days for step in range((day - 1) * 144, (day + 2) * 144)]


async def test_a_tenant_without_data_is_all_zero(answers: Answers, town: Town) -> None:
    async def question(snapshot: Snapshot) -> tuple[Any, list[Summary], list[Any], list[Any]]:
        days = DateRange(date(2026, 3, 1), date(2026, 3, 2))
        return (
            snapshot.reporting,
            await snapshot.summaries([days]),
            await snapshot.branches([days, days]),
            await snapshot.hours(days),
        )

    reporting, summaries, branches, hours = await answers.ask(town.nobody.tenant, question)
    assert (reporting.data_version, reporting.first_day, reporting.data_until) == (0, None, None)
    assert [summary_as_row(summary) for summary in summaries] == [NOTHING]
    assert branches == [{}, {}]
    assert [summary_as_row(summary) for _, summary in hours] == [NOTHING] * 48


async def test_a_tenant_that_does_not_exist_is_not_found(answers: Answers) -> None:
    async def question(snapshot: Snapshot) -> None:
        raise AssertionError(f"there is nothing to ask of {snapshot.reporting}")

    with pytest.raises(NotFound):
        await answers.ask(TenantId(new_id()), question)


async def test_reporting_is_what_the_tenant_has_set(answers: Answers, town: Town) -> None:
    async def question(snapshot: Snapshot) -> Any:
        return snapshot.reporting

    for warehouse in both(town):
        reporting = await answers.ask(warehouse.tenant, question)
        assert reporting.tenant == warehouse.tenant
        assert reporting.tenant_name == warehouse.name
        assert reporting.zone == ZoneInfo(warehouse.zone)
        assert reporting.currency == warehouse.currency
        assert reporting.week_start == warehouse.week_start
        assert reporting.data_version == warehouse.version
        assert reporting.first_day == warehouse.first_day
        assert reporting.data_until == warehouse.data_until


async def test_an_answer_comes_from_one_snapshot(
    fresh_database: TestDatabase, database: Database
) -> None:
    """A load that commits in the middle of a question is not seen by any part of it."""
    day = date(2026, 3, 3)
    warehouse = Warehouse("Busy", version=1, data_until=day)
    warehouse.add_random_days([day], ["b1", "b2", "b3"], random.Random(5))
    assert warehouse.hourly
    days = DateRange(day, day)

    async def load(version: int) -> None:
        connection = await asyncpg.connect(fresh_database.runtime_url)
        try:
            async with connection.transaction():
                await connection.execute(
                    "SELECT set_config('troupe.tenant_id', $1, true)", str(warehouse.tenant)
                )
                await connection.execute(
                    "UPDATE data.versions SET data_version = $1, data_until = $2", version,
                    day + timedelta(days=1),
                )  # fmt: skip
                await connection.execute("UPDATE platform.tenants SET reporting_currency = 'XXX'")
                for table in ("daily_rollup", "hourly_rollup"):
                    await connection.execute(f"UPDATE data.{table} SET events = events + 1000")
        finally:
            await connection.close()

    async def question(snapshot: Snapshot) -> tuple[Any, Summary, Summary, Any, Any]:
        before = (await snapshot.summaries([days]))[0]
        await load(2)
        after = (await snapshot.summaries([days]))[0]
        by_branch = (await snapshot.branches([days]))[0]
        return snapshot.reporting, before, after, by_branch, await snapshot.hours(days)

    async def version(snapshot: Snapshot) -> int:
        return snapshot.reporting.data_version

    await aio(warehouse.store(fresh_database.runtime_url))
    answers = Answers(database)
    reporting, before, after, by_branch, hours = await answers.ask(warehouse.tenant, question)
    assert reporting.data_version == 1
    assert reporting.data_until == day
    assert reporting.currency == "EUR"
    assert before == after
    assert summary_as_row(before) == warehouse.over(days)
    assert sum(s.measures.events for s in by_branch.values()) == before.measures.events
    assert sum(s.measures.events for _, s in hours) == before.measures.events
    assert await answers.ask(warehouse.tenant, version) == 2


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 50])
async def test_pages_of_locations_are_complete(answers: Answers, town: Town, limit: int) -> None:
    seen: list[str] = []
    place = None
    while True:
        page = await answers.locations(town.shop.tenant, after=place, limit=limit)
        assert page.total == len(town.shop.locations)
        assert len(page.locations) <= limit
        seen += [location.location_id for location in page.locations]
        place = page.place
        assert len(seen) <= page.total
        if place is None:
            break
    by_name = sorted(town.shop.locations, key=lambda row: (row["name"].lower(), row["location_id"]))
    assert seen == [row["location_id"] for row in by_name]


async def test_the_total_stands_beside_an_empty_page(answers: Answers, town: Town) -> None:
    page = await answers.locations(town.shop.tenant, after=("\U0010ffff", ""), limit=10)
    assert (page.locations, page.total, page.place) == ([], 5, None)
    page = await answers.locations(town.nobody.tenant, after=None, limit=10)
    assert (page.locations, page.total, page.place) == ([], 0, None)


@pytest.mark.parametrize("name", sorted(name for name in QUERIES if not name.startswith("plan_")))
async def test_no_query_shows_another_tenants_rows(pool: Database, town: Town, name: str) -> None:
    """Asked for the rival's rows under the shop's setting, each query finds nothing."""
    days = ([AUTUMN[0]], [SPRING[-1]])
    every = (*days, [None], *[None] * 7)
    arguments: dict[str, Sequence[object]] = {
        "reporting": (),
        "measures_by_part": (*days, "channel", None),
        "measures_of_parts": (*every, "", "UTC"),
        "measures_of_sessions": (*every, ""),
        "funnel": (*every, 10**9),
        "subjects": (*every, "page", "EUR", "views", None, None, 10),
        "subjects_by_day": (*days, "page", "EUR", "views", None, None, 10),
        "branches_known": (None,),
        "measures_by_period": (*days, None),
        "measures_by_hour": (AUTUMN[0], SPRING[-1], None),
        "measures_by_location": (*days, None),
        "locations": (None, None, 100),
        "entry_pages": (*every, 1, None, None, 10),
        "entry_pages_by_day": (*days, 1, None, None, 10),
        "sold_by_branch": (*every, "USD", ["b1"], 3),
    }

    async def rows(setting: TenantId) -> list[dict[str, Any]]:
        found = await pool.fetch(QUERIES[name], town.rival.tenant, *arguments[name], tenant=setting)
        return [{key: value for key, value in row.items() if value} for row in found]

    assert any(await rows(town.rival.tenant))
    assert not any(await rows(town.shop.tenant))


async def test_money_is_exact_whatever_its_size(
    fresh_database: TestDatabase, database: Database
) -> None:
    day = date(2026, 3, 3)
    warehouse = Warehouse("Absurd")
    amounts = [Decimal("0.1"), Decimal("1e308"), Decimal("-0.0000001"), Decimal("123456789.01")]
    warehouse.money = [
        {
            "day": day,
            "hour_start": datetime(2026, 3, 3, hour, tzinfo=UTC),
            "location_id": "",
            "currency": "EUR",
            "purchases": 1,
            "gross_revenue": amount,
            "refunds": 0,
            "refund_value": Decimal(0),
        }
        for hour, amount in enumerate(amounts)
    ]
    await aio(warehouse.store(fresh_database.runtime_url))

    async def question(snapshot: Snapshot) -> list[Summary]:
        return await snapshot.summaries([DateRange(day, day)])

    (summary,) = await Answers(database).ask(warehouse.tenant, question)
    ten_millionths = 10**315 + 1_234_567_890_100_000 + 1_000_000 - 1
    with localcontext(prec=1000):
        assert summary.measures.gross_revenue == Decimal(ten_millionths).scaleb(-7)
        assert METRICS["net_revenue"].compute(summary.measures) == summary.measures.gross_revenue
    assert METRICS["average_order_value"].compute(summary.measures) is not None
    assert change(summary.measures.gross_revenue, Decimal("0.01")) is not None
