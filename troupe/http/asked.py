"""What a request for figures means for its tenant: which days, compared with which, of what."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

from troupe.actors.analytics.answers import Reporting
from troupe.actors.analytics.periods import Period, same_hours
from troupe.common.dates import DateRange
from troupe.http import analytics_models as models
from troupe.http.conventions import CompareQuery, today_in

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The present instant."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request's dates, resolved for its tenant.

    Attributes:
        reporting: The tenant's settings and version.
        days: The range that is meant.
        comparison: The range that it is compared with.
        comparison_until: Where the last day of the comparison is cut off, because the last day of
            the range is not over yet: it is compared with the same hours.
    """

    reporting: Reporting
    days: DateRange
    comparison: DateRange | None
    comparison_until: datetime | None = None
    today: date = field(default=date.min, repr=False, compare=False)
    """In the tenant's zone, when it was asked. Decides nothing but what is above."""

    @property
    def good_until(self) -> datetime:
        """When the same request begins to mean other days: the tenant's next midnight, UTC."""
        tomorrow = self.today + timedelta(days=1)
        return datetime.combine(tomorrow, time(), self.reporting.zone).astimezone(UTC)

    @classmethod
    def of(cls, reporting: Reporting, query: CompareQuery, clock: Clock) -> "Asked":
        """Turn presets and comparisons into days of the tenant's reporting zone.

        Raises:
            InvalidInput: The query means no range.
        """
        today = today_in(reporting.zone, clock())
        days = query.resolve(today, earliest=reporting.first_day)
        comparison = days.compared(query.compare)
        until = None
        if comparison is not None:
            until = same_hours(
                days,
                comparison,
                reporting.zone,
                data_until=reporting.data_until,
                last_event_at=reporting.last_event_at,
            )
        return cls(reporting, days, comparison, until, today)

    @property
    def periods(self) -> list[Period]:
        """The range, and the one that it is compared with if there is one."""
        if self.comparison is None:
            return [Period(self.days)]
        return [Period(self.days), Period(self.comparison, self.comparison_until)]

    def about(self) -> dict[str, object]:
        """The members of `models.About`."""
        return {
            "range": models.Days.of(self.days),
            "comparison": models.Days.of(self.comparison) if self.comparison else None,
            "comparison_until": self.comparison_until,
            "time_zone": self.reporting.time_zone,
            "currency": self.reporting.currency,
            "data_version": self.reporting.data_version,
            "data_until": self.reporting.data_until,
        }
