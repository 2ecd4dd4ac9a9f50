"""Python values of literals and parameters.

Only the canonical spellings of GoogleSQL are read; whatever else BigQuery might also accept is
refused, so that a literal never means something here that it does not mean there.
"""

import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

from troupe_demo.bigquery.types import Kind, Type

_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})")
_MOMENT = re.compile(
    r"(?P<date>\d{4}-\d{1,2}-\d{1,2})"
    r"(?:[ Tt](?P<hour>\d{1,2}):(?P<minute>\d{1,2}):(?P<second>\d{1,2})(?:\.(?P<fraction>\d{1,6}))?"
    r"(?P<zone> ?UTC|[Zz]|[+-]\d{2}(?::\d{2})?)?)?"
)


def python_value(value: Any, type_: Type) -> Any:  # noqa: PLR0911 - one line per type
    """The constant of ``type_`` that ``value`` spells.

    Dates, datetimes and times are ``datetime`` objects; a TIMESTAMP is zoneless, in UTC.

    Raises:
        ValueError: It spells none.
    """
    match type_.kind:
        case Kind.INT64:
            number = int(value)
            if not -(2**63) <= number < 2**63:
                raise ValueError(value)
            return number
        case Kind.FLOAT64:
            return float(value)
        case Kind.NUMERIC:
            return numeric(Decimal(str(value)))
        case Kind.BOOL:
            if str(value).lower() not in ("true", "false"):
                raise ValueError(value)
            return str(value).lower() == "true"
        case Kind.DATE:
            return value if isinstance(value, date) else _date(value)
        case Kind.TIME:
            return time.fromisoformat(value)
        case Kind.DATETIME if isinstance(value, date):
            return datetime.combine(value, time())
        case Kind.DATETIME | Kind.TIMESTAMP:
            return _moment(value, zoned=type_.kind is Kind.TIMESTAMP)
        case _:
            return value


def _date(text: str) -> date:
    match = _DATE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    year, month, day = map(int, match.groups())
    return date(year, month, day)


def _moment(text: str, *, zoned: bool) -> datetime:
    match = _MOMENT.fullmatch(text)
    if match is None or (match["zone"] and not zoned):
        raise ValueError(text)
    clock = time(
        int(match["hour"] or 0),
        int(match["minute"] or 0),
        int(match["second"] or 0),
        int((match["fraction"] or "").ljust(6, "0")),
    )
    local = datetime.combine(_date(match["date"]), clock, tzinfo=_offset(match["zone"]))
    return local.astimezone(UTC).replace(tzinfo=None)


def _offset(zone: str | None) -> timezone:
    if zone is None or zone.strip().upper() in ("UTC", "Z"):
        return UTC
    hours, _, minutes = zone[1:].partition(":")
    offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
    return timezone(-offset if zone.startswith("-") else offset)


def numeric(value: Decimal) -> Decimal:
    """A NUMERIC: nine decimal places, half away from zero, 29 digits before the point.

    Raises:
        ValueError: Out of range or not finite.
    """
    if not value.is_finite() or abs(value) >= Decimal(10) ** 29:
        raise ValueError(value)
    return value.quantize(Decimal("1e-9"), rounding="ROUND_HALF_UP")
