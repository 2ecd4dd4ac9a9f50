"""What all three ports agree on: paging, sorting, date ranges, entity tags.

A list is read with ``limit`` and an opaque ``cursor``. The cursor holds the sort key of the last
row shown, so a page boundary is a place in the order, not a count: rows inserted or removed
meanwhile neither repeat nor hide others. It is not signed. All it can do is choose where in the
caller's own list to continue, every value in it is checked against the type that the list's order
has, and it reaches SQL as a parameter; a signature would add a key to rotate and protect nothing.

A date range is either ``start_date`` and ``end_date`` (both inclusive) or a ``preset``; both are
calendar days in the tenant's reporting zone. Presets end yesterday, because today is not complete.
On the first of a month ``mtd`` means the whole month before, not an empty range (``ytd`` likewise).
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final, Generic, Never, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from werkzeug.exceptions import PreconditionRequired
from werkzeug.http import parse_etags

from troupe.common.dates import Compare, DateRange, Granularity
from troupe.common.errors import InvalidInput, PreconditionFailed
from troupe.http.exact_json import instant, is_storable
from troupe.http.request import current_request

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 1000
MAX_CURSOR_CHARACTERS: Final = 1024
MAX_RANGE_DAYS: Final = 800
MAX_HOURLY_DAYS: Final = 31
EARLIEST_DATE: Final = date(2000, 1, 1)
LATEST_DATE: Final = date(2199, 12, 31)

Day = Annotated[date, Field(ge=EARLIEST_DATE, le=LATEST_DATE)]
"""A calendar day that somebody may ask for: the days around it exist, in every zone."""
Instant = Annotated[
    AwareDatetime,
    Field(
        ge=datetime.combine(EARLIEST_DATE, datetime.min.time(), UTC),
        lt=datetime.combine(LATEST_DATE + timedelta(days=1), datetime.min.time(), UTC),
    ),
]
"""An instant that somebody may ask for, likewise."""

Row = TypeVar("Row")
CursorValue = str | int | Decimal | date | datetime | UUID


class QueryModel(BaseModel):
    """Base of a route's query parameters: unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class BodyModel(BaseModel):
    """Base of a route's request body: unknown members are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class AnswerModel(BaseModel):
    """Base of a route's answer."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


# --- lists ------------------------------------------------------------------------------------


class PageQuery(QueryModel):
    """Mix-in for the query of a list."""

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT
    """Rows per page."""
    cursor: Annotated[str | None, Field(max_length=MAX_CURSOR_CHARACTERS)] = None
    """`next_cursor` of the page before."""


class ListAnswer(AnswerModel, Generic[Row]):
    """One page of a list."""

    data: list[Row]
    """The rows, in order."""
    next_cursor: str | None = None
    """Give this as `cursor` for the next page; null on the last one."""
    total: int | None = None
    """Rows over all pages; null where counting would cost more than the answer."""


def encode_cursor(order: str, values: Sequence[CursorValue]) -> str:
    """An opaque cursor that continues after the row with these sort values.

    Args:
        order: Name of the order that the values belong to; a cursor of another is refused.
        values: The row's sort key, tie-breaker included.
    """
    texts = [instant(value) if isinstance(value, datetime) else str(value) for value in values]
    raw = json.dumps([order, *texts], ensure_ascii=False, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode_cursor(
    cursor: str, order: str, types: Sequence[type[CursorValue]]
) -> tuple[CursorValue, ...]:
    """The sort values inside a cursor, checked against the order's types.

    Raises:
        InvalidInput: Not a cursor of this list and order.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        document = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if document[0] == order:
            return tuple(_typed(text, kind) for text, kind in zip(document[1:], types, strict=True))
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
        pass  # whatever is wrong with it, the caller is told the same below
    raise InvalidInput(
        "The cursor does not belong to this list.",
        [("?cursor", "must be next_cursor of the same list, filter and sort order")],
    )


def _aware(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        raise ValueError("an instant needs a time zone")
    return value.astimezone(UTC)  # the first and the last hours of the calendar are none there


def _finite(text: str) -> Decimal:
    value = Decimal(text)
    if not value.is_finite():
        raise ValueError("not a number")
    return value


def _bigint(text: str) -> int:
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise ValueError("beyond 64 bits")
    return value


_FROM_TEXT: Final[Mapping[type[CursorValue], Callable[[str], CursorValue]]] = {
    str: str,
    int: _bigint,
    Decimal: _finite,
    date: date.fromisoformat,
    datetime: _aware,
    UUID: UUID,
}


def _typed(text: object, kind: type[CursorValue]) -> CursorValue:
    if not isinstance(text, str) or not is_storable(text):
        raise TypeError("cursor values are texts")
    return _FROM_TEXT[kind](text)


@dataclass(frozen=True, slots=True)
class Order:
    """One column of an order that was asked for.

    Attributes:
        column: The SQL expression from the allow-list.
        descending: Whether it was written with a leading minus.
    """

    column: str
    descending: bool


def parse_sort(text: str | None, allowed: Mapping[str, str], default: str) -> tuple[Order, ...]:
    """Read ``sort=-value,name`` against an allow-list.

    Args:
        text: The query parameter.
        allowed: Field name in the API to SQL expression; nothing else ever reaches SQL.
        default: What holds when nothing is asked, in the same notation.

    Raises:
        InvalidInput: An unknown field, or one given twice.
    """
    orders: list[Order] = []
    for field in (text or default).split(","):
        name = field.removeprefix("-")
        if name not in allowed or allowed[name] in {order.column for order in orders}:
            raise InvalidInput(
                "The list cannot be sorted like this.",
                [("?sort", f"each of {', '.join(sorted(allowed))} at most once, '-' reverses")],
            )
        orders.append(Order(allowed[name], descending=field.startswith("-")))
    return tuple(orders)


# --- date ranges ------------------------------------------------------------------------------


class Preset(StrEnum):
    """Ranges with a name; all end yesterday."""

    YESTERDAY = "yesterday"
    LAST_7_DAYS = "7d"
    LAST_28_DAYS = "28d"
    LAST_30_DAYS = "30d"
    LAST_90_DAYS = "90d"
    MONTH_TO_DATE = "mtd"
    YEAR_TO_DATE = "ytd"
    ALL = "all"


_PRESET_DAYS: Final[Mapping[Preset, int]] = {
    Preset.YESTERDAY: 1,
    Preset.LAST_7_DAYS: 7,
    Preset.LAST_28_DAYS: 28,
    Preset.LAST_30_DAYS: 30,
    Preset.LAST_90_DAYS: 90,
}


class RangeQuery(QueryModel):
    """Mix-in for the query of anything that is asked for a range of days."""

    start_date: date | None = None
    """First day, with `end_date`."""
    end_date: date | None = None
    """Last day, included; yesterday when only `start_date` is given."""
    preset: Preset | None = None
    """A range with a name, instead of the dates; 28d when nothing is given."""

    def resolve(
        self,
        today: date,
        *,
        earliest: date | None = None,
        default: Preset = Preset.LAST_28_DAYS,
        limit_days: int = MAX_RANGE_DAYS,
    ) -> DateRange:
        """The days that are meant.

        Args:
            today: In the tenant's zone, see `today_in`.
            earliest: First day that has data, for ``all``; None means there is none, and ``all``
                is yesterday alone.
            default: What an empty query means.
            limit_days: Longest range; does not bind ``all``.

        Raises:
            InvalidInput: Dates mixed with a preset, half a range, backwards, or too long.
        """
        if self.start_date is None and self.end_date is None:
            return _preset_range(self.preset or default, today - timedelta(days=1), earliest)
        if self.preset is not None:
            _refuse("?preset", "cannot be combined with start_date and end_date")
        if self.start_date is None:
            _refuse("?start_date", "is needed together with end_date")
        end = self.end_date or max(today - timedelta(days=1), self.start_date)
        if end < self.start_date:
            _refuse("?end_date", "must not be before start_date")
        if self.start_date < EARLIEST_DATE:
            _refuse("?start_date", f"must not be before {EARLIEST_DATE}")
        if end > LATEST_DATE:
            _refuse("?end_date", f"must not be after {LATEST_DATE}")
        wanted = DateRange(self.start_date, end)
        if wanted.days > limit_days:
            _refuse("?end_date", f"the range must not be longer than {limit_days} days")
        return wanted


class CompareQuery(RangeQuery):
    """A range with something to compare it with."""

    compare: Compare = Compare.NONE
    """The period to compare with."""


class ChartQuery(CompareQuery):
    """A range cut into steps."""

    granularity: Granularity = Granularity.DAY
    """Length of one step. Hours only over at most 31 days."""

    def resolve(
        self,
        today: date,
        *,
        earliest: date | None = None,
        default: Preset = Preset.LAST_28_DAYS,
        limit_days: int = MAX_RANGE_DAYS,
    ) -> DateRange:
        """As `RangeQuery.resolve`; also refuses hours over a long range."""
        wanted = super().resolve(today, earliest=earliest, default=default, limit_days=limit_days)
        if self.granularity is Granularity.HOUR and wanted.days > MAX_HOURLY_DAYS:
            _refuse("?granularity", f"hours need a range of at most {MAX_HOURLY_DAYS} days")
        return wanted


def _refuse(pointer: str, message: str) -> Never:
    raise InvalidInput("The date range is not valid.", [(pointer, message)])


def _preset_range(preset: Preset, yesterday: date, earliest: date | None) -> DateRange:
    if preset in _PRESET_DAYS:
        return DateRange(yesterday - timedelta(days=_PRESET_DAYS[preset] - 1), yesterday)
    if preset is Preset.MONTH_TO_DATE:
        return DateRange(yesterday.replace(day=1), yesterday)
    if preset is Preset.YEAR_TO_DATE:
        return DateRange(yesterday.replace(month=1, day=1), yesterday)
    return DateRange(min(earliest or yesterday, yesterday), yesterday)


def today_in(zone: ZoneInfo, now: datetime | None = None) -> date:
    """The calendar day it is in `zone`.

    Args:
        zone: The tenant's reporting zone.
        now: An aware instant; the current one by default.
    """
    return (now or datetime.now(UTC)).astimezone(zone).date()


# --- entity tags ------------------------------------------------------------------------------


def entity_tag(*parts: object) -> str:
    """A strong ETag from whatever the answer is a function of, unquoted."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=16)
    return digest.hexdigest()


def is_unmodified(tag: str) -> bool:
    """Whether the current request's ``If-None-Match`` already names `tag`."""
    header = current_request().headers.get("If-None-Match")
    return header is not None and parse_etags(header).contains_weak(tag)


def require_match(tag: str) -> None:
    """Refuse a change that was made to an outdated copy.

    Args:
        tag: The thing's present entity tag, read in the transaction that changes it.

    Raises:
        PreconditionRequired: The request has no ``If-Match``.
        PreconditionFailed: It names another version.
    """
    header = current_request().headers.get("If-Match")
    if header is None:
        raise PreconditionRequired("Send If-Match with the ETag of the version you have read.")
    if not parse_etags(header).contains(tag):
        raise PreconditionFailed("It was changed since you have read it. Read it again.")
