"""Branches in an order that pages can be cut from.

A page continues after a *place*, the sort key of the last branch shown, and not after a count of
them or after a branch that must still be there: when a load changes figures between two pages, the
second one goes on where the first ended in the order, and nothing fails.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from troupe.actors.analytics.answers import Branch, Summary
from troupe.actors.analytics.metrics import METRICS

NAME: Final = "name"

Place = tuple[str | int | Decimal, ...]
"""Key and id: ``(name, id)`` in the order of names, ``(0 | 1, figure, id)`` in that of a metric. A
figure that is not known (0) is less than any that is."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """An order of branches; those with equal keys stand in the order of their ids.

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

    def place(self, branch: Branch, summary: Summary) -> Place:
        """Where a branch stands."""
        return (*self._key(branch, summary), branch.location_id)

    def order(
        self, summaries: Mapping[Branch, Summary], after: Place | None = None
    ) -> list[Branch]:
        """The branches in this order, from the first that stands behind `after`."""
        ordered = sorted(summaries, key=lambda branch: branch.location_id)
        ordered.sort(
            key=lambda branch: self._key(branch, summaries[branch]), reverse=self.descending
        )
        if after is None:
            return ordered
        return [branch for branch in ordered if self._is_behind(after, branch, summaries[branch])]

    def _key(self, branch: Branch, summary: Summary) -> Place:
        if self.field == NAME:
            return ((branch.name or branch.location_id).casefold(),)
        figure = METRICS[self.field].compute(summary.measures)
        return (0, Decimal(0)) if figure is None else (1, Decimal(figure))

    def _is_behind(self, after: Place, branch: Branch, summary: Summary) -> bool:
        key, seen = self._key(branch, summary), after[:-1]
        if key == seen:
            return branch.location_id > str(after[-1])
        return key < seen if self.descending else key > seen
