"""The query that flattens one day, fitted to the columns that its table has.

The text is GoogleSQL in flatten.sql. Two things cannot be query parameters: the table's name, which
is made from a date and a family and checked against a pattern, and columns that the table lacks,
whose marked lines become typed NULLs.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final

from google.cloud.bigquery import SchemaField

from troupe.common.sql import load
from troupe.common.tenant_settings import TenantSettings

_FLATTEN: Final = load(__package__, "flatten.sql")["flatten_day"]
_OPTIONAL: Final = re.compile(
    r"^(?P<indent>\s*)(?P<expression>.+) AS (?P<name>[a-z_]+)(?P<comma>,?)"
    r" -- optional: (?P<path>[a-z_.]+) (?P<type>.+)$",
    re.MULTILINE,
)
_TABLE: Final = re.compile(r"events_(?:fresh_|intraday_)?(?P<day>\d{8})")


class Family(StrEnum):
    """Families of export tables; for a day exactly one of them counts, the first that exists."""

    DAILY = "daily"
    FRESH = "fresh"
    INTRADAY = "intraday"

    def table(self, day: date) -> str:
        """Name of this family's table for `day`."""
        return f"{_PREFIXES[self]}{day:%Y%m%d}"

    @classmethod
    def of_table(cls, name: str) -> "tuple[Family, date] | None":
        """Which day of which family a table holds; None for a table that is no export."""
        match = _TABLE.fullmatch(name)
        if match is None:
            return None
        try:
            day = date.fromisoformat(match["day"])
        except ValueError:
            return None
        return next(family for family in cls if family.table(day) == name), day


_PREFIXES: Final = {
    Family.DAILY: "events_",
    Family.FRESH: "events_fresh_",
    Family.INTRADAY: "events_intraday_",
}
RANK: Final = {family: place for place, family in enumerate(Family)}
"""0 is the best."""


@dataclass(frozen=True, slots=True)
class FlattenQuery:
    """A query ready to be sent.

    Attributes:
        sql: GoogleSQL; the table is named without its dataset.
        parameters: Names to values, all of them strings.
        fingerprint: Changes when the same table would be read differently.
    """

    sql: str
    parameters: dict[str, str]
    fingerprint: str


def flatten_query(
    table: str, schema: Sequence[SchemaField], settings: TenantSettings
) -> FlattenQuery:
    """The query for one table.

    Args:
        table: ``events_20260801`` and the like.
        schema: The columns that it has.
        settings: Names that the tenant gives to parameters and properties.

    Raises:
        ValueError: The name is not that of an export table.
    """
    if not _TABLE.fullmatch(table):
        raise ValueError(f"{table!r} is not the name of an export table")
    present = set(_paths(schema))

    def fitted(match: re.Match[str]) -> str:
        has_it = match["path"] in present
        expression = match["expression"] if has_it else f"CAST(NULL AS {match['type']})"
        return f"{match['indent']}{expression} AS {match['name']}{match['comma']}"

    parameters = {
        "branch_parameter": settings.branch_parameter,
        "branch_property": settings.branch_property,
        "failed_search_event": settings.failed_search_event,
        "failed_search_parameter": settings.failed_search_parameter,
        "web_customer_property": settings.web_customer_property,
        "web_user_property": settings.web_user_property,
    }
    sql = _OPTIONAL.sub(fitted, _FLATTEN)
    digest = hashlib.sha256(repr((sql, sorted(parameters.items()))).encode()).hexdigest()
    return FlattenQuery(sql.replace("{table}", table), parameters, digest[:16])


def _paths(schema: Sequence[SchemaField], above: str = "") -> Iterator[str]:
    for field in schema:
        path = f"{above}{field.name}"
        yield path
        yield from _paths(field.fields, f"{path}.")
