"""Searches of one source day, and what one search term is.

PostgreSQL's own folding of letters depends on its version and on the locale of the cluster, so
terms are normalised here, in the way of METRICS, and sent back beside what was typed: the different
terms of a day are few, whatever the number of searches.
"""

import unicodedata
from datetime import date
from typing import TYPE_CHECKING, Final

from troupe.common.sql import load

if TYPE_CHECKING:
    import asyncpg

    from troupe.actors.data.publication import Reporting

    Connection = asyncpg.Connection[asyncpg.Record]

MAX_TERM_CHARACTERS: Final = 256

SEARCHES: Final = load(__package__, "searches.sql")


def normalised(typed: str) -> str:
    """A search term as it is counted: compatibility forms, case and spaces do not matter.

    >>> normalised("  Akku   SCHRAUBER ")
    'akku schrauber'
    >>> normalised("Straße") == normalised("STRASSE")
    True
    """
    folded = unicodedata.normalize("NFKC", typed).casefold()
    # Folding may leave what has a shorter form again.
    return " ".join(unicodedata.normalize("NFKC", folded).split())[:MAX_TERM_CHARACTERS].rstrip()


async def derive_searches(
    connection: "Connection", reporting: "Reporting", source_day: date
) -> None:
    """Replace the searches of a source day; its sessions must be derived already."""
    tenant, failed = reporting.tenant, reporting.failed_search_event
    typed = await connection.fetchval(SEARCHES["typed_terms"], tenant, failed)
    await connection.execute(SEARCHES["drop_searches"], tenant, source_day)
    await connection.execute(
        SEARCHES["derive_searches"],
        tenant,
        source_day,
        failed,
        reporting.zone,
        typed,
        [normalised(term) for term in typed],
    )


async def mark_searches(connection: "Connection", reporting: "Reporting") -> None:
    """Let the searches of changed sessions follow them; purchases must be counted already."""
    await connection.execute(SEARCHES["mark_searches"], reporting.tenant)
