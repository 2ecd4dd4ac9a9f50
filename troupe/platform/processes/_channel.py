"""A conversation in messages over a stream of bytes; every wait and every buffer has its bound."""

from typing import Final, Generic, TypeVar

import trio
from pydantic import TypeAdapter

from troupe.common.units import SECONDS, KiB
from troupe.platform.errors import ProtocolBroken
from troupe.platform.processes._messages import MAX_MESSAGE, Message, decode, encode

In = TypeVar("In")

SEND_DEADLINE: Final = 5 * SECONDS
"""Time for the other end to take a message. It reads all the time: one that does not is stuck."""
_CHUNK: Final = 64 * KiB


class Channel(Generic[In]):
    """One end.

    Args:
        stream: Both directions.
        incoming: What the other end may say.
        patience: Seconds for the other end to take a message.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        incoming: TypeAdapter[In],
        *,
        patience: float = SEND_DEADLINE,
    ) -> None:
        self._stream = stream
        self._patience = patience
        self._incoming = incoming
        self._unread = bytearray()
        self._searched = 0
        self._sending = trio.Lock()

    async def send(self, message: Message) -> None:
        """Say something.

        Raises:
            ProtocolBroken: It is too large, or the other end does not take it in time. Half of it
                may be on its way, so that nothing else can follow.
            trio.BrokenResourceError: The other end is gone.
        """
        line = encode(message)
        with trio.move_on_after(self._patience) as scope:
            async with self._sending:
                await self._stream.send_all(line)
        if scope.cancelled_caught:
            raise ProtocolBroken(f"a message was not taken within {self._patience:g} s")

    async def receive(self) -> In | None:
        """What the other end says next; None when it has closed its end.

        Raises:
            ProtocolBroken: It is no message, or too large.
            trio.BrokenResourceError: The other end is gone.
        """
        while (end := self._unread.find(b"\n", self._searched)) < 0:
            self._searched = len(self._unread)
            if self._searched >= MAX_MESSAGE:
                raise ProtocolBroken(f"a message has more than {MAX_MESSAGE} bytes")
            chunk = await self._stream.receive_some(_CHUNK)
            if not chunk:
                if self._unread:
                    raise ProtocolBroken("a message breaks off")
                return None
            self._unread += chunk
        line = bytes(self._unread[:end])
        del self._unread[: end + 1]
        self._searched = 0
        message: In = decode(self._incoming, line)
        return message

    async def aclose(self) -> None:
        """Close both directions."""
        await self._stream.aclose()
