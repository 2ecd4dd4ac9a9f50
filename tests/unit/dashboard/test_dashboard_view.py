from datetime import date, timedelta

import pytest
from pydantic import ValidationError

from troupe.actors.analytics.filters import EVERYTHING, Filters
from troupe.common.dates import Compare, DateRange, Granularity
from troupe.http.conventions import Preset
from troupe.http.dashboard.view import CARDS, OverviewQuery, View

TODAY = date(2026, 11, 22)


def view(days: int | None = None, **sent: str) -> View:
    query = OverviewQuery.model_validate(sent)
    resolved = query.resolve(TODAY)
    if days is not None:
        resolved = DateRange(resolved.end - timedelta(days=days - 1), resolved.end)
    return View(query, resolved)


def test_an_empty_address_is_the_usual_page() -> None:
    usual = view()
    assert usual.preset is Preset.LAST_28_DAYS
    assert usual.query.compare is Compare.PREVIOUS
    assert usual.query.metric == CARDS[0]
    assert usual.granularity is Granularity.DAY
    assert usual.link() == "/"
    assert usual.filters == EVERYTHING
    assert usual.narrowed == {}


def test_dates_make_the_period_custom_and_survive_other_changes() -> None:
    custom = view(start_date="2026-10-03", end_date="2026-11-01")
    assert custom.preset is None
    assert custom.link(metric="sessions") == (
        "/?start_date=2026-10-03&end_date=2026-11-01&metric=sessions"
    )
    assert custom.hidden("start_date", "end_date") == [
        ("start_date", "2026-10-03"),
        ("end_date", "2026-11-01"),
    ]
    # What the form sends when "Custom" is left as it is.
    sent = view(preset="", start_date="2026-10-03", end_date="2026-11-01", compare="none")
    assert sent.days == DateRange(date(2026, 10, 3), date(2026, 11, 1))


def test_a_named_period_wins_over_dates_that_stood_beside_it() -> None:
    sent = view(preset="7d", start_date="2026-10-03", end_date="2026-11-01", compare="year")
    assert sent.days == DateRange(date(2026, 11, 15), date(2026, 11, 21))
    assert sent.link() == "/?preset=7d&compare=year"


def test_empty_fields_are_none_but_an_empty_branch_is_a_branch() -> None:
    sent = view(preset="", compare="", granularity="", metric="", start_date="", location="")
    assert sent.location == ""
    assert sent.filters == Filters(("",))
    assert sent.link() == "/?location="
    assert sent.link(location=None) == "/"


@pytest.mark.parametrize(
    ("days", "metric", "offered", "automatic"),
    [
        (1, "sessions", "hour day", "hour"),
        (1, "total_users", "day", "day"),
        (7, "sessions", "hour day", "day"),
        (28, "sessions", "day week", "day"),
        (92, "sessions", "day week month", "day"),
        (93, "sessions", "day week month", "week"),
        (401, "sessions", "day week month", "month"),
        (3000, "sessions", "week month", "month"),
    ],
)
def test_steps_suit_the_period(days: int, metric: str, offered: str, automatic: str) -> None:
    shown = view(days, metric=metric)
    assert " ".join(shown.granularities) == offered
    assert shown.granularity == automatic


def test_impossible_steps_give_way() -> None:
    assert view(1, metric="total_users", granularity="hour").granularity is Granularity.DAY
    assert view(28, granularity="hour").granularity is Granularity.DAY
    assert view(28, granularity="week").granularity is Granularity.WEEK


@pytest.mark.parametrize(
    "sent",
    [{"metric": "events"}, {"preset": "8d"}, {"granularity": "minute"}, {"location": "x" * 101}],
)
def test_what_the_page_cannot_show_is_refused(sent: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        OverviewQuery.model_validate(sent)


def test_filters_narrow_each_other_and_every_form_carries_them() -> None:
    sent = view(location="b1", channel="Organic Search", device="", compare="none")
    assert sent.filters == Filters(("b1",), ("Organic Search",), ("",))
    assert sent.narrowed == {"location": "b1", "channel": "Organic Search", "device": ""}
    assert [name for name, _ in sent.hidden()] == ["location", "channel", "device"]
    assert sent.link(channel=None, compare=None) == "/?location=b1&device="


def test_what_was_looked_at_narrows_like_all_else() -> None:
    sent = view(product="P1", page="https://a.example/x", term="hammer", country="")
    assert sent.filters == Filters(
        countries=("",), products=("P1",), pages=("https://a.example/x",), terms=("hammer",)
    )
    assert sent.link(country=None, page=None) == "/?product=P1&term=hammer"
    assert view(product="", page="", term="").filters == Filters()


def test_the_same_days_earlier_and_later() -> None:
    week = view(preset="7d", metric="sessions")
    assert week.shifted(-1) == "/?metric=sessions&start_date=2026-11-08&end_date=2026-11-14"
    assert week.shifted(1) == "/?metric=sessions&start_date=2026-11-22&end_date=2026-11-28"
    assert view(start_date="2000-01-01", end_date="2000-01-09").shifted(-1) == (
        "/?start_date=2000-01-01&end_date=2000-01-01"
    )
