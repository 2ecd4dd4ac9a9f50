"""Figures as a person reads them. The API sends exact values; only pages and mails round."""

from datetime import date, datetime
from decimal import Decimal
from typing import Final

from babel.dates import format_date, format_time, format_timedelta
from babel.numbers import (
    format_compact_currency,
    format_compact_decimal,
    format_currency,
    format_decimal,
    format_percent,
)

from troupe.actors.analytics.metrics import Better, Figure, Unit

LOCALE: Final = "en"
UNKNOWN: Final = "–"
_COMPACT_FROM: Final = 100_000


def figure(value: Figure, unit: Unit, currency: str) -> str:
    """A figure in full: money with its currency, ratios in percent, an en dash for unknown."""
    if value is None:
        return UNKNOWN
    match unit:
        case Unit.MONEY:
            return str(format_currency(value, currency, locale=LOCALE))
        case Unit.RATIO:
            return str(format_percent(value, "#,##0.0%", locale=LOCALE))
        case Unit.COUNT:
            return str(format_decimal(value, locale=LOCALE))


def headline(value: Figure, unit: Unit, currency: str) -> str:
    """A figure for a card: money without cents once it is large enough that they do not matter."""
    if unit is Unit.MONEY and isinstance(value, Decimal) and abs(value) >= _COMPACT_FROM:
        return str(format_currency(value, currency, "¤#,##0", locale=LOCALE, currency_digits=False))
    return figure(value, unit, currency)


def axis(value: float, unit: Unit, currency: str) -> str:
    """A short label for an axis: 12K, €1.2M, 45%."""
    match unit:
        case Unit.MONEY:
            return str(
                format_compact_currency(
                    Decimal(value), currency, locale=LOCALE, fraction_digits=1 if value else 0
                )
            )
        case Unit.RATIO:
            return str(format_percent(value, "#,##0.#%", locale=LOCALE))
        case Unit.COUNT:
            return str(format_compact_decimal(value, locale=LOCALE, fraction_digits=1))


def relative(value: Decimal | None) -> str:
    """A relative change with its sign: +12.3%."""
    if value is None:
        return UNKNOWN
    return str(format_percent(value, "+#,##0.0%;−#,##0.0%", locale=LOCALE))


def tone(value: Decimal | None, better: Better) -> str:
    """Whether a change is ``good``, ``bad`` or ``flat`` news, given which direction is better."""
    if not value or better is Better.NEITHER:
        return "flat"
    return "good" if (value > 0) == (better is Better.MORE) else "bad"


def day(value: date, *, year: bool = False) -> str:
    """22 Nov, or 22 Nov 2026."""
    return str(format_date(value, "d MMM y" if year else "d MMM", locale=LOCALE))


def hour(value: datetime) -> str:
    """22 Nov 14:00, in the zone that the value carries."""
    return f"{day(value.date())} {format_time(value, 'HH:mm', tzinfo=value.tzinfo, locale=LOCALE)}"


def age(value: datetime, now: datetime) -> str:
    """How long ago: 3 minutes ago."""
    return str(format_timedelta(value - now, add_direction=True, locale=LOCALE))
