"""Every exception that Troupe raises on purpose.

A class says whose fault it is; its message is one sentence for a person and holds no secret::

    TroupeError
    ├── CallerError                 whoever called us asked for something we will not do
    │   ├── InvalidInput            the request is malformed; `errors` points at each field
    │   ├── Unauthenticated         no valid credentials
    │   ├── Forbidden               valid credentials without the right
    │   ├── NotFound                there is no such thing, or none that the caller may see
    │   ├── Conflict                the thing's state does not allow it
    │   ├── PreconditionFailed      the caller's copy is outdated (If-Match)
    │   └── TooManyRequests         a limit; `retry_after` says when to come back
    ├── PeerError                   a system that we talk to (BigQuery, SFTP, SMTP, an IdP)
    │   ├── PeerUnavailable         does not answer, or says "later"; worth a retry
    │   ├── PeerRefused             answers, and says no; a retry will not help
    │   └── CredentialsRejected     does not accept the credentials that the tenant gave us
    ├── DatabaseError               our own PostgreSQL
    │   ├── DatabaseUnavailable     not reachable, restarting, or out of connections
    │   ├── DeadlineExceeded        took longer than the caller was willing to wait
    │   └── StorageFull             no space left where the database writes
    └── ConfigurationError          what the operator wrote cannot be used

Their HTTP status lives in `troupe.http.problems`, not here.
"""

from collections.abc import Sequence


class TroupeError(Exception):
    """Base of everything raised on purpose."""


class CallerError(TroupeError):
    """The caller asked for something that cannot be done."""


class InvalidInput(CallerError):
    """The request is malformed.

    Args:
        message: One sentence about the whole.
        errors: Pairs of a JSON pointer (``/start_date``, or ``?limit`` for a query parameter)
            and what is wrong there.
    """

    def __init__(self, message: str, errors: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)


class Unauthenticated(CallerError):
    """No valid credentials were presented.

    Args:
        message: One sentence.
        presented: Whether there was a token, which is not good (any more).
    """

    def __init__(self, message: str, *, presented: bool = False) -> None:
        super().__init__(message)
        self.presented = presented


class Forbidden(CallerError):
    """The credentials are valid but do not carry the right."""


class NotFound(CallerError):
    """There is no such thing, or none that the caller may see."""


class Conflict(CallerError):
    """The state of the thing does not allow what was asked."""


class PreconditionFailed(CallerError):
    """The caller's copy of the thing is outdated."""


class TooManyRequests(CallerError):
    """A limit was reached.

    Args:
        message: One sentence.
        retry_after: Seconds until it is worth asking again.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PeerError(TroupeError):
    """A system that we talk to failed."""


class PeerUnavailable(PeerError):
    """The peer does not answer or asks us to come back; worth a retry.

    Args:
        message: One sentence.
        retry_after: Seconds the peer asked us to wait, if it said so.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PeerRefused(PeerError):
    """The peer answered and said no; a retry will not help."""


class CredentialsRejected(PeerRefused):
    """The peer does not accept the credentials that it was given."""


class DatabaseError(TroupeError):
    """Our own PostgreSQL failed."""


class DatabaseUnavailable(DatabaseError):
    """PostgreSQL is not reachable, is restarting, or has no connection left."""


class DeadlineExceeded(DatabaseError):
    """The statement took longer than the caller was willing to wait."""


class StorageFull(DatabaseError):
    """No space is left where the database writes."""


class ConfigurationError(TroupeError):
    """What the operator wrote cannot be used."""
