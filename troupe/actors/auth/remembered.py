"""A value that a peer publishes: fetched once for everybody, kept when the peer fails.

Used for discovery documents and key sets. Many requests may need the value at once, and some may
find it wanting (a token names a key that is not in the set, because the provider has rotated its
keys, or because somebody sends tokens with invented key ids). So: one fetch at a time, whose result
all who wait share; no more than `MAX_FETCHES` in any `WINDOW`, failed ones included; and a failed
fetch never replaces a value that is there.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import trio

from troupe.actors.auth.errors import ProviderUnavailable
from troupe.common.errors import PeerError
from troupe.common.logs import get_logger
from troupe.common.units import MINUTES, SECONDS

WINDOW: Final = 30 * SECONDS
MAX_FETCHES: Final = 3
FRESH: Final = 15 * MINUTES

Value = TypeVar("Value")
_logger = get_logger(__name__)


class Remembered(Generic[Value]):
    """One such value.

    Args:
        name: For logs.
        fetch: Gets it from the peer; bounded in time and size by itself.
        fresh: Seconds for which a fetched value is used without asking again.
    """

    def __init__(
        self, name: str, fetch: Callable[[], Awaitable[Value]], *, fresh: float = FRESH
    ) -> None:
        self._name = name
        self._fetch = fetch
        self._fresh = fresh
        self._lock = trio.Lock()
        self._attempts: deque[float] = deque(maxlen=MAX_FETCHES)
        self._value: tuple[float, Value] | None = None
        self._failure: PeerError | None = None

    async def get(self) -> Value:
        """The value, fetched when there is none or it is no longer fresh.

        Raises:
            PeerError: It was never there and cannot be fetched.
        """
        if self._value is not None and trio.current_time() - self._value[0] < self._fresh:
            return self._value[1]
        return await self.renew()

    async def renew(self, instead_of: Value | None = None) -> Value:
        """The newest value that may be had now: for whom the one of `get` does not do.

        Args:
            instead_of: That one. When another has taken its place by the time that it is our turn,
                nobody is asked: of many who miss the same thing one fetches it.

        Raises:
            PeerError: It was never there and cannot be fetched.
        """
        arrived = trio.current_time()
        async with self._lock:
            present = None if self._value is None else self._value[1]
            if instead_of is not None and present is not None and present is not instead_of:
                return present
            somebody_else_tried = bool(self._attempts) and self._attempts[-1] >= arrived
            if not somebody_else_tried and self._may_try(trio.current_time()):
                await self._try()
        if self._value is not None:
            return self._value[1]
        if self._failure is not None:
            # A fresh one for each who waits: an exception carries the traceback of its raising.
            raise type(self._failure)(str(self._failure)) from self._failure
        raise ProviderUnavailable("The identity provider is not asked again yet.")

    def _may_try(self, now: float) -> bool:
        return len(self._attempts) < MAX_FETCHES or now - self._attempts[0] >= WINDOW

    async def _try(self) -> None:
        self._attempts.append(trio.current_time())
        try:
            value = await self._fetch()
        except PeerError as error:
            self._failure = error
            _logger.warning("provider_fetch_failed", what=self._name, reason=str(error))
        else:
            self._failure = None
            self._value = (trio.current_time(), value)
