"""A load takes effect when what people look at has been answered anew, and in time in any case."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio
from pydantic import BaseModel
from trio.testing import MockClock, wait_all_tasks_blocked

from troupe.actors.analytics.answers import Answers, Reporting
from troupe.actors.analytics.standing import AHEAD, MAX_AGE_AHEAD
from troupe.common.errors import DatabaseError
from troupe.common.ids import TenantId, new_id
from troupe.http.answering import Answering, Inquiry
from troupe.http.conventions import CompareQuery
from troupe.http.renewal import MARGIN, RECENT, Renewal

A = TenantId(new_id())
QUERY = CompareQuery()
PATIENCE = 30.0
"""Seconds of real time."""


class Figures(BaseModel):
    version: int


class Snapshot:
    def __init__(self, reporting: Reporting) -> None:
        self.reporting = reporting


class Source:
    """A database whose tenants stand somewhere, and which may be slow or away."""

    def __init__(self) -> None:
        self.version = 1
        self.currency = "EUR"
        self.looks = 0
        self.computations = 0
        self.open = trio.Event()
        self.open.set()
        self.away = False

    async def reporting(self, tenant: TenantId) -> Reporting:
        self.looks += 1
        if self.away:
            raise DatabaseError("away")
        return Reporting(tenant, "Shop", "UTC", self.currency, 1, self.version, None, None)

    async def ask(self, tenant: TenantId, question: Any) -> Any:
        self.computations += 1
        await self.open.wait()
        self.looks -= 1
        return await question(Snapshot(await self.reporting(tenant)))


async def read(snapshot: Any, _asked: object, _query: object) -> int:
    return int(snapshot.reporting.data_version)


FIGURES: Inquiry[CompareQuery, int] = Inquiry(
    "figures", Figures, read, lambda _asked, _query, version: {"version": version}
)


@pytest.fixture
def mock_clock() -> MockClock:
    return MockClock()


@pytest.fixture
def source() -> Source:
    return Source()


@asynccontextmanager
async def renewed(source: Source, unhurried: Source | None = None) -> AsyncIterator[Answering]:
    answering = Answering(
        cast("Answers", source), unhurried=cast("Answers", unhurried) if unhurried else None
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Renewal(answering).run)
        await wait_all_tasks_blocked()
        yield answering
        nursery.cancel_scope.cancel()


async def asked(answering: Answering) -> int:
    return Figures.model_validate_json(await answering.document(A, FIGURES, QUERY)).version


def counts(answering: Answering) -> int | None:
    known = answering.standing.recall(A)
    return known and known.data_version


async def until(answering: Answering, version: int) -> None:
    """Wait for threads, while trio's time stands still."""
    deadline = time.monotonic() + PATIENCE
    while counts(answering) != version:
        assert time.monotonic() < deadline
        await trio.lowlevel.checkpoint()


async def loaded(answering: Answering, source: Source) -> None:
    """One question was asked under version 1; a load is heard of, and nothing is answered yet."""
    assert await asked(answering) == 1
    source.version, source.open = 2, trio.Event()
    answering.standing.outdate(A)
    await wait_all_tasks_blocked()
    assert source.computations == 2  # under way, for nobody


async def test_a_load_counts_once_its_answers_are_there(
    mock_clock: MockClock, source: Source
) -> None:
    async with renewed(source) as answering:
        await loaded(answering, source)
        assert await asked(answering) == 1
        source.open.set()
        await until(answering, 2)
        assert await asked(answering) == 2
        assert source.computations == 2  # nobody has waited for one


async def test_it_counts_in_time_whatever_the_answers_take(
    mock_clock: MockClock, source: Source
) -> None:
    async with renewed(source) as answering:
        await loaded(answering, source)
        mock_clock.jump(MAX_AGE_AHEAD - 0.01)
        await until(answering, 2)
        source.open.set()
        assert await asked(answering) == 2
        assert source.computations == 3


async def test_what_is_answered_ahead_is_in_nobodys_way(
    mock_clock: MockClock, source: Source
) -> None:
    unhurried = Source()
    async with renewed(source, unhurried) as answering:
        assert await asked(answering) == 1
        source.version = unhurried.version = 2
        answering.standing.outdate(A)
        await until(answering, 2)
        assert await asked(answering) == 2
        assert (source.computations, unhurried.computations) == (1, 1)


async def test_it_is_hurried_once_half_of_the_time_is_over(
    mock_clock: MockClock, source: Source
) -> None:
    unhurried = Source()
    async with renewed(source, unhurried) as answering:
        assert await asked(answering) == 1
        source.version, unhurried.open = 2, trio.Event()  # which never answers
        answering.standing.outdate(A)
        await wait_all_tasks_blocked()
        assert (source.computations, unhurried.computations) == (1, 1)
        mock_clock.jump((MAX_AGE_AHEAD - MARGIN) / 2 - 0.01)
        await wait_all_tasks_blocked()
        assert source.computations == 1
        mock_clock.jump(0.02)
        await until(answering, 2)
        assert source.computations == 2
        assert await asked(answering) == 2
        assert source.computations == 2  # nobody has waited for one


async def test_changed_settings_count_at_once(mock_clock: MockClock, source: Source) -> None:
    async with renewed(source) as answering:
        assert await asked(answering) == 1
        source.currency, source.version, source.open = "SEK", 2, trio.Event()
        answering.standing.outdate(A)
        await until(answering, 2)
        assert source.computations == 1


async def test_only_what_was_asked_of_late_is_answered_ahead(
    mock_clock: MockClock, source: Source
) -> None:
    async with renewed(source) as answering:
        assert await asked(answering) == 1
        mock_clock.jump(RECENT + 1)
        source.version = 2
        answering.standing.outdate(A)
        await wait_all_tasks_blocked()
        assert counts(answering) == 2
        assert source.computations == 1


async def test_nobody_waits_for_a_look_while_somebody_asks(
    mock_clock: MockClock, source: Source
) -> None:
    async with renewed(source) as answering:
        assert await asked(answering) == 1
        for _ in range(10):
            mock_clock.jump(AHEAD + 0.01)
            looks = source.looks
            assert await asked(answering) == 1
            assert source.looks == looks  # it was told that it is time, and that is all
            await wait_all_tasks_blocked()
            assert source.looks == looks + 1


async def test_what_fails_is_left_to_whoever_asks(mock_clock: MockClock, source: Source) -> None:
    async with renewed(source) as answering:
        assert await asked(answering) == 1
        source.away = True
        answering.standing.outdate(A)
        await wait_all_tasks_blocked()
        assert await asked(answering) == 1  # no older than it may be
        mock_clock.jump(MAX_AGE_AHEAD)
        with pytest.raises(DatabaseError):
            await asked(answering)
        source.away, source.version = False, 2
        assert await asked(answering) == 2
