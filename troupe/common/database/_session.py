"""A session of PostgreSQL, and how one unit of work runs on it (asyncio side).

Problem. Every unit of work is a transaction with a tenant, a time limit, and a promise: whatever it
does to the session is gone when the next unit gets the connection. Done the obvious way that is
five round trips for a single statement (BEGIN, set_config, the statement, COMMIT, and the reset
that asyncpg's own pool sends), each of them waiting for the network.

Choice. Three: what we have to say before and after rides along with BEGIN and with COMMIT, as one
message of several statements in the simple query protocol.

- Behind BEGIN: the tenant, and time limits that the server enforces should we die.
- In front of COMMIT, inside the transaction: everything that could outlive it is undone (settings,
  role, advisory locks, LISTEN, temporary tables, cursors, sequence state). So COMMIT is the last
  word: if anything fails, nothing is committed, and no error has to be guessed about. Behind a
  pooler that gives every transaction another server connection, this is also the only place where a
  reset reaches the right one. It reaches the unit's own SET LOCAL, too: that a commit need not wait
  for the disk is said to us (`Order.durable`), and we say it last.
- Behind ROLLBACK: the same, for what a rollback leaves standing.

What Python code did to the connection object (codecs, listeners) cannot be undone through asyncpg's
public interface: such a connection is closed instead of used again. So is one where `execute` was
given a PREPARE; one hidden in a function is the single thing that we do not see (looking costs
34 µs; all it could do is to occupy a name).

The last of the three is not waited for where a unit only read: what it found is as good before.

Measured on a local socket, one SELECT, best of many: three bare round trips 91 µs, all of the above
126 µs, the obvious way 185 µs. Of the 35 µs, pg_advisory_unlock_all takes 12.

Cancellation. Only the unit itself is interrupted. BEGIN answers at once or not at all, so a
cancellation waits for it; COMMIT is never interrupted, because nobody could know what became of it.
After a cancelled statement asyncpg has the server cancel it and we roll back, within the clean-up
deadline; a session that cannot is closed.
"""

import asyncio
import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

import asyncpg

from troupe.common.database import _json
from troupe.common.database._failures import (
    LOST,
    STANDBY,
    CommitUnknown,
    NotBegun,
    UnitBroken,
    translated,
)
from troupe.common.database._niceness import place
from troupe.common.database._settings import PoolSettings
from troupe.common.dialing import dial
from troupe.common.errors import DatabaseUnavailable
from troupe.common.logs import get_logger
from troupe.common.sql import load
from troupe.common.units import MILLISECONDS

T = TypeVar("T")
Unit = Callable[[asyncpg.Connection], Awaitable[T]]
Isolation = Literal["read_committed", "repeatable_read", "serializable"]

_log = get_logger(__name__)

_QUERIES: Final = load(__package__, "session.sql")
LONGEST_LIMIT: Final = 2**31 - 1  # milliseconds; the server's largest
_ABORTED: Final = "25P02"  # a statement in a transaction that already failed
_READ_ONLY: Final = "25006"


class _Frame(NamedTuple):
    """What travels with the next statement of ours."""

    before: str = ""
    after: str = ""
    timeout: float | None = None


def _bare(name: str) -> str:
    """A statement list of session.sql without its comments, to be followed by another."""
    lines = _QUERIES[name].splitlines()
    return " ".join(line for line in lines if not line.startswith("--")) + ";"


_AFTER_BEGIN: Final = _bare("after_begin")
_TRANSACTION_LIMIT: Final = _bare("transaction_limit")
_LIMITS_TRANSACTIONS: Final = 17  # the first major version of PostgreSQL that does
_CUSTOM_PLANS: Final = _bare("custom_plans")
_COMMIT: Final = _Frame(before=_bare("before_commit"))
_COMMIT_SOON: Final = _Frame(before=_COMMIT.before + _bare("not_durable"))
_ROLLBACK: Final = _Frame(after=_bare("after_rollback"))


def after_begin(tenant: str, milliseconds: int, *, custom_plans: bool = False) -> str:
    """What to send behind BEGIN.

    Args:
        tenant: A UUID in its canonical form, or nothing.
        milliseconds: Limit of a statement and of idling between two; 0 is none.
        custom_plans: Whether statements are planned for the values of each execution.
    """
    sent = _AFTER_BEGIN.format(tenant=tenant, milliseconds=milliseconds)
    return sent + _CUSTOM_PLANS if custom_plans else sent


class Phase(enum.Enum):
    """Where a session stands."""

    IDLE = enum.auto()
    """Between units: clean, or new."""
    BEGIN = enum.auto()
    UNIT = enum.auto()
    COMMIT = enum.auto()
    ROLLBACK = enum.auto()


@dataclass(frozen=True, slots=True)
class Order(Generic[T]):
    """One unit of work and how to run it.

    Attributes:
        unit: What to do.
        after_begin: What to send behind BEGIN.
        milliseconds: The limit that is said there; 0 is none.
        isolation: Of the transaction.
        read_only: Whether the transaction may write.
        durable: Whether what it wrote must be on disk when it has ended.
    """

    unit: Unit[T]
    after_begin: str
    milliseconds: int
    isolation: Isolation
    read_only: bool
    durable: bool


def _altering(name: str) -> Any:
    """A method of asyncpg's that leaves a trace which no reset removes."""
    original = getattr(asyncpg.Connection, name)

    def method(self: "Session", *args: Any, **options: Any) -> Any:
        self.altered = True
        return original(self, *args, **options)

    return method


class Session(asyncpg.Connection):
    """A connection that runs units of work.

    Attributes:
        phase: Where it stands; anything but IDLE after a unit means that it must not be used again.
        altered: It carries what no reset removes, and must not be used again.
        fresh: It has not been in the pool yet.
        unended: The transaction of a unit that only read and has returned; `end_reading` ends it.
        retires: When it is to be replaced, in seconds of trio's clock.
        idle_since: When it was last given back, likewise.
    """

    __slots__ = (
        "_cancelled",
        "_frame",
        "altered",
        "fresh",
        "idle_since",
        "phase",
        "retires",
        "unended",
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._frame: _Frame | None = None
        self._cancelled = False
        self.phase = Phase.IDLE
        self.altered = False
        self.fresh = True
        self.unended: asyncpg.transaction.Transaction | None = None
        self.retires = self.idle_since = 0.0

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:
        if self._frame is not None:  # BEGIN, COMMIT or ROLLBACK of the unit's own transaction
            before, after, timeout = self._frame
            self._frame = None
            return await super().execute(f"{before}{query}{after}", timeout=timeout)
        status = await super().execute(query, *args, timeout=timeout)
        if status.startswith("PREPARE"):
            self.altered = True
        return status

    add_listener = _altering("add_listener")
    add_log_listener = _altering("add_log_listener")
    add_query_logger = _altering("add_query_logger")
    add_termination_listener = _altering("add_termination_listener")
    reset_type_codec = _altering("reset_type_codec")
    set_builtin_type_codec = _altering("set_builtin_type_codec")
    set_type_codec = _altering("set_type_codec")

    @property
    def reusable(self) -> bool:
        """Whether the next unit may have it."""
        return self.phase is Phase.IDLE and not self.altered and not self.is_closed()

    def cancel(self, task: asyncio.Task[Any]) -> None:
        """Interrupt ``task``, which performs a unit here, as soon as that can be done cleanly."""
        self._cancelled = True
        if self.phase is Phase.UNIT:
            task.cancel()

    async def perform(self, order: Order[T], settings: PoolSettings) -> T:
        """Run one unit of work: BEGIN, the unit, COMMIT; ROLLBACK if it fails.

        What was only read is as good before the COMMIT: `end_reading` is to follow then.

        Raises:
            NotBegun: The connection is useless; nothing of the unit ran.
            CommitUnknown: The connection was lost while committing.
            UnitBroken: The unit did something to its transaction that it must not.
            DatabaseError: The database failed.
            Exception: Anything else that the unit raised, unchanged.
        """
        transaction = self._new_transaction(order)
        after_begin = order.after_begin + self._limit(order.milliseconds, settings)
        await self._begin(transaction, after_begin, settings.begin_deadline)
        try:
            result = await self._interruptible(order.unit)
        except BaseException as error:
            await self._roll_back(transaction.rollback, settings.clean_up_deadline)
            if not order.read_only and getattr(error, "sqlstate", None) == _READ_ONLY:
                # It was the primary once, or never was: another connection may find the one it is.
                self.terminate()
                raise DatabaseUnavailable(STANDBY) from error
            self._raise_translated(error)
            raise
        if order.read_only and order.isolation != "serializable":
            self.phase = Phase.COMMIT
            self.unended = transaction
            return result
        try:
            await self._commit(transaction, durable=order.durable)
        except Exception as error:
            if self.is_closed():
                self.terminate()
                if order.read_only:
                    return result  # there was nothing to commit
                raise CommitUnknown(f"{LOST} It is not known whether the work was done.") from error
            await self._roll_back(lambda: self.execute("ROLLBACK;"), settings.clean_up_deadline)
            if isinstance(error, asyncpg.PostgresError) and error.sqlstate == _ABORTED:
                raise UnitBroken("the unit swallowed the failure of a statement") from error
            self._raise_translated(error)
            raise
        return result

    def _new_transaction(self, order: Order[T]) -> asyncpg.transaction.Transaction:
        try:
            return self.transaction(isolation=order.isolation, readonly=order.read_only)
        except asyncpg.InterfaceError as error:
            # It was lost while it lay idle, between being taken and being used.
            if not self.is_closed():
                raise
            raise NotBegun(silent=False) from error

    def _limit(self, milliseconds: int, settings: PoolSettings) -> str:
        """What else to send behind BEGIN, so that the server ends a transaction in any case."""
        if not milliseconds or self.get_server_version().major < _LIMITS_TRANSACTIONS:
            return ""
        limit = milliseconds + int(settings.clean_up_deadline / MILLISECONDS)
        return _TRANSACTION_LIMIT.format(milliseconds=min(limit, LONGEST_LIMIT))

    async def _interruptible(self, unit: Unit[T]) -> T:
        if self._cancelled:  # while we waited for BEGIN
            raise asyncio.CancelledError
        self.phase = Phase.UNIT
        result = await unit(self)
        if not self.is_closed() and not self.is_in_transaction():
            raise UnitBroken("the unit ended its transaction itself")
        return result

    async def _begin(
        self, transaction: asyncpg.transaction.Transaction, after: str, deadline: float
    ) -> None:
        self._cancelled = False
        self.phase = Phase.BEGIN
        self._frame = _Frame(after=after, timeout=deadline)
        try:
            await transaction.start()
        except BaseException as error:
            silent = isinstance(error, TimeoutError)
            lost = silent or self.is_closed()
            self.terminate()
            if isinstance(error, Exception):
                failure = translated(error, lost=lost)
                if lost or isinstance(failure, DatabaseUnavailable):
                    raise NotBegun(silent=silent) from error
                if failure is not None:
                    raise failure from error
            raise

    async def _commit(self, transaction: asyncpg.transaction.Transaction, *, durable: bool) -> None:
        self.phase = Phase.COMMIT
        self._frame = _COMMIT if durable else _COMMIT_SOON
        await transaction.commit()
        self.phase = Phase.IDLE

    async def end_reading(self, deadline: float) -> None:
        """End the transaction of a unit that only read, or close the session; never raises."""
        transaction, self.unended = self.unended, None
        try:
            async with asyncio.timeout(deadline):
                if transaction is not None:
                    await self._commit(transaction, durable=False)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - there was nothing to commit
            if isinstance(error, asyncpg.PostgresError) and error.sqlstate == _ABORTED:
                _log.error("database_unit_swallowed_a_failure")
            self.terminate()

    async def _roll_back(self, roll_back: Callable[[], Awaitable[object]], deadline: float) -> None:
        """Return to a clean session, or close it; never raises."""
        self.phase = Phase.ROLLBACK
        self._frame = _ROLLBACK
        try:
            async with asyncio.timeout(deadline):
                await roll_back()
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - the unit's own failure counts
            self.terminate()
        else:
            self.phase = Phase.IDLE

    def _raise_translated(self, error: BaseException) -> None:
        if isinstance(error, Exception):
            failure = translated(error, lost=self.is_closed())
            if failure is not None:
                raise failure from error


async def connect(url: str, application_name: str, settings: PoolSettings) -> Session:
    """A new session, with JSON as Python values.

    Raises:
        Exception: asyncpg's, or the operating system's.
    """
    async with asyncio.timeout(settings.connect_deadline):
        session: Session = await dial(
            url,
            deadline=settings.connect_deadline,
            connection_class=Session,
            statement_cache_size=settings.statement_cache_size,
            max_cached_statement_lifetime=0,  # bounded by the connection's own age
            server_settings={"application_name": application_name, **settings.server_settings},
        )
        try:
            for name, encode, decode in (
                ("json", _json.encode_json, _json.decode_json),
                ("jsonb", _json.encode_jsonb, _json.decode_jsonb),
            ):
                await session.set_type_codec(
                    name, schema="pg_catalog", encoder=encode, decoder=decode, format="binary"
                )
            await place(session, settings.niceness, settings.keep_off)
        except BaseException:
            session.terminate()
            raise
        session.altered = False
        return session
