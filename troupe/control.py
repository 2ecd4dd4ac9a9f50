"""The supervisor's own door: a Unix socket over which commands of the same host reach it.

The problem. What a group's port tells is told by the group, so it is silent exactly when somebody
wants to know why the group is. And a reload must be able to say what it did.

The choice. ``<state directory>/control.sock`` belongs to the supervisor. One connection carries one
request and one answer, each a JSON line (the `Channel` of the child processes, with its bounds and
deadlines). It opens before anything starts and closes when all is gone. Whoever may open it may
change how Troupe runs: the file is 0600, its directory is ours, and on Linux the kernel is asked
who is at the other end; only root and the account of the supervisor are answered.

The cost. It answers from the supervisor's loop: a group that spins *inline* silences it as well.

Rejected: signals alone (they carry nothing and are not answered); HTTP on another port (needs
credentials, and a port); a file that is polled (no answer).

Paths of Unix sockets may have 107 bytes; longer ones are reached through ``/proc/self/fd``.
"""

import fcntl
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import trio
from pydantic import Field, TypeAdapter

from troupe.common.errors import (
    CallerError,
    ConfigurationError,
    DatabaseUnavailable,
    PeerUnavailable,
    TroupeError,
)
from troupe.common.logs import get_logger
from troupe.common.units import SECONDS
from troupe.platform.errors import ProtocolBroken, summarise, unexpected
from troupe.platform.processes import Channel, Message
from troupe.reload import NotApplied

SOCKET: Final = "control.sock"
_LOCK: Final = "supervisor.lock"
REQUEST_DEADLINE: Final = 5 * SECONDS
"""For a request to arrive, and for an answer to be taken."""
AT_ONCE: Final = 16
"""Requests under way; further ones wait in the kernel."""
_LONGEST_PATH: Final = 100

_log = get_logger(__name__)


class NotRunning(CallerError):
    """No supervisor runs on the state directory."""


class AskStatus(Message):
    """How is everything?"""

    type: Literal["status"] = "status"


class AskReload(Message):
    """Read the configuration again and put it into force."""

    type: Literal["reload"] = "reload"


class AskScale(Message):
    """Change the sizes of one group, and keep them.

    Attributes:
        group: Which one.
        tasks: None: as it is; likewise for all others.
        processes: Child processes.
        database_connections: Of each process.
        mailbox: Of each actor.
        placement: `inline` or `process`.
        reset: Forget instead what was scaled before.
    """

    type: Literal["scale"] = "scale"
    group: str
    tasks: int | None = None
    processes: int | None = None
    database_connections: int | None = None
    mailbox: int | None = None
    placement: Literal["inline", "process"] | None = None
    reset: bool = False


class Answered(Message):
    """What was asked for."""

    type: Literal["answered"] = "answered"
    value: dict[str, Any]


class Refused(Message):
    """Why it was not done; nothing was changed.

    Attributes:
        fault: Whose, for the exit code.
        reason: One sentence.
    """

    type: Literal["refused"] = "refused"
    fault: Literal["caller", "configuration", "database", "not_applied", "ours"]
    reason: str


Request = AskStatus | AskReload | AskScale
Answer = Callable[[Request], Awaitable[dict[str, Any]]]

_requests: Final[TypeAdapter[Request]] = TypeAdapter(
    Annotated[Request, Field(discriminator="type")]
)
_replies: Final[TypeAdapter[Answered | Refused]] = TypeAdapter(
    Annotated[Answered | Refused, Field(discriminator="type")]
)
_FAULTS: Final[dict[str, type[TroupeError]]] = {
    "caller": CallerError,
    "configuration": ConfigurationError,
    "database": DatabaseUnavailable,
    "not_applied": NotApplied,
    "ours": TroupeError,
}


# ---- the supervisor's side


@contextmanager
def sole_supervisor(state_directory: Path) -> Iterator[None]:
    """Have the state directory to ourselves, with whatever database.

    Raises:
        ConfigurationError: Another supervisor has it, or it cannot be made.
    """
    try:
        state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(state_directory / _LOCK, flags, 0o600)
    except OSError as error:
        raise ConfigurationError(f"{state_directory} cannot be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"Another Troupe is using {state_directory}: stop it or choose another state"
                " directory."
            ) from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def listening(state_directory: Path) -> Iterator[socket.socket]:
    """The socket, while the context is open; `sole_supervisor` must be held.

    Raises:
        ConfigurationError: It cannot be made.
    """
    path = state_directory / SOCKET
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            path.unlink(missing_ok=True)  # of a supervisor that was killed
            with _address(path) as address:
                before = os.umask(0o177)
                try:
                    listener.bind(address)
                finally:
                    os.umask(before)
            listener.listen(AT_ONCE)
            listener.setblocking(False)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {path}: {error.strerror or error}"
            ) from error
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


async def serve_control(listener: socket.socket, answer: Answer) -> None:
    """Answer until cancelled.

    Args:
        listener: From `listening`.
        answer: Gives the answer to one request; its errors are told.
    """
    room = trio.Semaphore(AT_ONCE)
    ours = trio.socket.from_stdlib_socket(listener.dup())
    async with trio.open_nursery() as conversations:
        with ours:
            while True:
                await room.acquire()
                try:
                    connection, _ = await ours.accept()
                except OSError as error:
                    room.release()
                    _log.warning("control_not_accepted", reason=error.strerror)
                    await trio.sleep(0.1 * SECONDS)
                    continue
                conversations.start_soon(_converse, connection, answer, room)


async def _converse(
    connection: trio.socket.SocketType, answer: Answer, room: trio.Semaphore
) -> None:
    try:
        async with trio.SocketStream(connection) as stream:
            if not _is_ours(connection):
                _log.warning("control_refused", reason="of another account")
                return
            channel: Channel[Request] = Channel(stream, _requests, patience=REQUEST_DEADLINE)
            request: Request | None = None
            with trio.move_on_after(REQUEST_DEADLINE):
                request = await channel.receive()
            if request is not None:
                await channel.send(await _answer(request, answer))
    except ProtocolBroken as error:
        _log.warning("control_refused", reason=str(error))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # whoever asked has left; what was asked for is done all the same
    finally:
        room.release()


async def _answer(request: Request, answer: Answer) -> Message:
    try:
        return Answered(value=await answer(request))
    except Exception as error:  # noqa: BLE001 - whatever it is, the asker is told
        if unexpected(error):
            _log.exception("control_failed", request=request.type)
        reason = str(error) if isinstance(error, TroupeError) else summarise(error)
        return Refused(fault=_fault(error), reason=reason)


def _fault(error: Exception) -> Any:
    for fault, kind in _FAULTS.items():
        if fault != "ours" and isinstance(error, kind):
            return fault
    return "ours"


def _is_ours(connection: trio.socket.SocketType) -> bool:
    """Whether the other end is root or our own account, as far as the system can tell."""
    if sys.platform != "linux":
        return True
    credentials = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    _pid, account, _group = struct.unpack("3i", credentials)
    return account in {0, os.geteuid()}


# ---- a command's side


async def ask(state_directory: Path, request: Request, *, deadline: float) -> dict[str, Any]:
    """Ask the supervisor on a state directory.

    Args:
        state_directory: Its own.
        request: What to ask.
        deadline: Seconds until the answer must be there.

    Raises:
        NotRunning: There is no supervisor.
        PeerUnavailable: It does not answer in time.
        TroupeError: What it said about why it was not done.
    """
    path = state_directory / SOCKET
    reply: Answered | Refused | None = None
    with trio.move_on_after(deadline) as scope:
        try:
            stream = await _connect(path)
            async with stream:
                channel: Channel[Answered | Refused] = Channel(stream, _replies)
                await channel.send(request)
                reply = await channel.receive()
        except (trio.BrokenResourceError, ProtocolBroken) as error:
            raise PeerUnavailable(f"the supervisor at {path} broke off") from error
    if scope.cancelled_caught:
        raise PeerUnavailable(f"the supervisor at {path} did not answer within {deadline:g} s")
    if reply is None:
        raise PeerUnavailable(f"the supervisor at {path} hung up without an answer")
    if isinstance(reply, Refused):
        raise _FAULTS[reply.fault](reply.reason)
    return reply.value


async def _connect(path: Path) -> trio.SocketStream:
    connection = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _address(path) as address:
            await connection.connect(address)
    except PermissionError as error:
        connection.close()
        raise CallerError(
            f"{path} belongs to another account: run this as that, or as root"
        ) from error
    except OSError:
        connection.close()
        raise NotRunning(
            f"No Troupe is running on {path.parent}: start one with 'troupe up'."
        ) from None
    except BaseException:
        connection.close()
        raise
    return trio.SocketStream(connection)


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """A name of the socket that is short enough."""
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
