"""What went wrong, in Troupe's words: asyncpg's errors mapped to the `DatabaseError` family.

Only failures of the database itself are mapped. Whatever a statement is to blame for (a violated
constraint, a deadlock, bad syntax) arrives as asyncpg's own, and what a unit raises arrives as it
is: an `OSError` is a lost connection only if the connection is in fact closed.
"""

from typing import Final

import asyncpg

from troupe.common.errors import (
    DatabaseError,
    DatabaseUnavailable,
    DeadlineExceeded,
    StorageFull,
)


class CommitUnknown(DatabaseError):
    """The connection was lost while committing: the work may be done or not.

    Repeat it only if repeating does no harm, or look first.
    """


class UnitBroken(RuntimeError):
    """A unit of work broke its transaction: nothing was committed, and the unit must be mended.

    It swallowed the failure of a statement (PostgreSQL then turns COMMIT into ROLLBACK without
    saying so), or ended the transaction itself.
    """


class NotBegun(Exception):
    """The connection turned out to be useless before anything of the unit ran.

    Attributes:
        silent: It did not even say so, so its neighbours may be dead too.
    """

    def __init__(self, *, silent: bool) -> None:
        super().__init__()
        self.silent = silent


_UNAVAILABLE: Final = {
    "53300": "PostgreSQL has no connection left.",
    "57P01": "PostgreSQL is shutting down.",
    "57P02": "PostgreSQL is restarting after a crash.",
    "57P03": "PostgreSQL is starting up.",
    "57P04": "The database was dropped.",
    "57P05": "PostgreSQL closed the connection because it was idle.",
    "25P03": "PostgreSQL closed the connection because its transaction was idle.",
    "25P04": "PostgreSQL closed the connection because its transaction took too long.",
}
# Waiting does not help: what the operator wrote does not fit the server.
_REFUSED: Final = {
    "28000": "PostgreSQL refuses this role from here.",
    "28P01": "PostgreSQL does not accept the role's password.",
    "3D000": "The database does not exist.",
    "42501": "The role may not connect to the database.",
}
# The last one is how asyncpg says that a connection ended between two statements.
_BROKEN: Final = (OSError, EOFError, asyncpg.InterfaceError, asyncpg.InternalClientError)

LOST: Final = "The connection to PostgreSQL was lost."
UNREACHABLE: Final = "PostgreSQL cannot be reached."
STANDBY: Final = "This PostgreSQL takes no changes: it is a standby."


def translated(error: Exception, *, lost: bool) -> DatabaseError | None:
    """Troupe's word for ``error``, or None if it is not the database's fault.

    Args:
        error: What the unit, BEGIN or COMMIT raised.
        lost: Whether the connection is closed by now.
    """
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state == "53100":
            return StorageFull("No space is left where PostgreSQL writes.")
        if state == "57014":
            return DeadlineExceeded("PostgreSQL cancelled the statement.")
        if state in _UNAVAILABLE:
            return DatabaseUnavailable(_UNAVAILABLE[state])
        if state.startswith("08"):
            return DatabaseUnavailable(LOST)
    elif lost and isinstance(error, _BROKEN):
        return DatabaseUnavailable(LOST)
    return None


def connecting_failed(error: Exception) -> tuple[DatabaseError, bool]:
    """Troupe's word for a failed attempt to connect, and whether another one may succeed."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state in _REFUSED:
            return DatabaseUnavailable(_REFUSED[state]), False
        return translated(error, lost=True) or DatabaseUnavailable(UNREACHABLE), True
    # A ValueError speaks of the URL; asyncpg's is an InterfaceError as well.
    again = isinstance(error, _BROKEN) and not isinstance(error, ValueError)
    return DatabaseUnavailable(UNREACHABLE), again


def described(error: BaseException | None) -> str:
    """What may be logged of ``error``: a complaint about a URL can quote a password."""
    if isinstance(error, OSError | asyncpg.PostgresError):
        return str(error)
    return type(error).__name__
