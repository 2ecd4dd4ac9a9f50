"""Everything that is stored of a tenant, or of one person there, as lines of JSON.

The tables are found in the catalogue, so that one that is added later is exported without anyone
thinking of it. All lines come from one snapshot; they stream, so that memory is bounded by a batch
and not by the tenant. Left out are secrets (sealed or hashed, and of no use elsewhere).

A line is ``{"table": "data.sessions", "row": {…}}``; the last is ``{"end": true, "rows": 12345}``.
An export without it was cut short.
"""

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from troupe.common.database import Database
from troupe.common.erasure import QUERIES as ERASURE
from troupe.common.ids import TenantId
from troupe.common.sql import load
from troupe.common.units import HOURS

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

_QUERIES: Final = load(__package__, "export.sql")
DEADLINE: Final = 6 * HOURS
BATCH_ROWS: Final = 500

Take = Callable[[bytes], Awaitable[None]]


async def export_rows(
    database: Database, tenant: TenantId, take: Take, *, person: str | None = None
) -> int:
    """Hand over the lines, batch by batch; returns how many rows there were.

    Args:
        database: Where.
        tenant: Whose.
        take: An asyncio coroutine function; it holds back the reading.
        person: An identifier of the person whose rows are wanted; None: all rows.

    Raises:
        DatabaseError: It was cut short.
    """

    async def unit(connection: "Connection") -> int:
        total = 0
        identifiers: list[str] = []
        arguments: tuple[object, ...] = (tenant,)
        if person is not None:
            identifiers = await connection.fetchval(ERASURE["identifiers"], tenant, person)
            patterns = await connection.fetchrow(_QUERIES["patterns"], identifiers)
            assert patterns is not None  # noqa: S101  # it selects no table
            arguments = (tenant, identifiers, patterns["parts"], patterns["quoted"])
        for table in await connection.fetch(_QUERIES["tables"]):
            condition = table["condition"] if person is not None else "tenant_id = $1"
            if condition is None:
                continue
            total += await _table(connection, table, condition, arguments, take)
        if person is None:
            lines = [row["line"] for row in await connection.fetch(_QUERIES["members"])]
            await take(_written("auth.people", lines))
            total += len(lines)
        await take(json.dumps({"end": True, "rows": total}).encode() + b"\n")
        return total

    return await database.run(
        unit, tenant=tenant, read_only=True, isolation="repeatable_read", deadline=DEADLINE
    )


async def _table(
    connection: "Connection",
    table: "asyncpg.Record",
    condition: str,
    arguments: tuple[object, ...],
    take: Take,
) -> int:
    # Names come from the catalogue, quoted there; values are parameters, each of which must appear.
    named = [f" AND ${place}::text[] IS NOT NULL" for place in range(2, len(arguments) + 1)]
    query = (
        f"SELECT row_to_json(x)::text AS line FROM (SELECT {table['columns']}"  # noqa: S608
        f" FROM {table['quoted']} WHERE ({condition}){''.join(named)}) AS x"
    )
    total = 0
    cursor = await connection.cursor(query, *arguments)
    while rows := await cursor.fetch(BATCH_ROWS):
        await take(_written(table["name"], [row["line"] for row in rows]))
        total += len(rows)
    return total


def _written(name: str, lines: list[str]) -> bytes:
    before = f'{{"table":{json.dumps(name)},"row":'
    return "".join(f"{before}{line}}}\n" for line in lines).encode()
