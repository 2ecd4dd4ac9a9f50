"""What the address of the overview asks for, and addresses that ask for something near it.

All state of the page is in its address. A form that is sent without JavaScript sends every field it
has, changed or not, so the address is read with two kindnesses that the API does not have: an empty
field counts as none, and a period with a name wins over dates that stood beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from troupe.actors.analytics.filters import Filters
from troupe.actors.analytics.metrics import METRICS
from troupe.common.dates import Compare, DateRange, Granularity
from troupe.http.analytics_models import MAX_SUBJECT
from troupe.http.conventions import (
    EARLIEST_DATE,
    LATEST_DATE,
    MAX_RANGE_DAYS,
    CompareQuery,
    Preset,
)

CARDS: Final = (
    "gross_revenue",
    "purchases",
    "average_order_value",
    "sessions",
    "session_conversion_rate",
    "total_users",
)
PRESETS: Final = (
    (Preset.YESTERDAY, "Yesterday"),
    (Preset.LAST_7_DAYS, "Last 7 days"),
    (Preset.LAST_28_DAYS, "Last 28 days"),
    (Preset.LAST_30_DAYS, "Last 30 days"),
    (Preset.LAST_90_DAYS, "Last 90 days"),
    (Preset.MONTH_TO_DATE, "This month"),
    (Preset.YEAR_TO_DATE, "This year"),
    (Preset.ALL, "All"),
)
COMPARISONS: Final = (
    (Compare.PREVIOUS, "Period before"),
    (Compare.WEEKDAY, "Same weekdays before"),
    (Compare.YEAR, "Year before"),
    (Compare.NONE, "Nothing"),
)
FILTERS: Final[Mapping[str, str]] = {
    "location": "Branch",
    "channel": "Channel",
    "device": "Device",
    "country": "Country",
    "product": "Product",
    "page": "Page",
    "term": "Search term",
}
"""What a click narrows the page to, and what it is called."""
KNOWN_OR_NOT: Final = frozenset({"location", "channel", "device", "country"})
"""Of these, the empty text is a value too."""
AUTO: Final = "auto"
_AT_LEAST: Final[Mapping[Granularity, int]] = {Granularity.WEEK: 8, Granularity.MONTH: 32}
"""Days from which on there is more than one step of this length."""
_AT_MOST: Final[Mapping[Granularity, int]] = {
    Granularity.HOUR: 7,
    Granularity.DAY: MAX_RANGE_DAYS,
}
"""Days up to which steps of this length can be told apart."""
_AUTO_LONGEST: Final[Mapping[Granularity, int]] = {
    Granularity.HOUR: 2,
    Granularity.DAY: 92,
    Granularity.WEEK: 400,
}


def _on_a_card(name: str) -> str:
    if name not in CARDS:
        raise PydanticCustomError(
            "unknown_card", "must be one of {names}", {"names": ", ".join(CARDS)}
        )
    return name


class OverviewQuery(CompareQuery):
    """What the overview shows."""

    compare: Compare = Compare.PREVIOUS
    """The period to compare with."""
    granularity: Granularity | Literal["auto"] = AUTO
    """Length of the chart's steps; what suits the period by default."""
    metric: Annotated[
        str, AfterValidator(_on_a_card), Field(json_schema_extra={"enum": list(CARDS)})
    ] = CARDS[0]
    """The chart's figure."""
    location: Annotated[str | None, Field(max_length=100)] = None
    """Only this branch; the empty text means "no branch known"."""
    channel: Annotated[str | None, Field(max_length=256)] = None
    """Only sessions of this channel group."""
    device: Annotated[str | None, Field(max_length=256)] = None
    """Only sessions on devices of this category; the empty text means "not known"."""
    country: Annotated[str | None, Field(max_length=256)] = None
    """Only sessions from this country; the empty text means "not known"."""
    product: Annotated[str | None, Field(max_length=MAX_SUBJECT)] = None
    """Only sessions that viewed this product, put it into the cart or bought it."""
    page: Annotated[str | None, Field(max_length=MAX_SUBJECT)] = None
    """Only sessions that viewed this page."""
    term: Annotated[str | None, Field(max_length=MAX_SUBJECT)] = None
    """Only sessions that searched for this term."""

    @model_validator(mode="before")
    @classmethod
    def _as_sent_by_a_form(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        sent = {name: value for name, value in given.items() if value or name in KNOWN_OR_NOT}
        if sent.get("preset"):
            sent.pop("start_date", None)
            sent.pop("end_date", None)
        return sent


@dataclass(frozen=True, slots=True)
class View:
    """The page that was asked for.

    Attributes:
        query: As the address says it.
        days: The range that is meant.
    """

    query: OverviewQuery
    days: DateRange

    @property
    def preset(self) -> Preset | None:
        """The period's name; None for dates."""
        if self.query.start_date is not None:
            return None
        return self.query.preset or Preset.LAST_28_DAYS

    @property
    def location(self) -> str | None:
        """The only branch that is shown."""
        return self.query.location

    @property
    def filters(self) -> Filters:
        """What is shown, for the domain."""
        chosen = {name: (value,) for name, value in self.narrowed.items()}
        return Filters(
            locations=chosen.get("location", ()),
            channels=chosen.get("channel", ()),
            devices=chosen.get("device", ()),
            countries=chosen.get("country", ()),
            pages=chosen.get("page", ()),
            products=chosen.get("product", ()),
            terms=chosen.get("term", ()),
        )

    @property
    def narrowed(self) -> dict[str, str]:
        """The filters in force: name to value."""
        values = {name: getattr(self.query, name) for name in FILTERS}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def granularities(self) -> tuple[Granularity, ...]:
        """Steps that this figure can be shown by over this range."""
        days = self.days.days
        return tuple(
            step
            for step in Granularity
            if _AT_LEAST.get(step, 1) <= days <= _AT_MOST.get(step, days)
            and (step is not Granularity.HOUR or METRICS[self.query.metric].hourly)
        )

    @property
    def auto_granularity(self) -> Granularity:
        """The steps that suit the range."""
        for step, longest in _AUTO_LONGEST.items():
            if self.days.days <= longest and step in self.granularities:
                return step
        return Granularity.MONTH

    @property
    def granularity(self) -> Granularity:
        """What the chart is shown by: what was asked for where that is possible."""
        wanted = self.query.granularity
        if isinstance(wanted, Granularity) and wanted in self.granularities:
            return wanted
        return self.auto_granularity

    @property
    def is_auto(self) -> bool:
        """Whether the steps were left to us."""
        return self.query.granularity == AUTO

    def given(self) -> dict[str, str]:
        """What the address says beyond the defaults."""
        said: dict[str, str | date] = self.query.model_dump(
            mode="json", exclude_defaults=True, exclude_none=True
        )
        return {name: str(value) for name, value in said.items()}

    def hidden(self, *names: str) -> list[tuple[str, str]]:
        """Fields that a form carries along without showing them: these, and all filters."""
        wanted = {*names, *FILTERS}
        return [(name, value) for name, value in self.given().items() if name in wanted]

    def link(self, **changes: str | None) -> str:
        """The page's address with some parameters changed; None removes one."""
        wanted: dict[str, str | None] = {**self.given(), **changes}
        query = urlencode({name: value for name, value in wanted.items() if value is not None})
        return f"/?{query}" if query else "/"

    def shifted(self, by: int) -> str:
        """The address of the same number of days, so many periods later (or earlier)."""
        days = by * self.days.days
        start = min(max(self.days.start + timedelta(days=days), EARLIEST_DATE), LATEST_DATE)
        end = min(max(self.days.end + timedelta(days=days), EARLIEST_DATE), LATEST_DATE)
        return self.link(preset=None, start_date=start.isoformat(), end_date=end.isoformat())
