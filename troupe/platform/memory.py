"""The bytes that a group's work may hold at a time.

The problem. How much memory a transfer needs is known by whoever does it: so many bytes read, so
many waiting to be written. Counting tasks does not bound it, and a limit per task wastes what the
others do not use.

The choice. One `Memory` per group; whoever is about to hold bytes asks for them first and waits in
line while there are none. An `Account` is one transfer's part of it: what is left on it comes back
when it is closed, however the transfer ended, and whoever still waits for it is told so. First
come, first served: a large request is not overtaken by small ones for ever.

The cost. It counts what it is told, not what the allocator does. A request for more than there is
in all is granted when nothing else is held, because refusing it would only fail later.
"""

from collections import deque
from types import TracebackType
from typing import Self

import trio


class _Request:
    __slots__ = ("account", "granted", "settled", "size")

    def __init__(self, account: "Account", size: int) -> None:
        self.account = account
        self.size = size
        self.settled = trio.Event()
        self.granted = False


class Memory:
    """Bytes to be shared.

    Args:
        limit: How many.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError("limit must be at least 1")
        self._limit = limit
        self._held = 0
        self._line: deque[_Request] = deque()

    @property
    def limit(self) -> int:
        """Bytes there are."""
        return self._limit

    @property
    def held(self) -> int:
        """Bytes in use."""
        return self._held

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return len(self._line)

    def account(self) -> "Account":
        """A transfer's part, to be used as a context manager."""
        return Account(self)

    # ---- for accounts

    async def _take(self, account: "Account", size: int) -> bool:
        """Wait for bytes; False: the account was closed first."""
        request = _Request(account, size)
        self._line.append(request)
        self._serve()
        try:
            await request.settled.wait()
        except BaseException:
            if request.granted:
                account.give(size)
            else:
                self._leave(request)
            raise
        return request.granted

    def _give(self, size: int) -> None:
        self._held -= size
        self._serve()

    def _close(self, account: "Account") -> None:
        for request in [waiting for waiting in self._line if waiting.account is account]:
            self._leave(request)
            request.settled.set()

    def _leave(self, request: _Request) -> None:
        if request in self._line:
            self._line.remove(request)
            self._serve()

    def _serve(self) -> None:
        while self._line and (self._held == 0 or self._held + self._line[0].size <= self._limit):
            request = self._line.popleft()
            self._held += request.size
            request.account._held += request.size  # noqa: SLF001 - the two are one thing
            request.granted = True
            request.settled.set()


class Account:
    """One transfer's bytes."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._held = 0
        self._closed = False

    @property
    def held(self) -> int:
        """Bytes on this account."""
        return self._held

    async def take(self, size: int) -> None:
        """Wait for bytes.

        Raises:
            trio.ClosedResourceError: The account is closed, or was while this waited.
        """
        if size < 0:
            raise ValueError("a number of bytes is not negative")
        if self._closed or not await self._memory._take(self, size):  # noqa: SLF001 - as below
            raise trio.ClosedResourceError("the transfer has ended")

    def give(self, size: int) -> None:
        """Give bytes back; without effect once the account is closed."""
        if self._closed:
            return
        if not 0 <= size <= self._held:
            raise ValueError("more than was taken")
        self._held -= size
        self._memory._give(size)  # noqa: SLF001 - the two are one thing

    def close(self) -> None:
        """Give everything back; who waits gets `trio.ClosedResourceError`."""
        self.give(self._held)
        self._closed = True
        self._memory._close(self)  # noqa: SLF001 - the two are one thing

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
