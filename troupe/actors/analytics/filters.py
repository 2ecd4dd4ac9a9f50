"""Which part of the data a question is about.

A branch can be asked of everything that happened. The other filters choose *sessions*: a channel, a
device, a country or a customer is known of a session only, so what happened outside of sessions
(without consent) matches none of them. Filters of different kinds narrow each other; the values of
one kind add up. The empty text is a value too: "not known".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

Values = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Filters:
    """What to look at; an empty tuple lets everything pass.

    Attributes:
        locations: Branches.
        channels: Default channel groups.
        devices: Device categories (``desktop``, ``mobile``, ``tablet``).
        countries: Names, as the export has them.
        customers: Ids of customers who were logged in.
    """

    locations: Values = ()
    channels: Values = ()
    devices: Values = ()
    countries: Values = ()
    customers: Values = ()

    @classmethod
    def of_branches(cls, branches: Sequence[str] | None) -> "Filters":
        """Only these branches; None for all."""
        return cls(locations=tuple(branches or ()))

    @property
    def branches(self) -> list[str] | None:
        """The branches, once each, or None for all."""
        return _wanted(self.locations)

    @property
    def by_branch_only(self) -> bool:
        """Whether rollups by branch can answer."""
        return not (self.channels or self.devices or self.countries or self.customers)

    def arguments(self) -> tuple[list[str] | None, ...]:
        """What the queries take: branches, channels, devices, countries, customers."""
        kinds = self.locations, self.channels, self.devices, self.countries, self.customers
        return tuple(_wanted(values) for values in kinds)


def _wanted(values: Values) -> list[str] | None:
    return list(dict.fromkeys(values)) or None


EVERYTHING: Final = Filters()
