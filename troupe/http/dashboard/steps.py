"""The chart's steps: what each is called, and its figure where there is one to be had.

A day without data is not a day on which nothing happened. Before the first day of the data, and
after the last complete one as long as nothing has arrived, a figure is unknown: the line breaks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from troupe.actors.analytics.metrics import Figure, Metric
from troupe.actors.analytics.series import Point, Series
from troupe.common.dates import Granularity
from troupe.http.asked import Asked
from troupe.http.dashboard import formats

LONGEST_WITHOUT_YEAR: Final = 366
"""Days up to which a date is clear without its year."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the chart.

    Attributes:
        label: On the axis.
        name: In full, for the table and the text under the pointer.
        value: The figure.
        previous: What it is compared with; None also when there is no counterpart.
    """

    label: str
    name: str
    value: Figure
    previous: Figure


def lay_out_steps(
    asked: Asked, granularity: Granularity, metric: Metric, series: Series
) -> tuple[Step, ...]:
    """A series step by step; hours that a clock change leaves over before are cut off."""
    steps: list[Step] = []
    for index, point in enumerate(series.points):
        earlier = series.comparison[index] if index < len(series.comparison) else None
        label, name = _names(asked, granularity, point)
        steps.append(
            Step(
                label,
                name,
                known_figure(asked, metric, point),
                known_figure(asked, metric, earlier) if earlier else None,
            )
        )
    return tuple(steps)


def known_figure(asked: Asked, metric: Metric, point: Point) -> Figure:
    """The figure of a step; None where there is no data, which is not the same as zero."""
    first, until = asked.reporting.first_day, asked.reporting.data_until
    start, end = point.start, point.end
    if isinstance(start, datetime):
        start = end = start.astimezone(asked.reporting.zone).date()
    is_before = first is not None and end < first
    is_missing = until is not None and start > until and not point.summary.measures.events
    return None if is_before or is_missing else metric.compute(point.summary.measures)


def _names(asked: Asked, granularity: Granularity, point: Point) -> tuple[str, str]:
    """What a step is called on the axis and in full."""
    start, end = point.start, point.end
    if isinstance(start, datetime) and isinstance(end, datetime):
        zone = asked.reporting.zone
        start, end = start.astimezone(zone), end.astimezone(zone)
        time, day = formats.clock(start), start.date()
        name = f"{formats.weekday(day)}, {time}–{formats.clock(end)}"
        return time if asked.days.days == 1 else f"{formats.day(day)}, {time}", name
    if granularity is Granularity.MONTH:
        return formats.month(start), formats.days(start, end)
    label = formats.day(start, year=asked.days.days > LONGEST_WITHOUT_YEAR)
    is_day = granularity is Granularity.DAY
    return label, formats.weekday(start) if is_day else formats.days(start, end)


def describe(metric: Metric, steps: Sequence[Step], currency: str) -> str:
    """What a chart of the steps says, for people who cannot see it."""
    known = [(step.value, step.name) for step in steps if step.value is not None]
    if not known:
        return f"{metric.title}: nothing measured."
    low, high = min(known, key=lambda pair: pair[0]), max(known, key=lambda pair: pair[0])
    return (
        f"{metric.title}: lowest {formats.figure(low[0], metric.unit, currency)} ({low[1]}),"
        f" highest {formats.figure(high[0], metric.unit, currency)} ({high[1]})."
    )
