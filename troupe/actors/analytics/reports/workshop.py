"""Where mails are written: in a process of its own, beside the group that asks for them.

Problem. Writing a mail is some 30 ms of computing: a picture, a workbook, HTML, quoted-printable.
The libraries hold the interpreter's lock meanwhile, so in a thread of the group's process it would
stop the dashboard's loop for 15 ms at a time, a thousand times in a row, at eight in the morning.

Choice. One child process for each process of the group, started with the first order, with less
priority than its parent. Orders and answers are frames on its standard input and output, one at a
time. It ends when its input ends, so it outlives nobody, however its parent dies; and by itself
when nothing was asked for ten minutes. When it dies (a library crashed, the kernel wanted memory)
the order is tried once more in a new one.

Cost: 60 MiB while it lives, half a second for the first mail. Rejected: `ProcessPoolExecutor` (its
workers hold both ends of their pipe, and outlive a parent that is killed); a job kind in a group of
its own (a preview would wait in a queue).

What crosses the pipe is pickled, between two processes of one program that share its code; nothing
from outside is ever unpickled.
"""

import os
import pickle
import select
import struct
import subprocess
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol, cast

import trio

from troupe.actors.analytics.reports.content import ReportContent, Subject
from troupe.actors.analytics.reports.mail import Envelope, compose
from troupe.actors.analytics.reports.rendering import Links, Reader, Rendered, Renderer, Shared
from troupe.actors.analytics.reports.settings import ReportSettings
from troupe.common.errors import TroupeError
from troupe.common.niceness import give_way, keep_off
from troupe.common.units import MINUTES, SECONDS, MiB
from troupe.platform.threads import Threads

ORDER_DEADLINE: Final = 60 * SECONDS
IDLE: Final = 10 * MINUTES
REMEMBERED: Final = 6
LARGEST_FRAME: Final = 64 * MiB
NICENESS: Final = 10
_LENGTH: Final = struct.Struct(">Q")
_PIECE: Final = 1 * MiB


class WorkshopFailed(TroupeError):
    """The process that writes mails died or did not answer; worth another attempt."""


@dataclass(frozen=True, slots=True)
class Order:
    """One mail to write.

    Attributes:
        content: What it says.
        look: How the tenant wants it.
        reader: For whom.
        links: Where its links lead.
        envelope: What it says beside its report.
        notice: Say that the figures are late, instead of figures.
        test: Whether somebody sent it to themselves.
    """

    content: ReportContent
    look: ReportSettings
    reader: Reader
    links: Links
    envelope: Envelope
    notice: bool
    test: bool


Made = tuple[Rendered, bytes]
_Key = tuple[str, Subject, int, str]


class Writer(Protocol):
    """Whatever writes mails."""

    async def write(self, order: Order) -> Made:
        """The parts of the mail, and its bytes.

        Raises:
            WorkshopFailed: It was not written; try again.
            InvalidInput: It cannot be written.
        """
        ...


class Craft:
    """How a mail is written. Blocks; remembers what the readers of one branch share."""

    def __init__(self) -> None:
        self._renderer = Renderer()
        self._shared: OrderedDict[_Key, tuple[ReportContent, ReportSettings, Shared]]
        self._shared = OrderedDict()

    def make(self, order: Order) -> Made:
        """Write it."""
        shared = None if order.notice else self._share(order)
        rendered = self._renderer.render(
            order.content, order.look, order.reader, order.links, shared, test=order.test
        )
        return rendered, compose(rendered, order.envelope)

    def _share(self, order: Order) -> Shared:
        content, look, language = order.content, order.look, order.reader.language
        # The key finds what may be the same; whether it is, the contents themselves say.
        key = content.tenant_name, content.subject, content.data_version, language
        known = self._shared.get(key)
        if known is not None and known[:2] == (content, look):
            return known[2]
        shared = self._renderer.share(content, look, language)
        self._shared[key] = content, look, shared
        while len(self._shared) > REMEMBERED:
            self._shared.popitem(last=False)
        return shared


class ThreadWriter:
    """Writes in threads of this process: for commands, which have no loop to spare.

    Args:
        threads: Which.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._craft = Craft()
        self._one_at_a_time = trio.Lock()

    async def write(self, order: Order) -> Made:
        """See `Writer.write`."""
        async with self._one_at_a_time:
            return await self._threads.run(self._craft.make, order)


class Workshop:
    """Writes in a child process; see the module's text. Made by `open_workshop`.

    Args:
        keep_off: The processors that the child leaves to others.
    """

    def __init__(self, keep_off: frozenset[int]) -> None:
        self._keep_off = keep_off
        self._process: trio.Process | None = None
        self._one_at_a_time = trio.Lock()

    @property
    def pid(self) -> int | None:
        """Of the child, if there is one."""
        return None if self._process is None else self._process.pid

    async def write(self, order: Order) -> Made:
        """See `Writer.write`."""
        frame = pickle.dumps(order)
        async with self._one_at_a_time:
            try:
                answer = await self._ask(frame)
            except WorkshopFailed:
                answer = await self._ask(frame)
        if isinstance(answer, Exception):
            raise answer
        return cast("Made", answer)

    async def close(self) -> None:
        """End the child."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    await stream.aclose()

    async def _ask(self, frame: bytes) -> object:
        process = await self._running()
        whole = False
        try:
            with trio.fail_after(ORDER_DEADLINE):
                assert process.stdin is not None  # noqa: S101  # a pipe
                await process.stdin.send_all(_LENGTH.pack(len(frame)) + frame)
                (length,) = _LENGTH.unpack(await _receive(process, _LENGTH.size))
                answer: object = pickle.loads(await _receive(process, length))  # noqa: S301
            whole = True
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            raise WorkshopFailed("The process that writes mails did not answer.") from None
        finally:
            if not whole:  # cancelled, too: its next answer would be this order's
                await self.close()
        return answer

    async def _running(self) -> trio.Process:
        if self._process is not None and self._process.poll() is not None:
            await self.close()
        if self._process is None:
            self._process = await trio.lowlevel.open_process(
                [sys.executable, "-m", __name__, *map(str, sorted(self._keep_off))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        return self._process


async def _receive(process: trio.Process, size: int) -> bytes:
    if size > LARGEST_FRAME:
        raise WorkshopFailed("The process that writes mails sent too much.")
    assert process.stdout is not None  # noqa: S101  # a pipe
    found = bytearray()
    while len(found) < size:
        piece = await process.stdout.receive_some(min(size - len(found), _PIECE))
        if not piece:
            raise WorkshopFailed("The process that writes mails has ended.")
        found += piece
    return bytes(found)


@asynccontextmanager
async def open_workshop(keep_off: frozenset[int] = frozenset()) -> AsyncIterator[Workshop]:
    """A workshop for as long as the context is open; it leaves these processors to others."""
    workshop = Workshop(keep_off)
    try:
        yield workshop
    finally:
        await workshop.close()


def serve(orders: "Pipe", answers: int) -> None:
    """Write mails until no more orders come."""
    craft = Craft()
    while select.select([orders], [], [], IDLE)[0]:
        head = orders.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            return
        frame = orders.read(_LENGTH.unpack(head)[0])
        answer: Made | Exception
        try:
            answer = craft.make(pickle.loads(frame))  # noqa: S301 - of our own parent
        except Exception as error:  # noqa: BLE001 - whoever ordered is told
            answer = error
        raw = pickle.dumps(answer)
        _send(answers, _LENGTH.pack(len(raw)) + raw)


def main() -> None:
    """The child: answers go where standard output went, and nothing else does."""
    give_way(NICENESS)
    keep_off(os.getpid(), frozenset(map(int, sys.argv[1:])))
    answers = os.dup(1)
    os.dup2(2, 1)
    serve(Pipe(0), answers)


def _send(descriptor: int, raw: bytes) -> None:
    left = memoryview(raw)
    while left:
        left = left[os.write(descriptor, left) :]


class Pipe:
    """Reads all that is asked for, or what there is until the end. Unbuffered: `select` sees it.

    Args:
        descriptor: Of the pipe.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """For `select`."""
        return self._descriptor

    def read(self, size: int) -> bytes:
        """Exactly so many bytes, or fewer at the end."""
        found = bytearray()
        while len(found) < size:
            piece = os.read(self._descriptor, min(size - len(found), _PIECE))
            if not piece:
                break
            found += piece
        return bytes(found)


if __name__ == "__main__":
    main()
