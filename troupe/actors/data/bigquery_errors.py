"""BigQuery's failures, sorted by whose they are.

::

    PeerError
    ├── PeerUnavailable              transport, 5xx, quota and rate: later
    └── PeerRefused
        ├── CredentialsRejected      the key is no key, was revoked, or its token is refused
        ├── PermissionMissing        the account is known and may not
        ├── SourceMissing            there is no such project, dataset or table
        ├── CostLimitReached         the query would be billed for more than we allowed
        ├── MessageTooLarge          a message of theirs is larger than we take
        └── QueryRefused             our own query does not fit this table: our fault, not theirs

What is retried inside the client (see bigquery.py) does not arrive here until its time is up; what
BigQuery gives a time for is not retried there, because the client would not keep to it.
"""

import concurrent.futures
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import google.auth.exceptions
import requests
from google.api_core import exceptions as api
from google.cloud.bigquery import DEFAULT_RETRY
from google.rpc.error_details_pb2 import RetryInfo

from troupe.common.errors import CredentialsRejected, PeerError, PeerRefused, PeerUnavailable
from troupe.common.units import HOURS, MINUTES, SECONDS

QUOTA_PAUSE: Final = 5 * MINUTES
"""Seconds to wait after a quota was used up, when BigQuery does not say."""
LONGEST_HINT: Final = 30 * SECONDS
"""What BigQuery may ask a thread to wait for; for more, the day or the job comes back later."""
_FAR_AWAY: Final = 24 * HOURS
_QUOTA: Final = frozenset({"quotaExceeded"})
_RATE: Final = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "jobRateLimitExceeded"})
_LATER: Final = frozenset({"backendError", "internalError", "tableUnavailable", "jobBackendError"})
_COST: Final = frozenset({"bytesBilledLimitExceeded"})
_MESSAGE_CHARACTERS: Final = 300
_TOO_LARGE: Final = "Received message larger than max"


class PermissionMissing(PeerRefused):
    """BigQuery knows the account and does not let it do this."""


class SourceMissing(PeerRefused):
    """The project, dataset or table is not there."""


class CostLimitReached(PeerRefused):
    """BigQuery would bill the query for more than it was allowed to."""


class QueryRefused(PeerRefused):
    """BigQuery cannot run our query on this table."""


class MessageTooLarge(PeerRefused):
    """What names itself BigQuery sends more in one message than we hold in memory."""


@contextmanager
def sorted_errors(what: str) -> Iterator[None]:
    """Turn failures of the client into ours.

    Args:
        what: What was being done, for the sentence: ``reading events_20260801``.

    Raises:
        PeerError: One of the classes above.
    """
    try:
        yield
    except google.auth.exceptions.TransportError as error:
        raise PeerUnavailable(f"BigQuery cannot be reached while {what}.") from error
    except google.auth.exceptions.GoogleAuthError as error:
        if getattr(error, "retryable", False):
            raise PeerUnavailable(f"Google's token service fails while {what}.") from error
        raise CredentialsRejected(
            "BigQuery does not accept the service account's credentials."
        ) from error
    except api.RetryError as error:
        cause = error.cause
        if isinstance(cause, api.GoogleAPICallError):
            raise _sorted(cause, what) from error
        raise PeerUnavailable(f"BigQuery does not answer while {what}.") from error
    except api.GoogleAPICallError as error:
        if isinstance(error, api.ResourceExhausted) and _TOO_LARGE in error.message:
            # Our own gRPC says so, of what came; it would come again.
            raise MessageTooLarge(
                f"BigQuery sends more in one message than we take while {what}."
            ) from error
        raise _sorted(error, what) from error
    except (
        requests.RequestException,
        concurrent.futures.TimeoutError,
        ConnectionError,
        TimeoutError,
    ) as error:
        raise PeerUnavailable(f"BigQuery does not answer while {what}.") from error


def retried_at_once(error: Exception) -> bool:
    """Whether the client itself shall try a call again, after a pause of its own choosing."""
    may: bool = DEFAULT_RETRY._predicate(error)  # noqa: SLF001 - it has no other door
    hint = _retry_after(error) if isinstance(error, api.GoogleAPICallError) else None
    return may and hint is None


def was_answered(error: PeerError) -> bool:
    """Whether BigQuery itself said that something failed, rather than nothing at all."""
    cause = error.__cause__
    if isinstance(cause, api.RetryError):
        cause = cause.cause
    silent = api.GatewayTimeout | api.DeadlineExceeded
    return isinstance(cause, api.GoogleAPICallError) and not isinstance(cause, silent)


def _sorted(error: api.GoogleAPICallError, what: str) -> PeerError:
    reasons = {entry.get("reason") for entry in error.errors if isinstance(entry, dict)}
    said = _first_line(error)
    if reasons & _QUOTA:
        hint = _retry_after(error) or QUOTA_PAUSE
        return PeerUnavailable(f"A BigQuery quota is used up while {what}: {said}", hint)
    if reasons & _RATE or isinstance(error, api.TooManyRequests | api.ResourceExhausted):
        return PeerUnavailable(f"BigQuery asks to slow down while {what}.", _retry_after(error))
    if reasons & _COST:
        return CostLimitReached(f"A query became dearer than its estimate while {what}: {said}")
    if isinstance(error, api.Unauthorized):
        return CredentialsRejected("BigQuery does not accept the service account's credentials.")
    if not reasons & _LATER:
        for kind, ours, verdict in _FINAL:
            if isinstance(error, kind):
                return ours(f"BigQuery {verdict} while {what}: {said}")
    return PeerUnavailable(f"BigQuery fails while {what}: {said}")


_FINAL: Final[tuple[tuple[type[api.GoogleAPICallError], type[PeerRefused], str], ...]] = (
    (api.Forbidden, PermissionMissing, "denies access"),
    (api.NotFound, SourceMissing, "has nothing there"),
    (api.BadRequest, QueryRefused, "refuses the query"),
)


def _first_line(error: api.GoogleAPICallError) -> str:
    told = [entry.get("message") for entry in error.errors if isinstance(entry, dict)]
    lines = str(next(filter(None, told), error.message) or type(error).__name__).splitlines()
    return lines[0][:_MESSAGE_CHARACTERS]


def _retry_after(error: api.GoogleAPICallError) -> float | None:
    """Seconds that BigQuery asks to wait: REST says it in a header, gRPC in the error's details."""
    for detail in error.details or ():
        if isinstance(detail, RetryInfo):
            return _within_reason(detail.retry_delay.seconds + detail.retry_delay.nanos / 1e9)
    # Not `if response`: a response that tells an error counts as false.
    response = getattr(error, "response", None)
    header = getattr(response, "headers", {}).get("Retry-After", "")
    if header.isascii() and header.isdigit():
        return _within_reason(float(header))
    try:
        then = parsedate_to_datetime(header)
    except ValueError:
        return None
    return _within_reason((then.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def _within_reason(seconds: float) -> float:
    return min(max(seconds, 0.0), _FAR_AWAY)
