"""How a figure compares with the one before: direction-aware, for cards, tables and lists alike."""

from dataclasses import dataclass
from decimal import Decimal

from troupe.actors.analytics.metrics import Better, Figure, Measures, Metric, change
from troupe.http.dashboard import formats


@dataclass(frozen=True, slots=True)
class Change:
    """How a figure compares with the one before.

    Attributes:
        previous: The figure before.
        relative: 0.1 is ten percent more; None where there is nothing to divide by.
        text: The same for people.
        tone: ``good``, ``bad`` or ``flat``.
    """

    previous: Figure
    relative: Decimal | None
    text: str
    tone: str

    @classmethod
    def of(cls, value: Figure, previous: Figure, better: Better) -> "Change":
        """From both figures and which direction is good news."""
        relative = change(value, previous)
        text = formats.relative(relative, value, previous)
        return cls(previous, relative, text, formats.tone(relative, better))

    @classmethod
    def between(cls, metric: Metric, now: Measures, before: Measures) -> "Change":
        """From the sums of both periods."""
        return cls.of(metric.compute(now), metric.compute(before), metric.better)
