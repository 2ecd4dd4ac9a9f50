"""Dates, datetimes, timestamps and time zones."""

import functools
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from sqlglot import exp

from troupe_demo.bigquery.sql.calls import (
    SAFE_FUNCTIONS,
    Call,
    function,
    simple,
    single_signature,
)
from troupe_demo.bigquery.sql.compilation import (
    compile_expression,
    compiles,
    constant,
    invalid,
    refusal,
)
from troupe_demo.bigquery.sql.expressions import (
    Expression,
    coerce,
    coercible,
    combine,
    expand,
    literal,
    text,
)
from troupe_demo.bigquery.sql.scopes import Scope
from troupe_demo.bigquery.sql.time_formats import formatted, parsed
from troupe_demo.bigquery.types import (
    DATE,
    DATETIME,
    INT64,
    STRING,
    TIMESTAMP,
    Kind,
    Type,
    array_of,
)

_MICROS: Final = {
    "MICROSECOND": 1,
    "MILLISECOND": 1_000,
    "SECOND": 1_000_000,
    "MINUTE": 60_000_000,
    "HOUR": 3_600_000_000,
    "DAY": 86_400_000_000,
}
_CLOCK: Final = frozenset(_MICROS) - {"DAY"}
_MONTHS: Final = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}
_WEEK = ("SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY")
_WEEKDAYS: Final = {day: number for number, day in enumerate(_WEEK)}


@dataclass(frozen=True, slots=True)
class DatePart:
    """``DAY``, ``WEEK(MONDAY)`` …; ``first`` is the first weekday of a week, 0 for Sunday."""

    name: str
    first: int = 0


def date_part(node: exp.Expr, scope: Scope) -> DatePart:
    """The date part that an argument names."""
    if isinstance(node, exp.Anonymous) and node.name.upper() == "WEEK" and len(node.expressions):
        day = node.expressions[0].name.upper()
        if day in _WEEKDAYS:
            return DatePart("WEEK", _WEEKDAYS[day])
    elif isinstance(node, (exp.Column, exp.Var)) and not node.args.get("table"):
        return DatePart(node.name.upper())
    raise invalid(f"A valid date part name is required but found {node.sql()}", node, scope)


def _unsupported(part: DatePart, call: Call) -> Exception:
    return call.refuse(f"the date part {part.name} in {call.name}")


@functools.cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def zone_of(node: exp.Expr, scope: Scope) -> str:
    """DuckDB text of a time zone's name.

    Raises:
        BigQueryError: It is not a known name, or not known while compiling.
    """
    name = constant(node, scope, Kind.STRING, "a time zone")
    if name not in _zones():
        if name[:1] in ("+", "-"):
            raise refusal("a time zone given as an offset", node, scope)
        raise invalid(f"Invalid time zone: {name}", node, scope)
    return text(name)


def _local(instant: str, zone: str | None) -> str:
    """DuckDB text of an instant's local time; UTC without a zone."""
    return instant if zone is None else f"bq_to_zone({instant}, {zone})"


# -- now


@function("CURRENT_TIMESTAMP")
def _current_timestamp(call: Call) -> Expression:
    call.take(0)
    return literal(call.scope.compilation.now, TIMESTAMP)


@compiles(exp.CurrentTimestamp)
def _bare_current_timestamp(_node: exp.Expr, scope: Scope) -> Expression:
    return literal(scope.compilation.now, TIMESTAMP)


@function("CURRENT_DATE", "CURRENT_DATETIME")
def _current_date(call: Call) -> Expression:
    call.take(0, 1)
    now = call.scope.compilation.now
    if len(call):
        name = call.constant(0, Kind.STRING, "a time zone")
        zone_of(call.nodes[0], call.scope)
        now = now.replace(tzinfo=UTC).astimezone(ZoneInfo(name)).replace(tzinfo=None)
    return _today(now) if call.name == "CURRENT_DATE" else literal(now, DATETIME)


@compiles(exp.CurrentDate)
def _bare_current_date(node: exp.CurrentDate, scope: Scope) -> Expression:
    if node.this is not None:
        raise refusal("this form of CURRENT_DATE", node, scope)
    return _today(scope.compilation.now)


def _today(now: datetime) -> Expression:
    return literal(date(now.year, now.month, now.day), DATE)


# -- conversions

simple("UNIX_SECONDS", (TIMESTAMP,), INT64, "bq_floor_div(epoch_us({0}), 1000000)")
simple("UNIX_MILLIS", (TIMESTAMP,), INT64, "bq_floor_div(epoch_us({0}), 1000)")
simple("UNIX_MICROS", (TIMESTAMP,), INT64, "epoch_us({0})")
simple("UNIX_DATE", (DATE,), INT64, "({0} - DATE '1970-01-01')")
simple(
    "DATE_FROM_UNIX_DATE",
    (INT64,),
    DATE,
    "CAST(bq_in_range(TIMESTAMP '1970-01-01' + to_days(CAST({0} AS INTEGER)), 'DATE') AS DATE)",
    fallible=True,
)
for _unit, _scale in (("SECONDS", 1_000_000), ("MILLIS", 1_000), ("MICROS", 1)):
    _micros = f"{{0}} * {_scale}"
    _name = f"TIMESTAMP_{_unit}"
    simple(_name, (INT64,), TIMESTAMP, f"bq_timestamp_of_micros({_micros})", fallible=True)
    _safe = f"bq_safe_timestamp_of_micros(TRY({_micros}))"
    SAFE_FUNCTIONS[_name] = single_signature((INT64,), TIMESTAMP, _safe)


@function("DATE")
def _date(call: Call) -> Expression:
    call.take(1, 3)
    if len(call) == 3:
        parts = [call.argument(i, INT64) for i in range(3)]
        sql = "make_date(" + ", ".join(p.sql for p in parts) + ")"
        return combine(sql, DATE, *parts, fallible=True)
    value = call.arguments[0]
    if len(call) == 2 and coercible(value, TIMESTAMP):
        value = coerce(value, TIMESTAMP)
        zone = zone_of(call.nodes[1], call.scope)
        return combine(f"CAST({_local(value.sql, zone)} AS DATE)", DATE, value)
    if len(call) == 1 and value.type in (TIMESTAMP, DATETIME, DATE):
        return combine(f"CAST({value.sql} AS DATE)", DATE, value)
    if len(call) == 1 and value.type == STRING and value.flexible:
        return coerce(value, DATE)
    raise call.mismatch()


@function("DATETIME")
def _datetime(call: Call) -> Expression:
    call.take(1, 6)
    if len(call) == 6:
        parts = [call.argument(i, INT64) for i in range(6)]
        sql = "make_timestamp(" + ", ".join(p.sql for p in parts) + ")"
        return combine(sql, DATETIME, *parts, fallible=True)
    value = call.arguments[0]
    if len(call) == 2 and coercible(value, TIMESTAMP):
        value = coerce(value, TIMESTAMP)
        zone = zone_of(call.nodes[1], call.scope)
        return combine(_local(value.sql, zone), DATETIME, value)
    if len(call) == 1 and value.type in (TIMESTAMP, DATETIME, DATE):
        return combine(f"CAST({value.sql} AS TIMESTAMP)", DATETIME, value)
    raise call.refuse("this form of DATETIME()")


@function("TIMESTAMP")
def _timestamp(call: Call) -> Expression:
    call.take(1, 2)
    value = call.arguments[0]
    zone = zone_of(call.nodes[1], call.scope) if len(call) == 2 else None
    if value.type == STRING and zone is None:
        body = "bq_timestamp_of_text({0}, false)".format
        return expand(body, TIMESTAMP, value, fallible=True)
    if value.type == STRING:
        body = "bq_datetime_of_text({0}, false)".format
        value = expand(body, DATETIME, value, fallible=True)
    if value.type in (DATE, DATETIME) and zone is None:
        return combine(f"CAST({value.sql} AS TIMESTAMP)", TIMESTAMP, value)
    if value.type in (DATE, DATETIME):
        return expand(f"bq_from_zone(CAST({{0}} AS TIMESTAMP), {zone})".format, TIMESTAMP, value)
    if value.type == TIMESTAMP and zone is None:
        return value.named(None)
    raise call.mismatch()


@function("STRING")
def _string(call: Call) -> Expression:
    call.take(1)
    value = call.arguments[0]
    texts = {
        DATE: "strftime({0}, '%Y-%m-%d')",
        DATETIME: "bq_datetime_text({0}, ' ')",
        TIMESTAMP: "(bq_datetime_text({0}, ' ') || '+00')",
    }
    if value.type not in texts:
        raise call.mismatch()
    return expand(texts[value.type].format, STRING, value)


# -- adding, subtracting, truncating


def _kind(call: Call) -> Type:
    return {"DATE": DATE, "DATETIME": DATETIME}.get(call.name.partition("_")[0], TIMESTAMP)


def interval(node: exp.Expr, call: Call) -> tuple[Expression, DatePart]:
    """The amount and unit of an INTERVAL argument."""
    if not isinstance(node, exp.Interval) or node.this is None or node.args.get("unit") is None:
        raise call.mismatch()
    part = date_part(node.args["unit"], call.scope)
    if isinstance(node.this, exp.Literal):
        try:
            return literal(int(node.this.name), INT64), part
        except ValueError:
            raise call.refuse(f"INTERVAL {node.this.name} {part.name}") from None
    amount = compile_expression(node.this, call.scope)
    if not coercible(amount, INT64):
        raise call.mismatch()
    return coerce(amount, INT64), part


@function("DATE_ADD", "DATE_SUB", "DATETIME_ADD", "DATETIME_SUB", "TIMESTAMP_ADD", "TIMESTAMP_SUB")
def _shift(call: Call) -> Expression:
    call.take(2)
    type_ = _kind(call)
    value = call.argument(0, type_)
    amount, part = interval(call.nodes[1], call)
    number = "{1}" if call.name.endswith("ADD") else "(-{1})"
    if part.name in _CLOCK and type_ != DATE:
        step = f"to_{part.name.lower()}s({number})"
    elif part.name == "DAY" or (part.name == "WEEK" and type_ != TIMESTAMP):
        days = f"{number} * 7" if part.name == "WEEK" else number
        step = f"to_days(CAST({days} AS INTEGER))"
    elif part.name in _MONTHS and type_ != TIMESTAMP:
        step = f"to_months(CAST({number} * {_MONTHS[part.name]} AS INTEGER))"
    else:
        raise _unsupported(part, call)
    moved = f"bq_in_range(CAST({{0}} AS TIMESTAMP) + {step}, 'The result of {call.name}')"
    template = f"CAST({moved} AS DATE)" if type_ == DATE else moved
    return expand(template.format, type_, value, amount, fallible=True)


def _truncated(day: str, part: DatePart, call: Call) -> str:
    """DuckDB text of a date cut to a part of a day or longer."""
    match part.name:
        case "DAY":
            return day
        case "WEEK":
            return f"bq_week_start({day}, {part.first})"
        case "ISOWEEK":
            return f"bq_week_start({day}, 1)"
        case "MONTH" | "QUARTER" | "YEAR":
            return f"CAST(date_trunc('{part.name.lower()}', {day}) AS DATE)"
    raise _unsupported(part, call)


@function("DATE_TRUNC", "DATETIME_TRUNC", "TIMESTAMP_TRUNC")
def _truncate(call: Call) -> Expression:
    type_ = _kind(call)
    call.take(2, 3 if type_ == TIMESTAMP else 2)
    value = call.argument(0, type_)
    part = date_part(call.nodes[1], call.scope)
    zone = zone_of(call.nodes[2], call.scope) if len(call) == 3 else None
    if type_ == DATE:
        return expand(lambda day: _truncated(day, part, call), DATE, value)
    if part.name in _CLOCK:
        unit = _MICROS[part.name]
        # What the clock shows beyond the unit is taken off the instant: right at both 2:30s.
        shown = f"epoch_us({_local('{0}', zone)})"
        beyond = f"({shown} - bq_floor_div({shown}, {unit}) * {unit})"
        return expand(f"({{0}} - to_microseconds({beyond}))".format, type_, value)
    local = combine(f"CAST({_local(value.sql, zone)} AS DATE)", DATE, value)
    start = expand(lambda day: f"CAST({_truncated(day, part, call)} AS TIMESTAMP)", type_, local)
    return start if zone is None else expand(f"bq_from_zone({{0}}, {zone})".format, type_, start)


@function("LAST_DAY")
def _last_day(call: Call) -> Expression:
    call.take(1, 2)
    part = date_part(call.nodes[1], call.scope) if len(call) == 2 else DatePart("MONTH")
    if part.name not in _MONTHS:
        raise _unsupported(part, call)
    value = call.argument(0, DATE)
    start = f"date_trunc('{part.name.lower()}', {value.sql})"
    return combine(f"CAST({start} + to_months({_MONTHS[part.name]}) AS DATE) - 1", DATE, value)


# -- differences


@function("DATE_DIFF", "DATETIME_DIFF")
def _boundaries(call: Call) -> Expression:
    """Boundaries of the part between two dates or datetimes."""
    call.take(3)
    type_ = _kind(call)
    a, b = call.argument(0, type_), call.argument(1, type_)
    part = date_part(call.nodes[2], call.scope)
    if part.name in _CLOCK and type_ == DATETIME:
        unit = _MICROS[part.name]
        count = f"(bq_floor_div(epoch_us({{0}}), {unit}) - bq_floor_div(epoch_us({{1}}), {unit}))"
        return expand(count.format, INT64, a, b)
    x, y = "CAST({0} AS DATE)", "CAST({1} AS DATE)"
    match part.name:
        case "DAY":
            sql = f"({x} - {y})"
        case "WEEK" | "ISOWEEK":
            first = 1 if part.name == "ISOWEEK" else part.first
            sql = f"((bq_week_start({x}, {first}) - bq_week_start({y}, {first})) // 7)"
        case "MONTH" | "QUARTER" | "YEAR":
            sql = f"date_diff('{part.name.lower()}', {y}, {x})"
        case "ISOYEAR":
            sql = f"(isoyear({x}) - isoyear({y}))"
        case _:
            raise _unsupported(part, call)
    return expand(sql.format, INT64, a, b)


@function("TIMESTAMP_DIFF")
def _elapsed(call: Call) -> Expression:
    """Whole units elapsed between two instants, towards zero."""
    call.take(3)
    a, b = call.argument(0, TIMESTAMP), call.argument(1, TIMESTAMP)
    part = date_part(call.nodes[2], call.scope)
    if part.name not in _MICROS:
        raise _unsupported(part, call)
    sql = f"((epoch_us({a.sql}) - epoch_us({b.sql})) // {_MICROS[part.name]})"
    return combine(sql, INT64, a, b)


# -- parts

_PARTS: Final = {
    "YEAR": "year({0})",
    "QUARTER": "quarter({0})",
    "MONTH": "month({0})",
    "DAY": "day({0})",
    "DAYOFWEEK": "(dayofweek({0}) + 1)",
    "DAYOFYEAR": "dayofyear({0})",
    "ISOYEAR": "isoyear({0})",
    "ISOWEEK": "weekofyear({0})",
    "WEEK": "((dayofyear({0}) + 6 - (dayofweek({0}) - {first} + 7) % 7) // 7)",
}
_CLOCK_PARTS: Final = {
    "HOUR": "hour({0})",
    "MINUTE": "minute({0})",
    "SECOND": "second({0})",
    "MILLISECOND": "(millisecond({0}) % 1000)",
    "MICROSECOND": "(microsecond({0}) % 1000000)",
}


@compiles(exp.Extract)
def _extract(node: exp.Extract, scope: Scope) -> Expression:
    part = date_part(node.this, scope)
    source, zone = node.expression, None
    if isinstance(source, exp.AtTimeZone):
        zone = zone_of(source.args["zone"], scope)
        source = source.this
    value = compile_expression(source, scope)
    if value.type not in (DATE, DATETIME, TIMESTAMP) or (zone and value.type != TIMESTAMP):
        raise refusal(f"EXTRACT from {value.type}", node, scope)
    local = combine(_local(value.sql, zone), value.type, value)
    if part.name == "DATE" and value.type != DATE:
        return combine(f"CAST({local.sql} AS DATE)", DATE, local)
    known = _PARTS if value.type == DATE else _PARTS | _CLOCK_PARTS
    if part.name not in known:
        raise refusal(f"EXTRACT({part.name} FROM {value.type})", node, scope)
    template = f"CAST({known[part.name]} AS BIGINT)"
    return expand(functools.partial(template.format, first=part.first), INT64, local)


# -- text


@function("FORMAT_DATE", "FORMAT_DATETIME", "FORMAT_TIMESTAMP")
def _format(call: Call) -> Expression:
    zoned = call.name == "FORMAT_TIMESTAMP"
    call.take(2, 3 if zoned else 2)
    type_ = {"FORMAT_DATE": DATE, "FORMAT_DATETIME": DATETIME}.get(call.name, TIMESTAMP)
    pattern = call.constant(0, Kind.STRING, f"a format of {call.name}")
    value = call.argument(1, type_)
    zone = zone_of(call.nodes[2], call.scope) if len(call) == 3 else None
    local = combine(_local(value.sql, zone), type_, value)
    return expand(
        lambda moment: formatted(pattern, moment, call, with_time=type_ != DATE), STRING, local
    )


def _parse(call: Call, *, safe: bool) -> Expression:
    zoned = call.name == "PARSE_TIMESTAMP"
    call.take(2, 3 if zoned else 2)
    pattern = call.constant(0, Kind.STRING, f"a format of {call.name}")
    value = call.argument(1, STRING)
    with_time = call.name != "PARSE_DATE"
    type_ = {"PARSE_DATE": DATE, "PARSE_TIMESTAMP": TIMESTAMP}.get(call.name, DATETIME)
    moment = expand(
        lambda text: parsed(pattern, text, call, with_time=with_time, safe=safe),
        type_,
        value,
        fallible=True,
    )
    if type_ == DATE:
        return combine(f"CAST({moment.sql} AS DATE)", DATE, moment)
    if len(call) == 3:
        zone = zone_of(call.nodes[2], call.scope)
        return expand(f"bq_from_zone({{0}}, {zone})".format, TIMESTAMP, moment)
    return moment


@function("PARSE_DATE", "PARSE_DATETIME", "PARSE_TIMESTAMP")
def _parse_or_fail(call: Call) -> Expression:
    return _parse(call, safe=False)


def _parse_or_null(call: Call) -> Expression:
    return _parse(call, safe=True)


SAFE_FUNCTIONS.update(
    dict.fromkeys(("PARSE_DATE", "PARSE_DATETIME", "PARSE_TIMESTAMP"), _parse_or_null)
)


@function("GENERATE_DATE_ARRAY")
def _generate_dates(call: Call) -> Expression:
    call.take(2, 3)
    first, last = call.argument(0, DATE), call.argument(1, DATE)
    days = 1
    if len(call) == 3:
        amount, part = interval(call.nodes[2], call)
        known = isinstance(amount.constant, int) and part.name in ("DAY", "WEEK")
        if not known or not amount.constant:
            raise call.refuse("GENERATE_DATE_ARRAY by other than a constant of days or weeks")
        days = amount.constant * (7 if part.name == "WEEK" else 1)
    series = f"generate_series(CAST(0 AS BIGINT), {last.sql} - {first.sql}, {days})"
    sql = f"list_transform({series}, lambda day: {first.sql} + CAST(day AS INTEGER))"
    return combine(sql, array_of(DATE), first, last)
