"""Which part of the data a question is about.

A branch can be asked of everything that happened. The other filters choose *sessions*: a channel, a
device, a country or a customer is known of a session only, so what happened outside of sessions
(without consent) matches none of them. Filters of different kinds narrow each other; the values of
one kind add up. The empty text is a value too: "not known".

A page, a product or a term chooses the sessions that had to do with it, at any time of theirs, also
beyond the range; all that such a session did is looked at, whatever else it was about.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

Values = tuple[str, ...]


_FIELDS: Final = {"channel": "channels", "device": "devices", "country": "countries"}
_LONGEST_PART: Final = 128
"""Characters up to which parts are told apart where they are added up by day."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What to look at; an empty tuple lets everything pass.

    Attributes:
        locations: Branches.
        channels: Default channel groups.
        devices: Device categories (``desktop``, ``mobile``, ``tablet``).
        countries: Names, as the export has them.
        customers: Ids of customers who were logged in.
        pages: Addresses that the session viewed; what follows a ``?`` or ``#`` is of no matter.
        products: Item ids that it viewed, put into the cart or bought.
        terms: What it searched for, however it was typed.
    """

    locations: Values = ()
    channels: Values = ()
    devices: Values = ()
    countries: Values = ()
    customers: Values = ()
    pages: Values = ()
    products: Values = ()
    terms: Values = ()

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
        return all(wanted is None for wanted in self.arguments()[1:])

    @property
    def by_one_part(self) -> tuple[str, list[str]] | None:
        """Dimension and values, when only known channels, devices or countries are wanted."""
        dimensions = {
            "channel": self.channels,
            "device": self.devices,
            "country": self.countries,
        }
        chosen = [(name, values) for name, values in dimensions.items() if values]
        if len(chosen) != 1 or self != Filters(**{_FIELDS[chosen[0][0]]: chosen[0][1]}):
            return None
        [(name, values)] = chosen
        is_known = all(0 < len(value) <= _LONGEST_PART for value in values)
        return (name, list(dict.fromkeys(values))) if is_known else None

    def arguments(self) -> tuple[list[str] | None, ...]:
        """What the queries take.

        Branches, channels, devices, countries, customers; kinds and subjects, side by side.
        """
        kinds = self.locations, self.channels, self.devices, self.countries, self.customers
        subjects = [
            (kind, value)
            for kind, values in (
                ("page", self.pages),
                ("product", self.products),
                ("term", self.terms),
            )
            for value in dict.fromkeys(values)
        ]
        return (
            *(_wanted(values) for values in kinds),
            [kind for kind, _ in subjects] or None,
            [subject for _, subject in subjects] or None,
        )


def _wanted(values: Values) -> list[str] | None:
    return list(dict.fromkeys(values)) or None


EVERYTHING: Final = Filters()
