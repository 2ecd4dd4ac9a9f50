"""What people are looking at, answered anew before a load takes effect for them.

A load raises the tenant's version, and with it no kept answer is of any use: whoever asks next
waits for a computation. While days are loaded one after the other that happens every second, just
when processors are short; with many people looking, somebody always is the one who waits.

So a process takes a new version as a whole. Where its tenants stand is looked up ahead of them.
When one turns out to have other data, the questions that were asked of late are computed under the
new version, one after the other, while everybody still gets the answers of the old one, which say
so. Then the new version counts, at the latest when what was known is `MAX_AGE_AHEAD` old, which is
less than the second after which a load must be seen. Whoever saw the new version once does not see
the old one again.

Nobody waits for these answers yet, and who asks for the old ones does: so they are computed where
they are in nobody's way, among what gives way to people. If that takes more than half of the time
(that pool may be in use, or the processors be busy), the rest is computed as if somebody waited.

Changed settings count at once: somebody has just made them and looks for the result. What fails is
left to whoever asks.

Rejected: the old answer to him who asks, the new one in the background (mixes versions on a page);
notifications that carry figures (bound to one form of question).
"""

from typing import Final

import trio

from troupe.actors.analytics.standing import Ahead
from troupe.common.errors import TroupeError
from troupe.common.ids import TenantId
from troupe.common.units import MILLISECONDS, SECONDS
from troupe.http.answering import Answering, Question, Written

RECENT: Final = 10 * SECONDS
"""What was asked within this time is being looked at."""
MOST: Final = 32
"""Questions of a tenant that are answered ahead."""
MARGIN: Final = 50 * MILLISECONDS
"""Before what is known must not be used any more."""
AT_ONCE: Final = 3
"""Tenants; each takes one connection."""

Renewed = tuple[Written, Question, float]


class Renewal:
    """Looks ahead for tenants that somebody looks at.

    Args:
        answering: Whose standings and answers.
    """

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._due: set[TenantId] = set()
        self._busy: set[TenantId] = set()
        self._woken = trio.Event()
        self._room = trio.Semaphore(AT_ONCE)

    def wake(self, tenant: TenantId) -> None:
        """It is time to look ahead for a tenant."""
        self._due.add(tenant)
        self._woken.set()

    async def run(self) -> None:
        """Look ahead for whom it is time, for ever."""
        with self._answering.standing.looked_after(self.wake):
            async with trio.open_nursery() as nursery:
                while True:
                    await self._woken.wait()
                    self._woken = trio.Event()
                    ready = self._due - self._busy
                    self._due -= ready
                    self._busy |= ready
                    for tenant in ready:
                        await self._room.acquire()
                        nursery.start_soon(self._look_after, tenant)

    async def _look_after(self, tenant: TenantId) -> None:
        try:
            await self._renew(tenant)
        except TroupeError:
            return  # whoever asks is told
        finally:
            self._busy.discard(tenant)
            self._room.release()
            if tenant in self._due:
                self._woken.set()

    async def _renew(self, tenant: TenantId) -> None:
        standing, cache = self._answering.standing, self._answering.cache
        ahead = await standing.look_ahead(tenant)
        renewed: list[Renewed] = []
        if ahead.is_reload:
            until = ahead.until - MARGIN
            with trio.move_on_at(until):
                await self._answer(tenant, ahead, renewed, (ahead.began + until) / 2)
        # No checkpoint from here on: noting it drops what is kept under the old version.
        standing.note(ahead.reporting, ahead.began)
        for written, question, asked_at in renewed:
            cache.put(tenant, written.tag, written.body, question, asked_at)

    async def _answer(
        self, tenant: TenantId, ahead: Ahead, renewed: list[Renewed], hurry_at: float
    ) -> None:
        since = ahead.began - RECENT
        for question, asked_at in self._answering.cache.recent(tenant, since, MOST):
            written = None
            with trio.move_on_at(hurry_at):
                written = await self._answering.ahead(tenant, question, hurried=False)
            if written is None:
                written = await self._answering.ahead(tenant, question, hurried=True)
            renewed.append((written, question, asked_at))
