from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from troupe.actors.analytics.metrics import Better, Figure, Unit
from troupe.http.dashboard import formats


@pytest.mark.parametrize(
    ("value", "unit", "currency", "full", "card", "axis"),
    [
        (None, Unit.MONEY, "EUR", "–", "–", "–"),
        (Decimal(0), Unit.MONEY, "EUR", "€0.00", "€0.00", "€0"),
        (Decimal("0.005"), Unit.MONEY, "EUR", "€0.00", "€0.00", "€0.00"),
        (Decimal("1234.5"), Unit.MONEY, "EUR", "€1,234.50", "€1,234.50", "€1.2K"),
        (Decimal("-1234.5"), Unit.MONEY, "EUR", "−€1,234.50", "−€1,234.50", "−€1.2K"),
        (Decimal("123456.78"), Unit.MONEY, "EUR", "€123,456.78", "€123,457", "€123.5K"),
        (Decimal("1e10"), Unit.MONEY, "USD", "$10,000,000,000.00", "$10B", "$10B"),
        (Decimal("1e308"), Unit.MONEY, "EUR", "EUR 1E308", "EUR 1E308", "1E308"),
        (Decimal(1999), Unit.MONEY, "JPY", "¥1,999", "¥1,999", "¥2K"),
        (Decimal("88.5"), Unit.MONEY, "CHF", "CHF 88.50", "CHF 88.50", "CHF 88.5"),
        (0, Unit.COUNT, "EUR", "0", "0", "0"),
        (1234567, Unit.COUNT, "EUR", "1,234,567", "1,234,567", "1.2M"),
        (12_345_678_901, Unit.COUNT, "EUR", "12,345,678,901", "12.35B", "12.3B"),
        (Decimal("0.4567"), Unit.RATIO, "EUR", "45.7%", "45.7%", "45.67%"),
        (Decimal("0.0182"), Unit.RATIO, "EUR", "1.82%", "1.82%", "1.82%"),
        (Decimal(1), Unit.RATIO, "EUR", "100.0%", "100.0%", "100%"),
    ],
)
def test_figures_read_well(
    value: Figure, unit: Unit, currency: str, full: str, card: str, axis: str
) -> None:
    texts = [
        function(value, unit, currency).replace("\N{NO-BREAK SPACE}", " ")
        for function in (formats.figure, formats.headline, formats.axis)
    ]
    assert texts == [full, card, axis]


@pytest.mark.parametrize(
    ("difference", "value", "previous", "text"),
    [
        (Decimal("0.1234"), 2, 1, "+12.3%"),
        (Decimal("-0.5"), 1, 2, "−50.0%"),
        (Decimal(0), 1, 1, "0.0%"),
        (Decimal("12.3"), 1, 1, "+1,230%"),
        (Decimal(10**9), 1, 1, "+999,999%"),
        (Decimal(-(10**9)), 1, 1, "−999,999%"),
        (None, 5, 0, "new"),
        (None, 0, 0, "–"),
        (None, None, 5, "–"),
        (None, 5, None, "–"),
    ],
)
def test_changes_read_well(
    difference: Decimal | None, value: Figure, previous: Figure, text: str
) -> None:
    assert formats.relative(difference, value, previous) == text


def test_good_news_depends_on_the_figure() -> None:
    up, down = Decimal("0.1"), Decimal("-0.1")
    assert [formats.tone(up, better) for better in Better] == ["good", "bad", "flat"]
    assert [formats.tone(down, better) for better in Better] == ["bad", "good", "flat"]
    assert formats.tone(None, Better.MORE) == formats.tone(Decimal(0), Better.MORE) == "flat"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0, "0"),
        (10**20, "100000000000000000000"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0.000001"), "0.000001"),
        (Decimal("12.50"), "12.50"),
    ],
)
def test_programs_read_every_digit(value: Figure, text: str) -> None:
    assert formats.exact(value) == text


def test_days_are_as_short_as_they_can_be_understood() -> None:
    first, last = date(2026, 10, 25), date(2026, 11, 21)
    assert formats.days(first, last) == "25 Oct – 21 Nov 2026"
    assert formats.days(first, first) == "25 Oct 2026"
    assert formats.days(date(2025, 12, 31), last) == "31 Dec 2025 – 21 Nov 2026"
    assert formats.weekday(last) == "Sat 21 Nov 2026"
    assert formats.month(last) == "Nov 2026"
    assert formats.clock(datetime(2026, 11, 21, 14, 5, tzinfo=UTC)) == "14:05"
