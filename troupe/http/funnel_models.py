"""What the funnel, and everything at once, take and answer."""

from typing import Annotated, Final

from pydantic import Field

from troupe.actors.analytics.answers import FunnelCounts
from troupe.actors.analytics.metrics import ratio
from troupe.common.dates import Granularity
from troupe.common.units import DAYS, MINUTES
from troupe.http.analytics_models import (
    About,
    ChartPoint,
    FilterQuery,
    LocationStats,
    MetricAnswer,
    MetricNames,
    OtherCurrencyAnswer,
    PartStats,
)
from troupe.http.conventions import AnswerModel, ChartQuery, CompareQuery

LONGEST_WINDOW: Final = int(1 * DAYS // MINUTES)
MAX_COMPLETE_ROWS: Final = 100


class FunnelQuery(CompareQuery, FilterQuery):
    """How far sessions get."""

    window_minutes: Annotated[int, Field(ge=1, le=LONGEST_WINDOW)] = LONGEST_WINDOW
    """Longest time from the product view that begins the chain to a step of it."""


class FunnelStep(AnswerModel):
    """One step: how many sessions get there, through all steps before it and in their order."""

    name: str
    """`view`, `cart`, `checkout`, `purchase`."""
    sessions: int
    of_first: float | None
    """Share of the sessions at the first step."""
    of_previous: float | None
    """Share of the sessions at the step before; null at the first."""
    previous_sessions: int | None
    """Sessions in the period compared with."""


class FunnelAnswer(About):
    """How far sessions get."""

    window_minutes: int
    sessions: int
    """All sessions that begin in the range."""
    steps: list[FunnelStep]


def funnel_steps(now: FunnelCounts, before: FunnelCounts | None) -> list[FunnelStep]:
    """The steps in order, beside those of the period compared with."""
    counts = _counts(now)
    earlier = _counts(before) if before is not None else {}
    steps, last = [], None
    for name, count in counts.items():
        steps.append(
            FunnelStep(
                name=name,
                sessions=count,
                of_first=_share(count, now.viewed),
                of_previous=None if last is None else _share(count, last),
                previous_sessions=earlier.get(name),
            )
        )
        last = count
    return steps


def _counts(funnel: FunnelCounts) -> dict[str, int]:
    return {
        "view": funnel.viewed,
        "cart": funnel.carted,
        "checkout": funnel.checked_out,
        "purchase": funnel.purchased,
    }


def _share(part: int, whole: int) -> float | None:
    share = ratio(part, whole)
    return None if share is None else float(share)


class CompleteQuery(ChartQuery, FilterQuery):
    """Everything that a dashboard shows of a range."""

    metric: MetricNames = ("gross_revenue", "purchases", "sessions")
    """The figures wanted at each step of the chart."""
    limit: Annotated[int, Field(ge=1, le=MAX_COMPLETE_ROWS)] = 20
    """Rows of each table: those with the greatest revenue, or most sessions."""


class CompleteAnswer(About):
    """Key figures, chart and tables of a range, all of one moment."""

    metrics: dict[str, MetricAnswer]
    other_currencies: list[OtherCurrencyAnswer]
    granularity: Granularity
    points: list[ChartPoint]
    comparison_points: list[ChartPoint]
    locations: list[LocationStats]
    channels: list[PartStats]
    devices: list[PartStats]
    countries: list[PartStats]
    funnel: list[FunnelStep]
