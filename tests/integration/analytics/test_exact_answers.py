"""Every route equals a reading of the raw events, on random ranges, filters and comparisons.

A short form by default; ``make exact`` asks a thousand times.
"""

import asyncio
import os
import random
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode

import pytest

from tests.integration.analytics.raw import (
    BRANCHES,
    CHANNELS,
    COUNTRIES,
    CUSTOMERS,
    DAYS,
    DEVICES,
    FIRST_DAY,
    PAGES,
    PRODUCTS,
    TERMS,
    Chosen,
    RawReading,
    make_shop,
)
from tests.integration.analytics.site import Site, make_site
from tests.integration.analytics.test_analytics_http import change, share, span
from tests.integration.data.brute_force import Row
from tests.support.postgres import TestDatabase
from troupe.actors.analytics.answers import Answers
from troupe.common.database import open_database
from troupe.common.dates import Compare, DateRange

DRAWS: Final = int(os.environ.get("TROUPE_TEST_RANGES", "120"))
NOW: Final = datetime(2026, 11, 2, 15, tzinfo=UTC)
VALUES: Final[dict[str, list[str | None]]] = {
    "location": BRANCHES, "channel": CHANNELS, "device": DEVICES, "country": COUNTRIES,
    "customer": CUSTOMERS,
}  # fmt: skip
SUBJECTS: Final[dict[str, list[str | None]]] = {"page": PAGES, "product": PRODUCTS, "term": TERMS}


@pytest.fixture(scope="module")
def shops(module_database: TestDatabase) -> dict[str, RawReading]:
    made = [
        make_shop("Berlin", "Europe/Berlin", "Europe/Berlin", 1, 1),
        make_shop("York", "America/New_York", "UTC", 7, 2),
    ]
    for shop in made:
        asyncio.run(shop.store(module_database.runtime_url))
    return {shop.name: RawReading(shop) for shop in made}


@pytest.fixture
async def site(bridge: None, module_database: TestDatabase, shops: dict[str, RawReading]) -> Any:
    async with open_database(module_database.runtime_url, connections=2) as database:
        made = make_site(Answers(database), [reading.shop for reading in shops.values()])
        made.now = NOW
        yield made


def random_days(dice: random.Random) -> DateRange:
    start = FIRST_DAY + timedelta(days=dice.randint(-3, DAYS + 1))
    if dice.random() < 0.3:  # ends with the day that is still going on
        return DateRange(
            min(start, FIRST_DAY + timedelta(DAYS - 1)), FIRST_DAY + timedelta(DAYS - 1)
        )
    return DateRange(start, start + timedelta(days=dice.randint(0, 9)))


def random_filters(dice: random.Random) -> Chosen:
    chosen: Chosen = {}
    for name, values in VALUES.items():
        if dice.random() < 0.3:
            some = dice.sample([*values, "unheard"], dice.randint(1, 2))
            chosen[name] = [value or "" for value in some]
    if dice.random() < 0.4:
        # One kind, and now and then two; an empty text is none of them.
        for name in dice.sample(list(SUBJECTS), dice.choice([1, 1, 1, 2])):
            known = [value for value in SUBJECTS[name] if value]
            chosen[name] = dice.sample([*known, "unheard"], dice.randint(1, 2))
    return chosen


class Question:
    """A random request, and what is expected of every answer to it."""

    def __init__(self, reading: RawReading, dice: random.Random) -> None:
        self.reading = reading
        self.days = random_days(dice)
        self.chosen = random_filters(dice) if dice.random() < 0.75 else {}
        self.compare = dice.choice(list(Compare))
        self.comparison = self.days.compared(self.compare)
        self.until = self._until()

    def _until(self) -> datetime | None:
        """METRICS: a partial last day is compared to the same hours."""
        zone, last = self.reading.shop.zone, self.reading.last_event_at
        at = last.astimezone(zone)
        if self.comparison is None or self.days.end != at.date():
            return None
        return datetime.combine(self.comparison.end, time(at.hour + 1), zone).astimezone(UTC)

    def path(self, route: str, **more: object) -> str:
        said = {
            "start_date": self.days.start, "end_date": self.days.end, "compare": self.compare.value,
            **self.chosen, **more,
        }  # fmt: skip
        return f"/api/v1/{route}?{urlencode(said, doseq=True)}"

    def both(
        self, read: Callable[[DateRange, datetime | None], dict[Any, Row]]
    ) -> tuple[dict[Any, Row], dict[Any, Row] | None]:
        now = read(self.days, None)
        return now, None if self.comparison is None else read(self.comparison, self.until)

    def about(self, answer: Any) -> None:
        assert answer["range"] == span(self.days)
        assert answer["comparison"] == span(self.comparison)
        until = answer["comparison_until"]
        assert (None if until is None else datetime.fromisoformat(until)) == self.until

    def metrics(self, now: Row, before: Row | None) -> dict[str, Any]:
        values = self.reading.figures(now)
        previous = {} if before is None else self.reading.figures(before)
        return {
            name: {
                "value": value,
                "previous": previous.get(name),
                "change": change(value, previous.get(name)),
            }
            for name, value in values.items()
        }


def plain(metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {key: figure[key] for key in ("value", "previous", "change")}
        for name, figure in metrics.items()
    }


async def check_stats(site: Site, question: Question, dice: random.Random) -> None:
    reading = question.reading
    now, before = question.both(lambda d, u: reading.measures(d, u, question.chosen))
    answer = (await site.get(question.path("stats"), reading.shop.name)).json
    question.about(answer)
    row = now.get("", reading.nothing())
    earlier = None if before is None else before.get("", reading.nothing())
    assert plain(answer["metrics"]) == question.metrics(row, earlier)
    assert [
        (o["currency"], o["purchases"], Decimal(o["gross_revenue"]), Decimal(o["refund_value"]))
        for o in answer["other_currencies"]
    ] == row["other"]


async def check_parts(site: Site, question: Question, dice: random.Random) -> None:
    reading = question.reading
    route, apart, key = dice.choice(
        [
            ("stats/locations", "location", "location_id"),
            ("channels", "channel", "name"),
            ("devices", "device", "name"),
            ("countries", "country", "name"),
        ]
    )
    now, before = question.both(lambda d, u: reading.measures(d, u, question.chosen, apart=apart))
    answer = (await site.get(question.path(route, sort="sessions"), reading.shop.name)).json
    question.about(answer)
    nothing = reading.nothing()
    names = {*now, *(before or ())}
    assert {row[key]: plain(row["metrics"]) for row in answer["data"]} == {
        name: question.metrics(
            now.get(name, nothing), None if before is None else before.get(name, nothing)
        )
        for name in names
    }
    assert answer["total"] == len(names)


async def check_chart(site: Site, question: Question, dice: random.Random) -> None:
    shop = question.reading.shop
    granularity = dice.choice(["hour", "day", "week", "month"])
    names = ["sessions", "net_revenue", "bounce_rate", "events"]
    if granularity != "hour":
        names += ["total_users", "purchaser_conversion_rate"]
    path = question.path("stats/chart", granularity=granularity, metric=names)
    answer = (await site.get(path, shop.name)).json
    question.about(answer)
    if granularity == "hour":
        check_hours(answer, question, names)
        return
    steps: dict[Any, list[date]] = {}
    for number in range(question.days.days):
        day = question.days.start + timedelta(days=number)
        week = day - timedelta(days=(day.isoweekday() - shop.week_start) % 7)
        steps.setdefault(
            {"day": day, "week": week, "month": (day.year, day.month)}[granularity], []
        ).append(day)
    ranges = [DateRange(days[0], days[-1]) for days in steps.values()]
    assert [(p["start"], p["end"]) for p in answer["points"]] == [
        (days.start.isoformat(), days.end.isoformat()) for days in ranges
    ]
    for days, point in zip(ranges, answer["points"], strict=True):
        expect_values(question, days, None, names, point)
    if question.comparison is None or question.compare is Compare.YEAR:
        return
    distance = (question.comparison.start - question.days.start).days
    for days, point in zip(ranges, answer["comparison_points"], strict=True):
        until = question.until if days is ranges[-1] else None
        expect_values(question, days.shifted(distance), until, names, point)


def expect_values(
    question: Question, days: DateRange, until: datetime | None, names: list[str], point: Any
) -> None:
    reading = question.reading
    row = reading.measures(days, until, question.chosen).get("", reading.nothing())
    values = reading.figures(row)
    assert point["values"] == {name: values[name] for name in names}, (days, until)


def check_hours(answer: Any, question: Question, names: list[str]) -> None:
    reading = question.reading
    rows = reading.measures(question.days, None, question.chosen, hours=True)
    seen = {datetime.fromisoformat(p["start"]): p["values"] for p in answer["points"]}
    assert rows.keys() <= seen.keys()
    for hour, values in seen.items():
        expected = reading.figures(rows.get(hour, reading.nothing()))
        assert values == {name: expected[name] for name in names}
    midnight = datetime.combine(question.days.start, time(), reading.shop.zone)
    after = datetime.combine(question.days.end + timedelta(1), time(), reading.shop.zone)
    hours = (after.astimezone(UTC) - midnight.astimezone(UTC)) // timedelta(hours=1)
    assert len(seen) == hours


async def check_funnel(site: Site, question: Question, dice: random.Random) -> None:
    reading = question.reading
    minutes = dice.choice([1, 30, 90, 300, 1440])
    path = question.path("funnel", window_minutes=minutes)
    answer = (await site.get(path, reading.shop.name)).json
    question.about(answer)
    expected = reading.funnel(question.days, None, question.chosen, minutes)
    assert [answer["sessions"], *(s["sessions"] for s in answer["steps"])] == expected
    assert [step["name"] for step in answer["steps"]] == ["view", "cart", "checkout", "purchase"]
    assert [step["of_first"] for step in answer["steps"]] == [
        share(count, expected[1]) for count in expected[1:]
    ]
    earlier = [step["previous_sessions"] for step in answer["steps"]]
    if question.comparison is None:
        assert earlier == [None] * 4
    else:
        before = reading.funnel(question.comparison, question.until, question.chosen, minutes)
        assert earlier == before[1:]


SUMS: Final = {
    "top/pages": ("views", "sessions", "visitors", "entrances"),
    "top/products": (
        "views", "cart_additions", "purchases", "quantity", "revenue", "sessions", "visitors"
    ),
    "top/terms": ("views", "sessions", "visitors", "failures", "conversions"),
}  # fmt: skip
RATES: Final = {
    "bounce_rate": ("bounces", "entrances"),
    "failed_rate": ("failures", "views"),
    "conversion_rate": ("conversions", "sessions"),
}


async def check_top(site: Site, question: Question, dice: random.Random) -> None:
    reading = question.reading
    route = dice.choice(list(SUMS))
    kind = route.removeprefix("top/").removesuffix("s")
    sort, limit = dice.choice(SUMS[route]), dice.choice([1, 2, 50])
    rows: list[Any] = []
    more: dict[str, Any] = {}
    while True:
        path = question.path(route, sort=sort, limit=limit, **more)
        answer = (await site.get(path, reading.shop.name)).json
        question.about(answer)
        rows += answer["data"]
        if answer["next_cursor"] is None:
            break
        more = {"cursor": answer["next_cursor"]}
    now = reading.subjects(kind, question.days, None, question.chosen)
    before: dict[str, Row] = {}
    if question.comparison is not None:
        before = reading.subjects(kind, question.comparison, question.until, question.chosen)
    assert answer["total"] == len(now) == len(rows)
    assert [row["name"] for row in rows] == sorted(
        now, key=lambda name: (-Decimal(now[name].get(sort, 0)), name)
    )
    for row in rows:
        measures = now[row["name"]]
        earlier = before.get(row["name"], {})
        for name, figure in row["metrics"].items():
            assert _same(figure["value"], measures, name), (row, name, dict(measures))
            if question.comparison is None:
                assert figure["previous"] is None
            else:
                assert _same(figure["previous"], earlier, name), (row, name, dict(earlier))


def _same(value: Any, measures: Row, name: str) -> bool:
    if name in RATES:
        part, whole = RATES[name]
        return bool(value == share(measures.get(part, 0), measures.get(whole, 0)))
    return Decimal(str(value)) == Decimal(measures.get(name, 0))


CHECKS: Final = [check_stats, check_stats, check_parts, check_chart, check_funnel, check_top]


async def test_answers_equal_a_reading_of_the_raw_events(
    site: Site, shops: dict[str, RawReading]
) -> None:
    seed = int(os.environ.get("TROUPE_TEST_SEED", "20261126"))
    dice = random.Random(seed)
    for draw in range(DRAWS):
        question = Question(dice.choice(list(shops.values())), dice)
        check = dice.choice(CHECKS)
        try:
            await check(site, question, dice)
        except AssertionError as error:
            shop = question.reading.shop.name
            error.add_note(f"draw {draw} of seed {seed}: {check.__name__} {shop}")
            error.add_note(f"{question.path('…')} until {question.until}")
            raise


async def test_everything_at_once_says_what_its_parts_say(
    site: Site, shops: dict[str, RawReading]
) -> None:
    for name in shops:
        said = "start_date=2026-10-21&end_date=2026-11-02&compare=previous&device=mobile"
        whole = (await site.get(f"/api/v1/stats/complete?{said}&metric=sessions", name)).json

        async def ask(route: str, more: str = "", name: str = name, said: str = said) -> Any:
            return (await site.get(f"/api/v1/{route}?{said}{more}", name)).json

        stats, chart = await ask("stats"), await ask("stats/chart", "&metric=sessions")
        assert whole["metrics"] == stats["metrics"]
        assert whole["other_currencies"] == stats["other_currencies"]
        assert whole["points"] == chart["points"]
        assert whole["comparison_points"] == chart["comparison_points"]
        assert whole["comparison_until"] == stats["comparison_until"]
        assert whole["locations"] == (await ask("stats/locations"))["data"]
        for route in ("channels", "devices", "countries"):
            assert whole[route] == (await ask(route))["data"]
        assert whole["funnel"] == (await ask("funnel"))["steps"]


def test_the_shops_hold_what_the_checks_are_about(shops: dict[str, RawReading]) -> None:
    """Random data could be too plain to tell right from wrong."""
    for reading in shops.values():
        everything = DateRange(FIRST_DAY - timedelta(1), FIRST_DAY + timedelta(DAYS))
        sessions = reading.base.sessions.values()
        assert any(session["day"] < session["last_day"] for session in sessions)
        assert any(not purchase["counted"] for purchase in reading.base.purchases)
        funnel = reading.funnel(everything, None, {}, 1440)
        assert funnel[-1] > 0
        assert funnel[-1] != reading.funnel(everything, None, {}, 90)[-1]
        for kind in ("page", "product", "term"):
            assert len(reading.subjects(kind, everything, None, {})) >= 3
        whole = reading.measures(everything)[""]
        parts = reading.measures(everything, apart="channel").values()
        assert sum(part["total_users"] for part in parts) > whole["total_users"] > 0
