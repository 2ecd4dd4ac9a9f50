"""COPY through a unit of work, from and to trio."""

import struct
from collections.abc import AsyncIterator
from decimal import Decimal

import asyncpg
import pytest
import trio

from tests.integration.database.conftest import Onlooker
from troupe.common.bridge import ToTrio, from_trio
from troupe.common.database import Database

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = struct.pack("!h", -1)


def binary_row(number: int) -> bytes:
    """One row of (id int4, body jsonb, amount null)."""
    body = b'\x01{"n":%d}' % number
    return (
        struct.pack("!hii", 3, 4, number)
        + struct.pack("!i", len(body))
        + body
        + struct.pack("!i", -1)
    )


async def test_binary_copy_from_an_async_iterator(database: Database) -> None:
    async def rows() -> AsyncIterator[bytes]:
        yield SIGNATURE
        for start in range(0, 10_000, 1000):
            yield b"".join(binary_row(number) for number in range(start, start + 1000))
        yield TRAILER

    async def unit(connection: asyncpg.Connection) -> str:
        status: str = await connection.copy_to_table("staging", source=rows(), format="binary")
        return status

    assert await database.run(unit) == "COPY 10000"
    row = await database.fetch_row("SELECT count(*), sum((body->>'n')::int) AS n FROM staging")
    assert row is not None
    assert tuple(row) == (10_000, sum(range(10_000)))


async def test_batches_made_in_trio_are_copied_with_back_pressure(database: Database) -> None:
    send, receive = trio.open_memory_channel[bytes](1)
    most_ahead = 0

    async def produce() -> None:
        nonlocal most_ahead
        async with send:
            await send.send(SIGNATURE)
            for start in range(0, 5000, 100):
                most_ahead = max(most_ahead, send.statistics().current_buffer_used)
                await send.send(b"".join(binary_row(n) for n in range(start, start + 100)))
            await send.send(TRAILER)

    async def unit(connection: asyncpg.Connection) -> str:
        status: str = await connection.copy_to_table(
            "staging", source=from_trio(receive), format="binary"
        )
        return status

    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        assert await database.run(unit) == "COPY 5000"
    assert most_ahead <= 1


async def test_a_producer_that_fails_fails_the_copy(database: Database, onlooker: Onlooker) -> None:
    async def rows() -> AsyncIterator[bytes]:
        yield b"1\t{}\t1\n"
        raise LookupError("the source broke")

    async def unit(connection: asyncpg.Connection) -> None:
        await connection.copy_to_table("staging", source=rows())

    with pytest.raises(LookupError):
        await database.run(unit)
    assert await onlooker.value("SELECT count(*) FROM staging") == 0
    assert await database.fetch_value("SELECT 1") == 1


async def test_records_with_json_and_decimals_are_copied(database: Database) -> None:
    records = [(1, {"price": Decimal("1.10")}, Decimal("2.50")), (2, None, None)]

    async def unit(connection: asyncpg.Connection) -> None:
        await connection.copy_records_to_table("staging", records=records)

    await database.run(unit)
    rows = await database.fetch("SELECT id, body, amount FROM staging ORDER BY id")
    assert [tuple(row) for row in rows] == records


async def test_copy_out_streams_into_trio(database: Database) -> None:
    await database.execute("INSERT INTO staging SELECT n FROM generate_series(1, 20000) n")
    send, receive = trio.open_memory_channel[bytes](1)
    outlet = ToTrio(send)

    async def unit(connection: asyncpg.Connection) -> None:
        await connection.copy_from_query("SELECT id FROM staging", output=outlet.send)
        outlet.close()

    lines = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.run, unit)
        async for chunk in receive:
            lines += chunk.count(b"\n")
    assert lines == 20_000
