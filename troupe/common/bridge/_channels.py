"""Streams and calls from the asyncio side into trio."""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def call_trio(async_function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    """The way back: run a trio function and wait for it in asyncio code.

    Cancelling the asyncio task cancels the trio function and waits for it. Context variables travel
    along. It costs a new trio task per call: meant for batches and hand-offs, not for tight loops.
    """
    answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    scope = trio.CancelScope()

    async def run() -> None:
        try:
            with scope:
                answer.set_result(await async_function(*args))
        except Exception as error:  # noqa: BLE001 - it is delivered to the asyncio side
            answer.set_exception(error)
        finally:
            answer.cancel()  # nothing happens if it was answered

    trio.lowlevel.spawn_system_task(run, name=async_function, context=contextvars.copy_context())
    try:
        await asyncio.wait([answer])
    except asyncio.CancelledError:
        scope.cancel()
        await asyncio.wait([answer])
        if not answer.cancelled():
            answer.exception()  # read, so that asyncio does not report it as forgotten
        raise
    return answer.result()


async def from_trio(channel: trio.MemoryReceiveChannel[T]) -> AsyncGenerator[T]:
    """Items of a trio channel, for asyncio code; ends when the channel ends, and closes it.

    The producer in trio is held back by the channel's own bound. Example: batches encoded in a
    thread feed ``connection.copy_to_table(source=from_trio(batches))``.
    """
    with channel:
        while True:
            try:
                try:
                    item = channel.receive_nowait()
                except trio.WouldBlock:
                    item = await call_trio(channel.receive)
            except trio.EndOfChannel:
                return
            yield item


class ToTrio(Generic[T]):
    """The asyncio end of a bounded channel into trio.

    ``offer`` is a plain function, so it can be a library's callback; ``send`` waits for room.

    Attributes:
        refused: How many items ``offer`` had no room for.
    """

    def __init__(self, channel: trio.MemorySendChannel[T]) -> None:
        self._channel = channel
        self.refused = 0

    def offer(self, item: T) -> bool:
        """Put one item in without waiting; False (and counted) if there is no room for it.

        A consumer that is gone counts as no room: a callback has nobody to raise at.
        """
        try:
            self._channel.send_nowait(item)
        except (trio.WouldBlock, trio.BrokenResourceError):
            self.refused += 1
            return False
        return True

    async def send(self, item: T) -> None:
        """Put one item in; waits (in asyncio) while the channel is full.

        Raises:
            trio.BrokenResourceError: The consumer is gone.
        """
        try:
            self._channel.send_nowait(item)
        except trio.WouldBlock:
            await call_trio(self._channel.send, item)

    def close(self) -> None:
        """Let the consumer come to an end after what is still in the channel."""
        self._channel.close()
