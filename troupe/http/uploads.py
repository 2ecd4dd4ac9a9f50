"""Bodies that are files: larger than what is read into memory, and as slow as their client.

A route that declares an `Upload` is given a temporary file instead of a body. It has no name, so
nothing of it remains whatever becomes of the process, and memory is bounded by a piece: the client
is not read from (and TCP holds it back) while a piece is being written. Only when all has come does
the handler run, so that no database connection waits for a client, and only then is the
``Idempotency-Key`` claimed, because the digest of the body belongs to what the key stands for.

What is bounded: the size (the route's), the uploads at a time in one process (each may fill that
much disk), the time between two pieces, and all of it by the route's deadline.
"""

import errno
import hashlib
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO, Final

import trio
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout, UnsupportedMediaType

from troupe.common.errors import StorageFull
from troupe.common.units import SECONDS, KiB, MiB
from troupe.http.declaration import Upload
from troupe.http.problems import Unavailable
from troupe.http.request import Request

UPLOADS_AT_A_TIME: Final = 4
"""In one process."""
STALL: Final = 20 * SECONDS
"""A client must send something within this time."""
UNREAD: Final = 256 * KiB
"""Bytes that are taken from the client before they are wanted."""
PIECE: Final = 1 * MiB


@dataclass(frozen=True, slots=True)
class Received:
    """A body that has come as a whole.

    Attributes:
        file: Holds it, at its beginning; closed when the handler has returned.
        size: Bytes.
        sha256: Of all of them.
    """

    file: BinaryIO
    size: int
    sha256: bytes


class StreamedBody:
    """In place of Quart's body, which takes all that comes whether it is read or not.

    Args:
        taken: Called with the bytes that are no longer held here.
    """

    def __init__(self, taken: Callable[[int], None]) -> None:
        self._taken = taken
        self._data = bytearray()
        self._is_complete = False
        self._changed = trio.Event()

    def append(self, data: bytes) -> None:
        """Take what has come."""
        self._data += data
        self._wake()

    def set_complete(self) -> None:
        """Nothing more comes."""
        self._is_complete = True
        self._wake()

    async def room(self) -> None:
        """Wait until more may come."""
        while len(self._data) >= UNREAD:
            await self._changed.wait()

    def __aiter__(self) -> "StreamedBody":
        return self

    async def __anext__(self) -> bytes:
        """What has come since the last time.

        Raises:
            RequestTimeout: Nothing has, for too long.
        """
        with trio.move_on_after(STALL) as scope:
            while not self._data and not self._is_complete:
                await self._changed.wait()
        if scope.cancelled_caught:
            raise RequestTimeout
        if not self._data:
            raise StopAsyncIteration
        piece = bytes(self._data)
        self._data.clear()
        self._taken(len(piece))
        self._wake()
        return piece

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class Reception:
    """Takes uploads of one application, a few at a time."""

    def __init__(self) -> None:
        self._under_way = 0

    @asynccontextmanager
    async def receive(self, request: Request, upload: Upload) -> AsyncGenerator[Received]:
        """Take a request's body into a file, which is gone when the context ends.

        Raises:
            UnsupportedMediaType: It is not of a type that the route takes.
            RequestEntityTooLarge: It is too large.
            RequestTimeout: The client has stopped sending.
            Unavailable: Too many uploads are under way.
            StorageFull: The disk is full.
        """
        if request.mimetype not in upload.content_types:
            raise UnsupportedMediaType(f"Send the body as {' or '.join(upload.content_types)}.")
        if (request.content_length or 0) > upload.most:
            raise RequestEntityTooLarge
        if self._under_way >= UPLOADS_AT_A_TIME:
            raise Unavailable("Other uploads are under way; try again in a moment.")
        self._under_way += 1
        try:
            with tempfile.TemporaryFile() as file:
                yield await _take(request, file, upload.most)
        finally:
            self._under_way -= 1


async def _take(request: Request, file: BinaryIO, most: int) -> Received:
    digest = hashlib.sha256()
    size = 0
    waiting = bytearray()

    def write(piece: bytes) -> None:
        digest.update(piece)
        file.write(piece)

    async def put() -> None:
        try:
            await trio.to_thread.run_sync(write, bytes(waiting))
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise StorageFull("There is no room for the upload.") from error
            raise
        waiting.clear()

    async for piece in request.body:
        size += len(piece)
        if size > most:
            raise RequestEntityTooLarge
        waiting += piece
        if len(waiting) >= PIECE:
            await put()
    await put()
    file.seek(0)
    return Received(file, size, digest.digest())
