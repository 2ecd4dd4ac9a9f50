"""Figures as a person reads them. The API sends exact values; only pages and mails round."""

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date, format_time
from babel.numbers import (
    format_compact_currency,
    format_compact_decimal,
    format_currency,
    format_decimal,
    format_percent,
    format_scientific,
)

from troupe.actors.analytics.metrics import Better, Figure, Unit

LOCALE: Final = Locale.parse("en")
UNKNOWN: Final = "–"
_LETTERS: Final = re.compile(r"[A-Za-z](?=\d)(?<!E)")
_WITHOUT_CENTS_FROM: Final = 100_000
_COMPACT_FROM: Final = 10**9
_FINE_BELOW: Final = Decimal("0.1")
"""Conversion rates of shops differ in the second place after the point."""
_SHORT: Final = 10
"""Seconds below which tenths matter."""
_ABSURD_FROM: Final = 10**15
"""Whoever can send a hit can claim a purchase of any size; it must not break the page."""


def figure(value: Figure, unit: Unit, currency: str) -> str:
    """A figure in full: money with its currency, ratios in percent, an en dash for unknown."""
    if value is None:
        return UNKNOWN
    if _size(value) >= _ABSURD_FROM:
        return _absurd(value, unit, currency)
    match unit:
        case Unit.MONEY:
            return _signed(format_currency(value, currency, locale=LOCALE))
        case Unit.RATIO:
            places = "0.00" if _size(value) < _FINE_BELOW else "0.0"
            return _signed(format_percent(value, f"#,##{places}%", locale=LOCALE))
        case Unit.COUNT:
            return _signed(format_decimal(value, locale=LOCALE))


def count(value: int) -> str:
    """A whole number with its thousands apart."""
    return figure(value, Unit.COUNT, "")


def share(value: Decimal | None) -> str:
    """A part of a whole in percent, as in the table of branches."""
    return figure(value, Unit.RATIO, "")


def headline(value: Figure, unit: Unit, currency: str) -> str:
    """A figure for a card: no cents once they do not matter, and short once it is very large."""
    if value is None or unit is Unit.RATIO:
        return figure(value, unit, currency)
    if not _WITHOUT_CENTS_FROM <= _size(value) < _ABSURD_FROM:
        return figure(value, unit, currency)
    if _size(value) >= _COMPACT_FROM:
        return _compact(value, unit, currency, 2)
    if unit is Unit.MONEY:
        text = format_currency(value, currency, "¤#,##0", locale=LOCALE, currency_digits=False)
        return _signed(text)
    return figure(value, unit, currency)


def axis(value: Figure, unit: Unit, currency: str) -> str:
    """A short label for an axis: 12K, €1.2M, 45%."""
    if value is None or _size(value) >= _ABSURD_FROM:
        return figure(value, Unit.COUNT, currency)
    if unit is Unit.RATIO:
        return _signed(format_percent(value, "#,##0.##%", locale=LOCALE))
    if value == 0 or _size(value) >= 1:
        return _compact(value, unit, currency, 1)
    return figure(value, unit, currency)


def _size(value: int | Decimal) -> Decimal:
    return abs(Decimal(value))


def _compact(value: int | Decimal, unit: Unit, currency: str, digits: int) -> str:
    if unit is Unit.MONEY:
        return _signed(
            format_compact_currency(value, currency, locale=LOCALE, fraction_digits=digits)
        )
    return _signed(format_compact_decimal(value, locale=LOCALE, fraction_digits=digits))


def _absurd(value: int | Decimal, unit: Unit, currency: str) -> str:
    text = format_scientific(value, "0.##E0", locale=LOCALE)
    return _signed(f"{currency} {text}" if unit is Unit.MONEY else text)


def _signed(text: str) -> str:
    """With a real minus, and a space between a currency's letters and its digits."""
    return _LETTERS.sub("\\g<0>\N{NO-BREAK SPACE}", str(text).replace("-", "−"))


def exact(value: Figure) -> str:
    """A figure for programs that read the page: every digit, nothing else; empty for unknown."""
    return "" if value is None else format(Decimal(value), "f")


def relative(difference: Decimal | None, value: Figure = None, previous: Figure = None) -> str:
    """A relative change with its sign, +12.3%; "new" where there was nothing to divide by."""
    if difference is None:
        return "new" if value and previous == 0 else UNKNOWN
    if abs(difference) >= 10_000:
        return f"{'+' if difference > 0 else '−'}999,999%"
    places = "" if abs(difference) >= 10 else ".0"
    sign = "+" if difference else ""
    text = format_percent(difference, f"{sign}#,##0{places}%;−#,##0{places}%", locale=LOCALE)
    return str(text)


def tone(value: Decimal | None, better: Better) -> str:
    """Whether a change is ``good``, ``bad`` or ``flat`` news, given which direction is better."""
    if not value or better is Better.NEITHER:
        return "flat"
    return "good" if (value > 0) == (better is Better.MORE) else "bad"


def day(value: date, *, year: bool = False) -> str:
    """22 Nov, or 22 Nov 2026."""
    return str(format_date(value, "d MMM y" if year else "d MMM", locale=LOCALE))


def month(value: date) -> str:
    """Nov 2026."""
    return str(format_date(value, "MMM y", locale=LOCALE))


def weekday(value: date) -> str:
    """Sun 22 Nov 2026."""
    return str(format_date(value, "EEE d MMM y", locale=LOCALE))


def clock(value: datetime) -> str:
    """14:00, in the zone that the value carries."""
    return str(format_time(value, "HH:mm", tzinfo=value.tzinfo, locale=LOCALE))


def moment(value: datetime, zone: ZoneInfo) -> str:
    """27 Nov 2026, 00:36, in the zone.

    >>> moment(datetime(2026, 11, 26, 23, 36, tzinfo=UTC), ZoneInfo("Europe/Berlin"))
    '27 Nov 2026, 00:36'
    """
    local = value.astimezone(zone)
    return f"{day(local.date(), year=True)}, {clock(local)}"


def duration(seconds: float) -> str:
    """How long something took: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min.

    >>> duration(0.42), duration(200), duration(7500)
    ('0.4 s', '3 min 20 s', '2 h 5 min')
    """
    if seconds < _SHORT:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def days(start: date, end: date, *, year: bool = True) -> str:
    """25 Oct – 21 Nov 2026, as short as it can be understood."""
    if start == end:
        return day(start, year=year)
    return f"{day(start, year=year and start.year != end.year)} – {day(end, year=year)}"


def initials(name: str) -> str:
    """At most two letters that stand for a person: AL for Ada Lovelace.

    >>> initials("ada von lovelace"), initials("?"), initials("")
    ('AL', '?', '·')
    """
    words = [word for word in re.split(r"[^\w]+", name) if word]
    chosen = [words[0], words[-1]] if len(words) > 1 else words
    return "".join(word[0] for word in chosen).upper() or name[:1] or "\N{MIDDLE DOT}"


def moment_in_full(value: datetime, zone: ZoneInfo) -> str:
    """Thu 26 Nov 2026, 14:05:09 Europe/Berlin."""
    local = value.astimezone(zone)
    return f"{weekday(local.date())}, {local:%H:%M:%S} {zone}"


def ratio(value: float | None) -> str:
    """12.3%, of a ratio as the API tells it."""
    return figure_of(value, Unit.RATIO, "")


def signed_count(value: Decimal) -> str:
    """+12 or −3: how many more or fewer, as whole numbers."""
    whole = round(value)
    text = figure(whole, Unit.COUNT, "")
    return f"+{text}" if whole > 0 else text


def figure_of(value: float | Decimal | None, unit: Unit, currency: str) -> str:
    """A figure as the API or a task's facts tell it, which may be a binary number."""
    exactly = None if value is None else Decimal(str(value))
    return figure(
        exactly if unit is not Unit.COUNT or exactly is None else int(exactly), unit, currency
    )


def relative_of(value: float | Decimal | None) -> str:
    """A relative change as the API tells it."""
    return relative(None if value is None else Decimal(str(value)))


def tone_of(value: float | Decimal | None, better: Better) -> str:
    """As `tone`, of a change as the API tells it."""
    return tone(None if value is None else Decimal(str(value)), better)
