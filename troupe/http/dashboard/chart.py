"""Line charts as SVG, computed on the server.

A chart in the page itself is readable without JavaScript, prints, follows the page's colours in
dark mode, and passes a content security policy that allows no inline script or style. This module
knows geometry only: values in, points and tick positions out; the template draws them.

Missing values (a ratio without a denominator) break the line instead of falling to zero.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

Value = int | Decimal | None

_NICE_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_MAX_X_LABELS: Final = 8


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled position on an axis, in the chart's units."""

    position: float
    value: float


@dataclass(frozen=True, slots=True)
class Dot:
    """One value of the main series: where it is drawn and which bucket it belongs to."""

    x: float
    y: float
    index: int


@dataclass(frozen=True, slots=True)
class LineChart:
    """What a template needs to draw one chart of `width` by `height`."""

    width: int
    height: int
    left: int
    bottom: float
    line: str
    area: str
    comparison: str
    dots: tuple[Dot, ...]
    slot: float
    y_ticks: tuple[Tick, ...]
    x_labels: tuple[Tick, ...]


def nice_ceiling(value: float, steps: int) -> tuple[float, float]:
    """The smallest round (top, step) with `steps` steps that reaches `value`."""
    if value <= 0:
        return float(steps), 1.0
    raw = value / steps
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(s * magnitude for s in _NICE_STEPS if s * magnitude >= raw * (1 - 1e-9))
    return step * steps, step


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


def _area(points: Sequence[tuple[float, float] | None], bottom: float) -> str:
    """The line's area down to `bottom`: one closed shape per unbroken run."""
    shapes: list[str] = []
    run: list[tuple[float, float]] = []
    for point in [*points, None]:
        if point is not None:
            run.append(point)
            continue
        if len(run) > 1:
            shapes.append(
                f"{_path(run)} L{run[-1][0]:.1f} {bottom:.1f} L{run[0][0]:.1f} {bottom:.1f} Z"
            )
        run = []
    return " ".join(shapes)


def line_chart(
    values: Sequence[Value],
    comparison: Sequence[Value] = (),
    *,
    width: int = 960,
    height: int = 280,
    left: int = 64,
    margin: int = 14,
    footer: int = 26,
    steps: int = 4,
) -> LineChart:
    """Lay out a series and, dashed behind it, the same buckets of another period."""
    bottom = float(height - footer)
    known = [float(value) for value in (*values, *comparison) if value is not None]
    top_value, step = nice_ceiling(max(known, default=0.0), steps)
    count = max(len(values), len(comparison), 1)
    slot = (width - left - margin) / count

    def place(index: int, value: Value) -> tuple[float, float] | None:
        if value is None:
            return None
        share = max(float(value), 0.0) / top_value
        return left + slot * (index + 0.5), bottom - share * (bottom - margin)

    points = [place(index, value) for index, value in enumerate(values)]
    behind = [place(index, value) for index, value in enumerate(comparison)]
    every = max(1, math.ceil(len(values) / _MAX_X_LABELS))
    return LineChart(
        width=width,
        height=height,
        left=left,
        bottom=bottom,
        line=_path(points),
        area=_area(points, bottom),
        comparison=_path(behind),
        dots=tuple(Dot(p[0], p[1], i) for i, p in enumerate(points) if p is not None),
        slot=slot,
        y_ticks=tuple(
            Tick(bottom - n / steps * (bottom - margin), n * step) for n in range(steps + 1)
        ),
        x_labels=tuple(
            Tick(left + slot * (index + 0.5), index) for index in range(0, len(values), every)
        ),
    )


def sparkline(values: Sequence[Value], *, width: int = 120, height: int = 32) -> str:
    """A small line without axes, as an SVG path; empty when there is nothing to draw."""
    known = [float(value) for value in values if value is not None]
    if len(known) < 2:
        return ""
    low, high = min(known), max(known)
    spread = high - low or 1.0
    pace = (width - 4) / (len(values) - 1)
    return _path(
        [
            None
            if value is None
            else (2 + pace * i, height - 3 - (float(value) - low) / spread * (height - 6))
            for i, value in enumerate(values)
        ]
    )
