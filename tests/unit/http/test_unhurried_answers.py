"""What is got ready before anybody asks is in no hurry, and nobody waits for it."""

from typing import Any, cast

import pytest
import trio
from pydantic import BaseModel
from trio.testing import wait_all_tasks_blocked

from troupe.actors.analytics.answers import Answers, Reporting
from troupe.common.ids import TenantId, new_id
from troupe.http.answering import Answering, Inquiry
from troupe.http.conventions import CompareQuery, Preset

A = TenantId(new_id())
DEADLINE = 10.0


class Figures(BaseModel):
    source: str


class Snapshot:
    def __init__(self, reporting: Reporting, source: str) -> None:
        self.reporting = reporting
        self.source = source


class Source:
    """One of several ways to the same database."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.computations = 0
        self.version = 1
        self.open = trio.Event()

    async def reporting(self, tenant: TenantId) -> Reporting:
        return Reporting(tenant, "Shop", "UTC", "EUR", 1, self.version, None, None)

    async def ask(self, tenant: TenantId, question: Any) -> Any:
        self.computations += 1
        await self.open.wait()
        return await question(Snapshot(await self.reporting(tenant), self.name))


async def read(snapshot: Any, _asked: object, _query: object) -> str:
    return str(snapshot.source)


FIGURES: Inquiry[CompareQuery, str] = Inquiry(
    "figures", Figures, read, lambda _asked, _query, source: {"source": source}
)
QUESTION = (FIGURES, CompareQuery())


class Site:
    def __init__(self) -> None:
        self.hurried, self.unhurried = Source("hurried"), Source("unhurried")
        self.answering = Answering(
            cast("Answers", self.hurried), unhurried=cast("Answers", self.unhurried)
        )

    async def asked(self) -> str:
        with trio.fail_after(DEADLINE):
            found = await self.answering.document(A, FIGURES, CompareQuery())
        return Figures.model_validate_json(found).source


@pytest.fixture
def site() -> Site:
    return Site()


async def test_what_nobody_waits_for_is_asked_of_the_unhurried(site: Site) -> None:
    site.unhurried.open.set()
    assert await site.answering.keep(A, QUESTION)
    assert await site.asked() == "unhurried"
    assert (site.hurried.computations, site.unhurried.computations) == (0, 1)


async def test_who_asks_meanwhile_does_not_wait_for_it(site: Site) -> None:
    site.hurried.open.set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.answering.keep, A, QUESTION)
        await wait_all_tasks_blocked()
        assert site.unhurried.computations == 1
        assert await site.asked() == "hurried"
        site.unhurried.open.set()


async def test_what_is_kept_is_not_got_ready_again(site: Site) -> None:
    site.hurried.open.set()
    assert await site.asked() == "hurried"
    assert await site.answering.keep(A, QUESTION)
    assert site.unhurried.computations == 0


async def test_what_is_published_meanwhile_does_not_take_effect_by_that(site: Site) -> None:
    site.hurried.open.set()
    site.unhurried.open.set()
    assert await site.asked() == "hurried"
    site.unhurried.version = 2
    other = FIGURES, CompareQuery(preset=Preset.YESTERDAY)
    assert not await site.answering.keep(A, other)
    assert await site.asked() == "hurried"
    assert site.hurried.computations == 1
    standing = site.answering.standing.recall(A)
    assert standing is not None
    assert standing.data_version == 1
