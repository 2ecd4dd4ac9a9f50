"""What a number in a workbook says: a number, a date, a time, an id with leading zeros.

A number is written with as few digits as tell it apart from its neighbours, and never with an
exponent; a whole number keeps all the digits that stand in the file.

A workbook stores all of them as decimal numbers; which it is, only the cell's number format tells,
by a code such as ``dd/mm/yyyy``. Codes are read as far as needed to know that much.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, Literal

MAX_DIGITS: Final = 400
"""Characters of a number; a double written out has 325."""

_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_LITERALS: Final = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?!(?:h+|m+|s+)\])[^\]]*\]', re.IGNORECASE)
_ELAPSED: Final = re.compile(r"\[(h+|m+|s+)\]", re.IGNORECASE)
_DATE_BUILTINS: Final = frozenset({*range(14, 18), 22, *range(27, 37), *range(50, 59)})
_TIME_BUILTINS: Final = frozenset({18, 19, 20, 21, 45, 47})
_ELAPSED_BUILTIN: Final = 46
_DAY: Final = 86_400
_LAST_SERIAL: Final = 2_958_466
"""The day after 31 December 9999."""
_PHANTOM: Final = 60
"""29 February 1900, which Excel believes in."""


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """How numbers of a style are to be understood.

    Attributes:
        meaning: What they stand for.
        zeros: Digits to which a whole number is filled up; 0: as it is.
    """

    meaning: Literal["number", "date", "elapsed"] = "number"
    zeros: int = 0


def read_format(code: str) -> NumberFormat:
    """What a format's code means."""
    first = code.split(";", 1)[0][:256]
    if _ELAPSED.search(first):
        return NumberFormat("elapsed")
    bare = _LITERALS.sub("", first).strip()
    if bare and set(bare) == {"0"} and bare == first.strip():
        return NumberFormat(zeros=len(bare))
    if bare.casefold() in {"general", "standard", "@"}:
        return NumberFormat()
    # E stands for an exponent (0.00E+00) or, rarely, a year; with digits around it is the former.
    if re.search(r"[dmyhs]", bare, re.IGNORECASE) and not re.search(
        r"[0#?]", re.sub(r"\.0+", "", bare)
    ):
        return NumberFormat("date")
    return NumberFormat()


def own_formats(codes: Mapping[int, str]) -> dict[int, NumberFormat]:
    """The formats that a workbook brings, by number."""
    return {number: read_format(code) for number, code in codes.items()}


def format_of(number: int, own: Mapping[int, NumberFormat]) -> NumberFormat:
    """The format of a number, the workbook's own or one that every program knows."""
    if number in own:
        return own[number]
    if number in _DATE_BUILTINS or number in _TIME_BUILTINS:
        return NumberFormat("date")
    return NumberFormat("elapsed") if number == _ELAPSED_BUILTIN else NumberFormat()


def number_text(text: str, shown: NumberFormat, *, from_1904: bool) -> tuple[str, str | None]:
    """A number's text, and why it has none.

    Args:
        text: As it stands in the file.
        shown: What it stands for.
        from_1904: Whether days are counted from 1904 instead of 1900.
    """
    value = _value_of(text)
    if value is None:
        return "", "is not a number, although it says so"
    if shown.meaning == "number":
        return _plain(value, shown.zeros), None
    return _elapsed(value) if shown.meaning == "elapsed" else _instant(value, from_1904=from_1904)


def _value_of(text: str) -> Decimal | None:
    if len(text) > MAX_DIGITS or not _NUMBER.fullmatch(text):
        return None
    if text.isdigit():
        return Decimal(text)
    # A double. 1.1000000000000001, as Excel writes it, and 1.1 tell the same one.
    value = Decimal(repr(float(text)))
    return value if value.is_finite() else None


def _plain(value: Decimal, zeros: int) -> str:
    whole = value.to_integral_value()
    if value != whole:
        return format(value, "f").rstrip("0")
    text = format(whole, "f")
    if text == "-0":
        text = "0"
    return text if text.startswith("-") else text.rjust(zeros, "0")


def _seconds(value: Decimal) -> tuple[int, int]:
    """Whole days and the milliseconds of the day; a double cannot tell anything finer."""
    milliseconds = int((value * _DAY * 1000).to_integral_value())
    return divmod(milliseconds, _DAY * 1000)


def _instant(value: Decimal, *, from_1904: bool) -> tuple[str, str | None]:
    if not 0 <= value < _LAST_SERIAL:
        return "", "is a date outside of the calendar"
    days, milliseconds = _seconds(value)
    time = timedelta(milliseconds=milliseconds)
    if days == 0 and not from_1904:
        return _clock(datetime(1900, 1, 1) + time), None  # noqa: DTZ001 - only its time is shown
    if from_1904:
        epoch = datetime(1904, 1, 1)  # noqa: DTZ001 - a sheet's dates have no zone
    elif days == _PHANTOM:
        return "", "is 29 February 1900, a day that never was"
    else:
        epoch = datetime(1899, 12, 31 if days < _PHANTOM else 30)  # noqa: DTZ001
    try:
        instant = epoch + timedelta(days=days) + time
    except OverflowError:
        return "", "is a date outside of the calendar"
    day = instant.date().isoformat()
    return day if not milliseconds else f"{day}T{_clock(instant)}", None


def _clock(instant: datetime) -> str:
    return instant.time().isoformat("milliseconds" if instant.microsecond else "seconds")


def _elapsed(value: Decimal) -> tuple[str, str | None]:
    if not 0 <= value < _LAST_SERIAL:
        return "", "is a time outside of what can be told"
    days, milliseconds = _seconds(value)
    minutes, seconds = divmod(days * _DAY + milliseconds // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}", None
