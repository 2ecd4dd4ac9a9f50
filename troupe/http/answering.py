"""From a question to its bytes: kept, shared, or computed.

An `Inquiry` is a kind of question, declared once: how its figures are read from a snapshot, how
they are written, and as which model. `Answering` gives the answer to one:

1. Where the tenant stands is known, or looked up (`standing`).
2. Standing, resolved days and request make the entity tag. A client that has that answer is told
   so.
3. The bytes that are kept under the tag are the answer; else it is computed, once for all who ask
   for it at the same time, and kept.

A computation reads the tenant's standing again, inside its snapshot, and its answer carries the
tag of what it saw there. So whatever moves meanwhile, an answer never stands under a version that
it was not computed from.

Questions that people ask can be answered ahead of them (`ahead`, see `renewal`): a load then takes
effect for all of them at once, when their answers under the new version are there.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final, Generic, TypeVar

import trio
from pydantic import BaseModel

from troupe.actors.analytics.answers import Answers, Reporting, Snapshot
from troupe.actors.analytics.keeping import AnswerCache, SingleFlight
from troupe.actors.analytics.standing import Standing
from troupe.common.ids import TenantId
from troupe.common.units import MiB
from troupe.http import exact_json
from troupe.http.asked import Asked, Clock, utc_now
from troupe.http.conventions import CompareQuery, entity_tag, is_unmodified
from troupe.http.declaration import Answer

_RELEASE: Final = version("troupe")
DEFAULT_CACHE: Final = 64 * MiB
WRITERS: Final = 2
"""Threads that make bytes of figures."""

Q = TypeVar("Q", bound=CompareQuery)
F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class Inquiry(Generic[Q, F]):
    """A kind of question.

    Attributes:
        name: Part of the tag: equal queries of two kinds have different answers.
        model: What the answer is.
        check: Refuses queries that make no sense; before anything is read.
        read: Reads the figures, inside the snapshot (in asyncio).
        write: Makes the answer of them, outside.
    """

    name: str
    model: type[BaseModel]
    read: Callable[[Snapshot, Asked, Q], Awaitable[F]]
    write: Callable[[Asked, Q, F], object]
    check: Callable[[Q], None] = lambda _: None

    def tag(self, asked: Asked, query: Q) -> str:
        """The entity tag of an answer."""
        return entity_tag(_RELEASE, self.name, asked, query)

    def bytes_of(self, asked: Asked, query: Q, found: F) -> bytes:
        """The answer as it travels."""
        return exact_json.dumps_figures(self.write(asked, query, found))


@dataclass(frozen=True, slots=True)
class Written:
    """An answer as it travels, and its tag."""

    tag: str
    body: bytes


Question = tuple[Inquiry[Any, Any], CompareQuery]

Offer = Callable[[TenantId, Question, Asked, str], None]
"""Told whose request was answered, what it asked, what that meant, and the kept answer's tag."""


def _nobody(_tenant: TenantId, _question: Question, _asked: Asked, _tag: str) -> None:
    """Nobody is told."""


class Answering:
    """Answers questions of one group's port.

    Args:
        answers: To be asked.
        unhurried: To be asked for what nobody waits for; by default the same.
        cache: Where bytes are kept.
        standing: Where tenants stand; by default they are looked up, and remembered for a moment.
        clock: The present instant.

    Attributes:
        offer: Told of every answer to the current request.
    """

    def __init__(
        self,
        answers: Answers,
        *,
        unhurried: Answers | None = None,
        cache: AnswerCache[Question] | None = None,
        standing: Standing | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self.answers = answers
        self._unhurried = unhurried or answers
        self.cache: AnswerCache[Question] = cache or AnswerCache(DEFAULT_CACHE)
        self.standing = standing or Standing(answers.reporting, self.cache.drop)
        self.clock = clock
        self.offer: Offer = _nobody
        self._writers = trio.CapacityLimiter(WRITERS)
        self._flights: SingleFlight[Written] = SingleFlight()

    async def answer(self, tenant: TenantId, inquiry: Inquiry[Q, F], query: Q) -> Answer:
        """The answer to the current request.

        Raises:
            InvalidInput: The query means nothing.
            NotFound: There is no such tenant.
            DatabaseError: The database failed.
        """
        inquiry.check(query)
        asked = Asked.of(await self.standing.of(tenant), query, self.clock)
        tag = inquiry.tag(asked, query)
        if is_unmodified(tag):
            return Answer(None, etag=tag)
        written = await self._written(tenant, inquiry, query, tag)
        if written.tag == tag:
            self.offer(tenant, (inquiry, query), asked, tag)
        return Answer(written.body, etag=written.tag)

    async def page(self, tenant: TenantId, inquiry: Inquiry[Q, F], query: Q) -> tuple[Asked, bytes]:
        """What an answer means, and its bytes, for a page that they are part of.

        Raises: as `answer`.
        """
        inquiry.check(query)
        asked = Asked.of(await self.standing.of(tenant), query, self.clock)
        written = await self._written(tenant, inquiry, query, inquiry.tag(asked, query))
        if written.tag != inquiry.tag(asked, query):  # something was published meanwhile
            asked = Asked.of(await self.standing.of(tenant), query, self.clock)
        return asked, written.body

    async def document(self, tenant: TenantId, inquiry: Inquiry[Q, F], query: Q) -> bytes:
        """The answer as it travels, whatever the current request's client has; errors as above."""
        inquiry.check(query)
        asked = Asked.of(await self.standing.of(tenant), query, self.clock)
        return (await self._written(tenant, inquiry, query, inquiry.tag(asked, query))).body

    async def keep(self, tenant: TenantId, question: Question) -> bool:
        """Have an answer ready before anybody asks; errors as for `answer`.

        Who asks for it meanwhile does not wait for this, which is in no hurry.

        Returns:
            False: something was published meanwhile, which is about to take effect; what is got
            ready now would be of no use.
        """
        inquiry, query = question
        asked = Asked.of(await self.standing.of(tenant), query, self.clock)
        tag = inquiry.tag(asked, query)
        if self.cache.peek(tenant, tag) is not None:
            return True
        _, written = await self._computed(tenant, question, self._unhurried)
        if written.tag != tag:
            return False
        self.cache.put(tenant, tag, written.body, question)
        return True

    async def ahead(self, tenant: TenantId, question: Question, *, hurried: bool) -> Written:
        """An answer under the standing of this moment, not kept; errors as for `answer`."""
        answers = self.answers if hurried else self._unhurried
        return (await self._computed(tenant, question, answers))[1]

    async def _written(
        self, tenant: TenantId, inquiry: Inquiry[Q, F], query: Q, tag: str
    ) -> Written:
        body = self.cache.get(tenant, tag)
        if body is not None:
            return Written(tag, body)
        return await self._flights.do(tag, lambda: self._compute(tenant, (inquiry, query)))

    async def _compute(self, tenant: TenantId, question: Question) -> Written:
        began = trio.current_time()
        reporting, written = await self._computed(tenant, question, self.answers)
        self.standing.note(reporting, began)
        self.cache.put(tenant, written.tag, written.body, question, began)
        return written

    async def _computed(
        self, tenant: TenantId, asked_for: Question, answers: Answers
    ) -> tuple[Reporting, Written]:
        inquiry, query = asked_for

        async def question(snapshot: Snapshot) -> tuple[Asked, Any]:
            asked = Asked.of(snapshot.reporting, query, self.clock)
            return asked, await inquiry.read(snapshot, asked, query)

        asked, found = await answers.ask(tenant, question)
        # A page or a long chart takes 10 ms of pure Python, for which the loop would stand still.
        body = await trio.to_thread.run_sync(
            inquiry.bytes_of, asked, query, found, limiter=self._writers
        )
        return asked.reporting, Written(inquiry.tag(asked, query), body)
