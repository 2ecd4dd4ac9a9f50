"""BigQuery's failures, sorted by whose they are.

::

    PeerError
    ├── PeerUnavailable              transport, 5xx, quota and rate: later
    └── PeerRefused
        ├── CredentialsRejected      the key is no key, was revoked, or its token is refused
        ├── PermissionMissing        the account is known and may not
        ├── SourceMissing            there is no such project, dataset or table
        └── QueryRefused             our own query does not fit this table: our fault, not theirs

What is retried inside the client (see bigquery.py) does not arrive here until its time is up.
"""

import concurrent.futures
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import google.auth.exceptions
import requests
from google.api_core import exceptions as api

from troupe.common.errors import CredentialsRejected, PeerError, PeerRefused, PeerUnavailable
from troupe.common.units import MINUTES

QUOTA_PAUSE: Final = 5 * MINUTES
"""Seconds to wait after a quota was used up, when BigQuery does not say."""
_QUOTA: Final = frozenset({"quotaExceeded"})
_RATE: Final = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "jobRateLimitExceeded"})
_LATER: Final = frozenset({"backendError", "internalError", "tableUnavailable", "jobBackendError"})
_MESSAGE_CHARACTERS: Final = 300


class PermissionMissing(PeerRefused):
    """BigQuery knows the account and does not let it do this."""


class SourceMissing(PeerRefused):
    """The project, dataset or table is not there."""


class QueryRefused(PeerRefused):
    """BigQuery cannot run our query on this table."""


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
        raise _sorted(error, what) from error
    except (
        requests.RequestException,
        concurrent.futures.TimeoutError,
        ConnectionError,
        TimeoutError,
    ) as error:
        raise PeerUnavailable(f"BigQuery does not answer while {what}.") from error


def _sorted(error: api.GoogleAPICallError, what: str) -> PeerError:
    reasons = {entry.get("reason") for entry in error.errors if isinstance(entry, dict)}
    said = _first_line(error)
    if reasons & _QUOTA:
        hint = _retry_after(error) or QUOTA_PAUSE
        return PeerUnavailable(f"A BigQuery quota is used up while {what}: {said}", hint)
    if reasons & _RATE or isinstance(error, api.TooManyRequests | api.ResourceExhausted):
        return PeerUnavailable(f"BigQuery asks to slow down while {what}.", _retry_after(error))
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
    response = getattr(error, "response", None)
    header = getattr(response, "headers", {}).get("Retry-After", "") if response else ""
    return float(header) if header.isdigit() else None
