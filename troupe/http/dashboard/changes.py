"""How a figure compares with the one before: direction-aware, for cards, tables and lists alike."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from troupe.actors.analytics.metrics import Better, Figure, Measures, Metric, change
from troupe.http.dashboard import formats

_SHOWN_PLACES: Final = 3
"""A change is shown in percent with one place; one that rounds to nothing is no news."""


@dataclass(frozen=True, slots=True)
class Change:
    """How a figure compares with the one before.

    Attributes:
        previous: The figure before.
        relative: 0.1 is ten percent more; None where there is nothing to divide by.
        text: The same for people.
        tone: ``good``, ``bad`` or ``flat``.
        arrow: ``up``, ``down``, or nothing where it is too small to be shown.
    """

    previous: Figure
    relative: Decimal | None
    text: str
    tone: str
    arrow: str

    @classmethod
    def of(cls, value: Figure, previous: Figure, better: Better) -> "Change":
        """From both figures and which direction is good news."""
        relative = change(value, previous)
        shown = None if relative is None else round(relative, _SHOWN_PLACES) + 0  # no minus zero
        text = formats.relative(relative if shown else shown, value, previous)
        arrow = ("up" if shown > 0 else "down") if shown else ""
        return cls(previous, relative, text, formats.tone(shown, better), arrow)

    @classmethod
    def between(cls, metric: Metric, now: Measures, before: Measures) -> "Change":
        """From the sums of both periods."""
        return cls.of(metric.compute(now), metric.compute(before), metric.better)
