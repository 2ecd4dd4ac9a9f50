"""Line charts as SVG, computed on the server.

A chart in the page itself is readable without JavaScript, prints, follows the page's colours in
dark mode, and passes a content security policy that allows no inline script or style. This module
knows geometry only: values in, points and tick positions out; the template draws them.

Across, everything is in percent of the width, so that a narrow screen gets a narrow chart and not
small letters; down, everything is in pixels. Paths know no percent: theirs are drawn in a box of
`PATH_WIDTH` units that is stretched to the chart's width.

Missing values (a ratio without a denominator) break the line instead of falling to zero.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

Value = int | Decimal | None

PATH_WIDTH: Final = 1000
MAX_SLOTS: Final = 400
_NICE_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_NICE_WHOLE_STEPS: Final = (1.0, 2.0, 5.0, 10.0)
_MAX_X_LABELS: Final = 8
_MAX_SHOWN_DOTS: Final = 31
_LARGEST: Final = 1e300


@dataclass(frozen=True, slots=True)
class YTick:
    """A labelled line across: pixels from the top, and the value there."""

    y: float
    value: Decimal


@dataclass(frozen=True, slots=True)
class XLabel:
    """A step that is labelled.

    Attributes:
        x: Percent from the left.
        index: Which step.
        anchor: Side of the text that stands at `x`: ``start``, ``middle`` or ``end``.
        minor: Left out on a narrow screen.
    """

    x: float
    index: int
    anchor: str
    minor: bool


@dataclass(frozen=True, slots=True)
class Dot:
    """One value of the main series.

    Attributes:
        x: Percent from the left.
        y: Pixels from the top.
        index: Which step.
        anchor: As in `XLabel`, for a sentence about the dot.
        shown: Always, not only under the pointer: it has no neighbours, or there are few.
    """

    x: float
    y: float
    index: int
    anchor: str
    shown: bool


@dataclass(frozen=True, slots=True)
class LineChart:
    """What a template needs to draw one chart.

    Attributes:
        height: Pixels.
        bottom: Where the lowest tick lies, in pixels from the top.
        baseline: Where zero lies.
        line: Path of the series.
        area: Path of the area between the series and zero.
        comparison: Path of the series behind it.
        dots: Of the series.
        comparison_dots: Of the series behind it, where no line would show.
        slot: Width of one step in percent; None when there are too many to point at.
        y_ticks: From low to high.
        x_labels: From left to right.
    """

    height: int
    bottom: float
    baseline: float
    line: str
    area: str
    comparison: str
    dots: tuple[Dot, ...]
    comparison_dots: tuple[Dot, ...]
    slot: float | None
    y_ticks: tuple[YTick, ...]
    x_labels: tuple[XLabel, ...]


_NOTHING: Final = 1e-300
"""Spans below this cannot be divided into steps any more; nobody could see them."""


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis from `low` to `high` in steps of `step`; zero lies on a step."""

    low: float
    high: float
    step: float

    @classmethod
    def around(cls, values: Sequence[float], *, steps: int, whole: bool) -> "Scale":
        """The round scale with about so many steps that holds zero and all values.

        Args:
            values: May be empty.
            steps: At most one more than these above and below zero each.
            whole: Steps are whole numbers.
        """
        low, high = min(0.0, *values, 0.0), max(0.0, *values, 0.0)
        if high - low < _NOTHING:
            return cls(0.0, 0.0, 1.0)
        raw = (high - low) / steps
        magnitude = 10.0 ** math.floor(math.log10(raw))
        nice = _NICE_WHOLE_STEPS if whole else _NICE_STEPS
        step = next(s * magnitude for s in nice if s * magnitude >= raw * (1 - 1e-9))
        if whole:
            step = max(step, 1.0)
        return cls(
            -math.ceil(-low / step - 1e-9) * step, math.ceil(high / step - 1e-9) * step, step
        )

    def ticks(self) -> list[float]:
        """The steps, from low to high."""
        count = round((self.high - self.low) / self.step)
        return [self.low + number * self.step for number in range(count + 1)]


def _number(value: Value) -> float | None:
    """As a float that can be drawn, however absurd."""
    return None if value is None else min(max(float(value), -_LARGEST), _LARGEST)


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    commands: list[str] = []
    pen_down = False
    for point in points:
        if point is None:
            pen_down = False
            continue
        commands.append(f"{'L' if pen_down else 'M'}{point[0]:.1f} {point[1]:.1f}")
        pen_down = True
    return " ".join(commands)


def _area(points: Sequence[tuple[float, float] | None], baseline: float) -> str:
    """The line's area down to `baseline`: one closed shape per unbroken run."""
    shapes: list[str] = []
    run: list[tuple[float, float]] = []
    for point in [*points, None]:
        if point is not None:
            run.append(point)
            continue
        if len(run) > 1:
            shapes.append(
                f"{_path(run)} L{run[-1][0]:.1f} {baseline:.1f} L{run[0][0]:.1f} {baseline:.1f} Z"
            )
        run = []
    return " ".join(shapes)


def _anchor(x: float, margin: float) -> str:
    """Which side of a text stands at `x` percent, so that it stays within the chart."""
    if x < margin:
        return "start"
    return "end" if x > 100 - margin else "middle"


def line_chart(
    values: Sequence[Value],
    comparison: Sequence[Value] = (),
    *,
    whole: bool = False,
    labels_by: int = 1,
    height: int = 280,
    header: int = 28,
    footer: int = 26,
    steps: int = 5,
) -> LineChart:
    """Lay out a series and, behind it, the same steps of another period.

    Args:
        values: One per step; None where there is no value.
        comparison: Likewise.
        whole: Only whole values make sense.
        labels_by: Label every so many steps, or a multiple of it.
        height: Pixels.
        header: Pixels left above the highest tick.
        footer: Pixels left below the lowest one, for labels.
        steps: About so many ticks beside zero.
    """
    numbers = [_number(value) for value in values]
    others = [_number(value) for value in comparison]
    known = [number for number in (*numbers, *others) if number is not None]
    scale = Scale.around(known, steps=steps, whole=whole)
    bottom = float(height - footer)
    count = max(len(numbers), len(others), 1)
    slot = 100 / count

    def x(index: int) -> float:
        return slot * (index + 0.5)

    def y(number: float) -> float:
        spread = scale.high - scale.low
        return bottom - (number - scale.low) / spread * (bottom - header) if spread else bottom

    def points(series: Sequence[float | None]) -> list[tuple[float, float] | None]:
        return [
            None if number is None else (x(index) * PATH_WIDTH / 100, y(number))
            for index, number in enumerate(series)
        ]

    def dots(series: Sequence[float | None], *, all_shown: bool) -> list[Dot]:
        return [
            Dot(x(i), y(n), i, _anchor(x(i), 34), shown=all_shown or _stands_alone(series, i))
            for i, n in enumerate(series)
            if n is not None
        ]

    line = points(numbers)
    every = max(1, math.ceil(len(numbers) / _MAX_X_LABELS / labels_by)) * labels_by
    return LineChart(
        height=height,
        bottom=bottom,
        baseline=y(0.0),
        line=_path(line),
        area=_area(line, y(0.0)),
        comparison=_path(points(others)),
        dots=tuple(dots(numbers, all_shown=len(numbers) <= _MAX_SHOWN_DOTS)),
        comparison_dots=tuple(dot for dot in dots(others, all_shown=False) if dot.shown),
        slot=slot if count <= MAX_SLOTS else None,
        y_ticks=tuple(YTick(y(tick), Decimal(repr(tick))) for tick in scale.ticks()),
        x_labels=tuple(
            XLabel(x(index), index, _anchor(x(index), 3), minor=place % 2 == 1)
            for place, index in enumerate(range(0, len(numbers), every))
        ),
    )


def _stands_alone(numbers: Sequence[float | None], index: int) -> bool:
    """Whether no line leads to the value."""
    neighbours = (*numbers[max(index - 1, 0) : index], *numbers[index + 1 : index + 2])
    return all(neighbour is None for neighbour in neighbours)


def sparkline(values: Sequence[Value], *, width: int = 120, height: int = 32) -> str:
    """A small line without axes, as an SVG path; empty when there is nothing to draw."""
    numbers = [_number(value) for value in values]
    known = [number for number in numbers if number is not None]
    if len(known) < 2:
        return ""
    low, high = min(known), max(known)
    spread = high - low
    pace = (width - 4) / (len(numbers) - 1)

    def y(number: float) -> float:
        return height - 3 - ((number - low) / spread if spread else 0.5) * (height - 6)

    return _path(
        [
            None if number is None else (2 + pace * index, y(number))
            for index, number in enumerate(numbers)
        ]
    )
