"""Which failures are the database's own."""

import asyncpg
import pytest

from troupe.common.database._failures import connecting_failed, described, translated
from troupe.common.errors import DatabaseError, DatabaseUnavailable, DeadlineExceeded, StorageFull

CONNECTION = asyncpg.InterfaceError("connection is closed")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (asyncpg.DiskFullError(""), StorageFull),
        (asyncpg.QueryCanceledError(""), DeadlineExceeded),
        (asyncpg.TooManyConnectionsError(""), DatabaseUnavailable),
        (asyncpg.AdminShutdownError(""), DatabaseUnavailable),
        (asyncpg.CrashShutdownError(""), DatabaseUnavailable),
        (asyncpg.CannotConnectNowError(""), DatabaseUnavailable),
        (asyncpg.DatabaseDroppedError(""), DatabaseUnavailable),
        (asyncpg.IdleInTransactionSessionTimeoutError(""), DatabaseUnavailable),
        (asyncpg.ConnectionDoesNotExistError(""), DatabaseUnavailable),
        (asyncpg.ConnectionFailureError(""), DatabaseUnavailable),
    ],
)
@pytest.mark.parametrize("lost", [False, True])
def test_a_state_of_the_server_speaks_for_itself(
    error: Exception, expected: type[DatabaseError], lost: bool
) -> None:
    assert type(translated(error, lost=lost)) is expected


@pytest.mark.parametrize(
    "error", [CONNECTION, ConnectionResetError(), TimeoutError(), EOFError(), OSError()]
)
def test_other_errors_count_only_if_the_connection_is_gone(error: Exception) -> None:
    assert translated(error, lost=False) is None
    assert type(translated(error, lost=True)) is DatabaseUnavailable


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.UniqueViolationError(""),
        asyncpg.DeadlockDetectedError(""),
        asyncpg.SerializationError(""),
        asyncpg.LockNotAvailableError(""),
        asyncpg.RaiseError(""),
        LookupError(),
    ],
)
@pytest.mark.parametrize("lost", [False, True])
def test_what_a_statement_is_to_blame_for_is_left_alone(error: Exception, lost: bool) -> None:
    assert translated(error, lost=lost) is None


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (asyncpg.CannotConnectNowError(""), True),
        (asyncpg.TooManyConnectionsError(""), True),
        (CONNECTION, True),
        (asyncpg.InvalidPasswordError(""), False),
        (asyncpg.InvalidAuthorizationSpecificationError(""), False),
        (asyncpg.InvalidCatalogNameError(""), False),
        (ValueError("what a wrong URL gives"), False),
        (asyncpg.exceptions.ClientConfigurationError("another wrong URL"), False),
    ],
)
def test_connecting_is_worth_another_try_or_not(error: Exception, again: bool) -> None:
    failure, worth_retrying = connecting_failed(error)
    assert isinstance(failure, DatabaseUnavailable)
    assert worth_retrying is again


def test_a_complaint_about_a_url_is_not_quoted() -> None:
    assert described(ValueError("Port could not be cast to integer value as 'secret'")) == (
        "ValueError"
    )
    assert described(ConnectionRefusedError(111, "Connection refused")) == (
        "[Errno 111] Connection refused"
    )
