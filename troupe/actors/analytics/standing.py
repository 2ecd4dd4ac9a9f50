"""Where each tenant stands: settings, data version, how far the data reaches; known for a moment.

Every question begins with this, and a kept answer can be given without asking PostgreSQL only if
it is known already. It is remembered for `MAX_AGE` from before it was read; so a load or a change
of settings is seen by every process on every host within that time after its commit, without any
message between them. Notifications make it a matter of milliseconds where they arrive, and nothing
depends on their arriving.

A look that began before a notification may have seen the state before it: it is given to whoever
waited for it, and not remembered.

Somebody may look ahead (`looked_after`): before what is remembered is too old, and as soon as a
change is heard of. What is remembered then stays good for `MAX_AGE_AHEAD` from before it was read,
so that nobody who asks waits for a look, and answers under the new standing can be got ready before
it is the one that counts.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

import trio

from troupe.actors.analytics.answers import Reporting
from troupe.actors.analytics.keeping import SingleFlight
from troupe.common.database import MISSED, Database
from troupe.common.errors import DatabaseError
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger
from troupe.common.units import MILLISECONDS, SECONDS

CHANNEL: Final = "troupe_data_version"
MAX_AGE: Final = 500 * MILLISECONDS
MAX_AGE_AHEAD: Final = 850 * MILLISECONDS
"""Where somebody looks ahead. With the time that an answer takes it must stay below the second
within which a load is seen."""
AHEAD: Final = 250 * MILLISECONDS
"""The age at which it is time to look ahead."""
MAX_TENANTS: Final = 4096
_LISTEN_AGAIN: Final = 5 * SECONDS

_log = get_logger(__name__)

Look = Callable[[TenantId], Awaitable[Reporting]]


@dataclass(frozen=True, slots=True)
class _Remembered:
    reporting: Reporting
    began: float
    outdated: bool = False


@dataclass(frozen=True, slots=True)
class Ahead:
    """What looking ahead has seen.

    Attributes:
        reporting: Where the tenant stands.
        began: When the look began, on trio's clock.
        known: What counts until this is noted; None: nothing does.
        until: How long it will, on trio's clock.
    """

    reporting: Reporting
    began: float
    known: Reporting | None
    until: float

    @property
    def is_reload(self) -> bool:
        """Whether there is other data, and all else is as it was."""
        known = self.known
        return (
            known is not None
            and self.reporting != known
            and self.reporting
            == replace(
                known,
                data_version=self.reporting.data_version,
                first_day=self.reporting.first_day,
                data_until=self.reporting.data_until,
                last_event_at=self.reporting.last_event_at,
            )
        )


class Standing:
    """See the module's text.

    Args:
        look: Reads a tenant's standing.
        changed: Called when a tenant's standing turns out to be another.
        max_age: Seconds for which it is remembered; 0 looks every time.
    """

    def __init__(
        self,
        look: Look,
        changed: Callable[[TenantId], None] = lambda _: None,
        *,
        max_age: float = MAX_AGE,
    ) -> None:
        self._look = look
        self._changed = changed
        self._max_age = max_age
        self._known: OrderedDict[TenantId, _Remembered] = OrderedDict()
        self._flights: SingleFlight[Reporting] = SingleFlight()
        self._heard = 0
        self._wake: Callable[[TenantId], None] | None = None

    @contextmanager
    def looked_after(self, wake: Callable[[TenantId], None]) -> Iterator[None]:
        """While it is open, `wake` is told for whom it is time to `look_ahead`."""
        self._wake = wake
        try:
            yield
        finally:
            self._wake = None

    def recall(self, tenant: TenantId) -> Reporting | None:
        """What is remembered and still good."""
        known = self._known.get(tenant)
        if known is None:
            return None
        age = trio.current_time() - known.began
        if self._wake is None:
            return None if known.outdated or age >= self._max_age else known.reporting
        if known.outdated or age >= AHEAD:
            self._wake(tenant)
        return known.reporting if age < MAX_AGE_AHEAD else None

    async def of(self, tenant: TenantId) -> Reporting:
        """Where a tenant stands, at most `max_age` ago.

        Raises:
            NotFound: There is no such tenant.
            DatabaseError: The database failed.
        """
        known = self.recall(tenant)
        if known is not None:
            return known
        # Whoever heard of a change since must not share a look that began before it.
        return await self._flights.do((tenant, self._heard), lambda: self._look_now(tenant))

    async def _look_now(self, tenant: TenantId) -> Reporting:
        began, heard = trio.current_time(), self._heard
        reporting = await self._look(tenant)
        if heard == self._heard:
            self.note(reporting, began)
        return reporting

    async def look_ahead(self, tenant: TenantId) -> "Ahead":
        """Where a tenant stands now, not yet noted.

        Raises: as `of`.
        """
        began = trio.current_time()
        known = self._known.get(tenant)
        reporting = await self._look(tenant)
        if known is None:
            return Ahead(reporting, began, None, began)
        return Ahead(reporting, began, known.reporting, known.began + MAX_AGE_AHEAD)

    def note(self, reporting: Reporting, began: float) -> None:
        """Learn from somebody else's look.

        Args:
            reporting: What it saw.
            began: When it began, on trio's clock; what was seen later stays.
        """
        known = self._known.get(reporting.tenant)
        if known is not None and known.began > began:
            return
        if known is not None and known.reporting != reporting:
            self._changed(reporting.tenant)
        self._known[reporting.tenant] = _Remembered(reporting, began)
        self._known.move_to_end(reporting.tenant)
        while len(self._known) > MAX_TENANTS:
            tenant, _ = self._known.popitem(last=False)
            self._changed(tenant)

    def outdate(self, tenant: TenantId | None) -> None:
        """Look again before the next answer: a tenant's standing may have changed; None: any's."""
        self._heard += 1
        for one in list(self._known) if tenant is None else [tenant]:
            known = self._known.get(one)
            if known is not None:
                self._known[one] = replace(known, outdated=True)
                if self._wake is not None and tenant is not None:
                    self._wake(one)


async def follow(database: Database, standing: Standing, heard: Callable[[TenantId], None]) -> None:
    """Hear of changes, for ever; while that is not possible, what is remembered just grows old.

    Args:
        database: The group's pool.
        standing: To be told.
        heard: Called with each tenant that something was heard of.
    """
    while True:
        try:
            async with database.listen(CHANNEL) as payloads:
                standing.outdate(None)
                async for payload in payloads:
                    tenant = None if payload == MISSED else _tenant_of(payload)
                    standing.outdate(tenant)
                    if tenant is not None:
                        heard(tenant)
        except DatabaseError as error:
            _log.warning("answers_listen_failed", reason=str(error))
        await trio.sleep(_LISTEN_AGAIN)


def _tenant_of(payload: str) -> TenantId | None:
    try:
        return TenantId(UUID(payload))
    except ValueError:
        return None
