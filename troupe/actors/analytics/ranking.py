"""Branches, or values of a dimension, in an order that pages can be cut from.

A page continues after a *place*, the sort key of the last one shown, and not after a count of
them or after one that must still be there: when a load changes figures between two pages, the
second one goes on where the first ended in the order, and nothing fails.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Protocol, TypeVar

from troupe.actors.analytics.answers import Summary
from troupe.actors.analytics.metrics import METRICS

NAME: Final = "name"

Place = tuple[str | int | Decimal, ...]
"""Key and id: ``(name, id)`` in the order of names, ``(0 | 1, figure, id)`` in that of a metric. A
figure that is not known (0) is less than any that is."""


class Ranked(Protocol):
    """What can be ranked."""

    @property
    def key(self) -> str:
        """What tells it from others."""
        ...

    @property
    def label(self) -> str:
        """What it is called."""
        ...


R = TypeVar("R", bound=Ranked)


@dataclass(frozen=True, slots=True)
class Ranking:
    """An order of branches; those with equal sort keys stand in the order of their ids.

    Attributes:
        field: A metric's name, or `NAME`.
        descending: Largest first.
    """

    field: str
    descending: bool

    @property
    def place_types(self) -> tuple[type[str | int | Decimal], ...]:
        """What the parts of a place are."""
        return (str, str) if self.field == NAME else (int, Decimal, str)

    def place(self, one: Ranked, summary: Summary) -> Place:
        """Where one stands."""
        return (*self._key(one, summary), one.key)

    def order(self, summaries: Mapping[R, Summary], after: Place | None = None) -> list[R]:
        """All in this order, from the first that stands behind `after`."""
        ordered = sorted(summaries, key=lambda one: one.key)
        ordered.sort(key=lambda one: self._key(one, summaries[one]), reverse=self.descending)
        if after is None:
            return ordered
        return [one for one in ordered if self._is_behind(after, one, summaries[one])]

    def _key(self, one: Ranked, summary: Summary) -> Place:
        if self.field == NAME:
            return (one.label.casefold(),)
        figure = METRICS[self.field].compute(summary.measures)
        return (0, Decimal(0)) if figure is None else (1, Decimal(figure))

    def _is_behind(self, after: Place, one: Ranked, summary: Summary) -> bool:
        key, seen = self._key(one, summary), after[:-1]
        if key == seen:
            return one.key > str(after[-1])
        return key < seen if self.descending else key > seen
