"""A tenant's SFTP server, as far as an import needs it: list, look at a file, read it, put it away.

The server is a stranger in both directions. The tenant names it, so its host passes the outbound
guard. And whoever answers there may be somebody else or up to something. The session is guarded in
master_ssh.py; for the files, this holds:

- A path is what the configuration says, or that directory and a name in it that passes
  master_selection.py. Nothing is written to our disk.
- Sizes are ours to count: what the server says about a file is a reason to refuse it early, never
  a reason to trust it. A directory has a limit as well.
- A piece of a file must arrive within one answer's time, so that a server which trickles is left.

A transfer that breaks is taken up again where it broke, a few times at once and then by the job's
next attempt: if the server still says the same about the file, and if the last bytes that we have
are still the ones that stand there.

A file is held in memory: it has a limit and so has the number of imports at a time, and nothing
remains on a disk when a process is killed.
"""

import io
import posixpath
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, cast

import asyncssh
import trio

from troupe.actors.data.master_errors import FileMissing, FileRefused, StillBeingWritten
from troupe.actors.data.master_selection import (
    MAX_MATCHES,
    Candidate,
    Found,
    Pattern,
    choose,
    is_usable_name,
)
from troupe.actors.data.master_ssh import SftpDeadlines, SshSession
from troupe.common.connections import SftpConfig
from troupe.common.errors import PeerUnavailable
from troupe.common.logs import get_logger
from troupe.common.outbound import OutboundGuard
from troupe.common.units import KiB, MiB

_log = get_logger(__name__)

MAX_FILE: Final = 64 * MiB
PIECE: Final = 1 * MiB
OVERLAP: Final = 64 * KiB
"""Bytes that are read once more to see that a broken transfer goes on in the same file."""
MAX_LISTED: Final = 20_000
"""Names in a directory."""
OF_LATE: Final = timedelta(days=1)
"""Clocks differ, and a program may write for hours: what is older is finished."""


class SftpSource:
    """An open session; made by `open_source`."""

    def __init__(self, config: SftpConfig, session: SshSession, deadlines: SftpDeadlines) -> None:
        self._config = config
        self._session = session
        self._deadlines = deadlines

    def path(self, file: str) -> str:
        """Where a configured file lies on the server."""
        return posixpath.join(self._config.directory, file)

    async def find(self, pattern: Pattern, take: Literal["newest", "all"]) -> list[Candidate]:
        """The files that a configured name means, oldest first; none when nothing matches.

        Raises:
            FileMissing: There is no such file, or no such directory.
            FileRefused: It is no file, or too large, or there are too many.
            PeerError: The server denies access, or failed.
        """
        if pattern.is_plain:
            file = posixpath.join(pattern.directory, pattern.name)
            return [Candidate(file, await self.look(file))]
        what = f"listing the directory of {pattern.name}"
        directory = self.path(pattern.directory)
        listed = await self._session.answered(what, self._list(directory.encode()))
        candidates = choose(pattern, listed, take)
        if len(candidates) > MAX_MATCHES:
            raise FileRefused(f"More than {MAX_MATCHES} files match {pattern.name}.")
        for candidate in candidates:
            if candidate.found.size is not None and candidate.found.size > MAX_FILE:
                raise _too_large(candidate.name)
        return candidates

    async def look(self, file: str) -> Found:
        """Ask about a file.

        Raises:
            FileMissing: It is not there.
            FileRefused: It is no file, or too large.
            PeerError: The server denies access, or failed.
        """
        what = f"looking at {file}"
        attributes = await self._session.answered(what, self._session.client.stat(self.path(file)))
        if not _may_be_file(attributes):
            raise FileRefused(f"{file} is not a file.")
        if attributes.size is not None and attributes.size > MAX_FILE:
            raise _too_large(file)
        return _found(attributes)

    async def growing(self, candidates: list[Candidate]) -> set[str]:
        """Those of some files that are still being written; takes a while to find out.

        Raises:
            PeerError: The server failed.
        """
        now = datetime.now(UTC)
        young = [
            candidate
            for candidate in candidates
            if candidate.found.modified is None or now - candidate.found.modified < OF_LATE
        ]
        if not young:
            return set()
        await trio.sleep(self._deadlines.settle)
        changed = set()
        for candidate in young:
            try:
                if await self.look(candidate.file) != candidate.found:
                    changed.add(candidate.file)
            except (FileMissing, FileRefused):
                changed.add(candidate.file)
        return changed

    async def read(
        self,
        file: str,
        found: Found,
        told: Callable[[int], Awaitable[None]],
        content: io.BytesIO,
    ) -> None:
        """Read a whole file, unless it changes meanwhile.

        Args:
            file: As configured.
            found: What `look` said just before.
            told: Called with the bytes read so far, after each piece.
            content: Takes the file. What it holds already is taken for the file's beginning, and
                what it holds when this fails may be kept to go on from.

        Raises:
            StillBeingWritten: It is not what was found, or no longer.
            FileRefused: It is too large.
            PeerError: The server denies access, or failed.
        """
        until = trio.current_time() + self._deadlines.transfer
        pauses = iter(self._deadlines.resume)
        reached = content.seek(0, io.SEEK_END)
        while True:
            try:
                await self._transfer(file, content, told, until)
                break
            except StillBeingWritten:
                raise
            except PeerUnavailable:
                if content.tell() > reached:
                    reached, pauses = content.tell(), iter(self._deadlines.resume)
                pause = next(pauses, None)
                if pause is None or trio.current_time() + pause > until:
                    raise
                _log.info("transfer_resumed", file=file, bytes=content.tell())
                await trio.sleep(pause)
                if not await self._session.reconnected():
                    raise
                if await self.look(file) != found:
                    raise _changed(file) from None
        if await self.look(file) != found or found.size not in {None, content.tell()}:
            raise _changed(file)

    async def put_away(self, file: str) -> str:
        """Move a file into the archive directory; returns the name that it has there.

        The name begins with the present instant, so that no file takes another one's place.

        Raises:
            PeerError: The server refuses, or failed.
        """
        directory = self.path(self._config.archive_directory)
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        name = f"{now}_{posixpath.basename(file)}"
        what = f"moving {file} to the archive"
        target = posixpath.join(directory, name)
        await self._session.answered(what, self._move(self.path(file), directory, target))
        return name

    async def _transfer(
        self,
        file: str,
        content: io.BytesIO,
        told: Callable[[int], Awaitable[None]],
        until: float,
    ) -> None:
        what = f"reading {file}"
        handle = await self._session.answered(what, self._open(self.path(file)))
        begin = content.seek(0, io.SEEK_END)
        if begin:
            content.seek(max(0, begin - OVERLAP))
            known = content.read()
            overlap = handle.read(len(known), begin - len(known))
            if cast("bytes", await self._session.answered(what, overlap)) != known:
                raise _changed(file)
        while True:
            left = until - trio.current_time()
            question = handle.read(PIECE, content.tell())
            piece = cast("bytes", await self._session.answered(what, question, left))
            if not piece:
                break
            content.write(piece)
            if content.tell() > MAX_FILE:
                raise _too_large(file)
            await told(content.tell())
        await self._session.answered(what, handle.close())

    async def _open(self, path: str) -> asyncssh.SFTPClientFile:
        return await self._session.client.open(path, "rb")

    async def _list(self, directory: bytes) -> list[tuple[str, Found]]:
        """The finished files of a directory."""
        files, count = [], 0
        listing = cast("AsyncGenerator[asyncssh.SFTPName]", self._session.client.scandir(directory))
        async with aclosing(listing) as entries:
            async for entry in entries:
                count += 1
                if count > MAX_LISTED:
                    raise FileRefused(f"The directory has more than {MAX_LISTED} entries.")
                name = _name_of(entry.filename)
                if is_usable_name(name) and _may_be_file(entry.attrs):
                    files.append((name, _found(entry.attrs)))
        return files

    async def _move(self, file: str, directory: str, target: str) -> None:
        client = self._session.client
        if not await client.isdir(directory):
            await client.mkdir(directory)
        await client.rename(file, target)


@asynccontextmanager
async def open_source(
    config: SftpConfig, secret: bytes | None, guard: OutboundGuard, deadlines: SftpDeadlines
) -> AsyncGenerator[SftpSource]:
    """A session at the tenant's server for as long as the context is open.

    Args:
        config: Where and as whom.
        secret: The password, or the private key.
        guard: Checks the host.
        deadlines: Of the server.

    Raises:
        HostKeyNotPinned: The connection does not say which host key to expect.
        HostKeyChanged: The server shows another one.
        CredentialsRejected: The secret is not of the right form, or not accepted.
        HostNotAllowed: The host is in a network that is forbidden.
        PeerUnavailable: The server cannot be reached, or does not answer in time.
    """
    session = SshSession(config, secret, guard, deadlines)
    try:
        await session.connect()
        yield SftpSource(config, session, deadlines)
    finally:
        await session.close()


def _may_be_file(attributes: asyncssh.SFTPAttrs) -> bool:
    # A server that leaves the kind of file out of the permissions says nothing.
    return stat.S_IFMT(attributes.permissions or 0) in {0, stat.S_IFREG}


def _found(attributes: asyncssh.SFTPAttrs) -> Found:
    return Found(attributes.size, _instant(attributes.mtime))


def _name_of(name: bytes | str) -> str:
    """A name as text; what is not UTF-8 is none that can be used."""
    if isinstance(name, str):
        return name
    try:
        return name.decode()
    except UnicodeDecodeError:
        return ""


def _changed(file: str) -> StillBeingWritten:
    return StillBeingWritten(f"{file} changed while it was being read.")


def _instant(seconds: int | None) -> datetime | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _too_large(file: str) -> FileRefused:
    return FileRefused(f"{file} is larger than {MAX_FILE // MiB} MiB.")
