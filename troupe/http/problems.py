"""Every error leaves as RFC 9457 ``application/problem+json``; this module draws the line.

`type` is a stable name that a client may compare (``urn:troupe:problem:`` and the last part below);
`title` and `detail` are for people.

==============================  ======  ====================================================
type (its last part)            status  raised as
==============================  ======  ====================================================
``malformed-request``           400     `werkzeug.exceptions.BadRequest`
``unauthenticated``             401     `Unauthenticated`
``forbidden``                   403     `Forbidden`
``not-found``                   404     `NotFound`, or no such route
``method-not-allowed``          405     the route knows other methods (``Allow``)
``request-timeout``             408     the body did not arrive in time
``conflict``                    409     `Conflict`
``precondition-failed``         412     `PreconditionFailed`
``content-too-large``           413     the body is larger than the route takes
``unsupported-media-type``      415     the body is not of the type that the route reads
``invalid-input``               422     `InvalidInput`; `errors` points at each field
``precondition-required``       428     ``If-Match`` is missing
``too-many-requests``           429     `TooManyRequests` (``Retry-After``)
``header-fields-too-large``     431     the request's head exceeds the limit
``internal-error``              500     anything that nobody expected
``not-implemented``             501     a transfer coding that we do not speak
``peer-refused``                502     `PeerRefused`
``peer-credentials-rejected``   502     `CredentialsRejected`
``unavailable``                 503     draining, restarting, or no room (``Retry-After``)
``database-unavailable``        503     `DatabaseUnavailable` (``Retry-After``)
``peer-unavailable``            503     `PeerUnavailable` (``Retry-After``)
``outcome-unknown``             504     `CommitUnknown`: it may or may not have been done
``deadline-exceeded``           504     `DeadlineExceeded`, or the route's own deadline
``storage-full``                507     `StorageFull`
==============================  ======  ====================================================

A pointer in `errors` is a JSON pointer into the body (``/members/0/role``), ``?name`` for a query
parameter, or ``header:name``. An unexpected exception tells the client nothing but the request id;
its traceback goes to the log under the same id.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import trio
from werkzeug.exceptions import HTTPException

from troupe.common.database import CommitUnknown
from troupe.common.errors import (
    ConfigurationError,
    Conflict,
    CredentialsRejected,
    DatabaseError,
    DatabaseUnavailable,
    DeadlineExceeded,
    Forbidden,
    InvalidInput,
    NotFound,
    PeerError,
    PeerRefused,
    PeerUnavailable,
    PreconditionFailed,
    StorageFull,
    TooManyRequests,
    TroupeError,
    Unauthenticated,
)
from troupe.common.units import SECONDS
from troupe.platform.errors import (
    ActorUnavailable,
    AskDeadlineExceeded,
    Overloaded,
    ResourceUnavailable,
)

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:troupe:problem:"
DEFAULT_RETRY_AFTER: Final = 2 * SECONDS


class Unavailable(TroupeError):
    """This group cannot take the request now: it is draining or has no room."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table above."""

    slug: str
    status: int
    title: str

    @property
    def type(self) -> str:
        """The stable name that clients compare."""
        return TYPE_PREFIX + self.slug


@dataclass(frozen=True, slots=True)
class Problem:
    """What one failed request is answered.

    Attributes:
        errors: Pairs of pointer and message, see the module's text.
        headers: Beside ``Content-Type``: ``Retry-After``, ``Allow``, ``WWW-Authenticate``.
        unexpected: Whether the cause is a fault of ours, to be logged with its traceback.
    """

    kind: Kind
    detail: str
    errors: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    unexpected: bool = False

    @property
    def status(self) -> int:
        """The HTTP status code."""
        return self.kind.status

    def body(self, request_id: str) -> bytes:
        """The JSON document, UTF-8."""
        document: dict[str, object] = {
            "type": self.kind.type,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = [
                {"pointer": pointer, "message": message} for pointer, message in self.errors
            ]
        document["request_id"] = request_id
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


_MALFORMED = Kind("malformed-request", 400, "The request is malformed")
_UNAVAILABLE = Kind("unavailable", 503, "Not available now")
_LATE = Kind("deadline-exceeded", 504, "This took too long")
_INTERNAL = Kind("internal-error", 500, "Something went wrong on our side")

_DOMAIN: Final[Mapping[type[TroupeError], Kind]] = {
    InvalidInput: Kind("invalid-input", 422, "The request is not valid"),
    Unauthenticated: Kind("unauthenticated", 401, "Credentials are needed"),
    Forbidden: Kind("forbidden", 403, "You may not do this"),
    NotFound: Kind("not-found", 404, "Not found"),
    Conflict: Kind("conflict", 409, "The current state does not allow this"),
    PreconditionFailed: Kind("precondition-failed", 412, "Your copy is outdated"),
    TooManyRequests: Kind("too-many-requests", 429, "Too many requests"),
    CredentialsRejected: Kind(
        "peer-credentials-rejected", 502, "Another system rejected its credentials"
    ),
    PeerRefused: Kind("peer-refused", 502, "Another system refused"),
    PeerUnavailable: Kind("peer-unavailable", 503, "Another system does not answer"),
    PeerError: Kind("peer-refused", 502, "Another system refused"),
    Unavailable: _UNAVAILABLE,
    Overloaded: _UNAVAILABLE,
    ActorUnavailable: _UNAVAILABLE,
    ResourceUnavailable: _UNAVAILABLE,
    DatabaseUnavailable: Kind("database-unavailable", 503, "The database does not answer"),
    CommitUnknown: Kind("outcome-unknown", 504, "It is not known whether this was done"),
    DeadlineExceeded: _LATE,
    AskDeadlineExceeded: _LATE,
    StorageFull: Kind("storage-full", 507, "No space left"),
    DatabaseError: Kind("database-unavailable", 503, "The database does not answer"),
    ConfigurationError: _INTERNAL,
}

_BY_STATUS: Final[Mapping[int, Kind]] = {
    kind.status: kind
    for kind in (
        _MALFORMED,
        _DOMAIN[Unauthenticated],
        _DOMAIN[Forbidden],
        _DOMAIN[NotFound],
        Kind("method-not-allowed", 405, "This method is not allowed here"),
        Kind("request-timeout", 408, "The request did not arrive in time"),
        _DOMAIN[Conflict],
        _DOMAIN[PreconditionFailed],
        Kind("content-too-large", 413, "The request's body is too large"),
        Kind("unsupported-media-type", 415, "The body is of the wrong media type"),
        _DOMAIN[InvalidInput],
        Kind("precondition-required", 428, "If-Match is needed"),
        _DOMAIN[TooManyRequests],
        Kind("header-fields-too-large", 431, "The request's head is too large"),
        _INTERNAL,
        Kind("not-implemented", 501, "Not implemented"),
        _DOMAIN[PeerRefused],
        _DOMAIN[Unavailable],
        _DOMAIN[DeadlineExceeded],
        _DOMAIN[StorageFull],
    )
}

KINDS: Final[Mapping[str, Kind]] = {
    kind.slug: kind for kind in (*_BY_STATUS.values(), *_DOMAIN.values())
}
"""Every kind by its slug."""

_DETAILS: Final[Mapping[int, str]] = {
    404: "There is nothing at this address.",
    405: "This address exists, but not for this method.",
    408: "The body of the request did not arrive in time.",
    413: "The body of the request is larger than this address takes.",
    415: "Send the body in the media type that the documentation names.",
}


def kind_of_status(status: int) -> Kind:
    """The general kind for a status code, for answers made outside any exception."""
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return _MALFORMED if 400 <= status < 500 else _INTERNAL


def leading_error(error: BaseException) -> BaseException:
    """The exception of a group that decides the answer: one that nobody expected, else the first.

    Cancellations inside a group are not errors and never decide.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [
        leaf
        for leaf in (leading_error(inner) for inner in error.exceptions)
        if not isinstance(leaf, trio.Cancelled)
    ]
    unexpected = [leaf for leaf in leaves if not isinstance(leaf, TroupeError | HTTPException)]
    return (unexpected or leaves or [error])[0]


def problem_of(error: BaseException) -> Problem:
    """What the client is told about `error`. Never more than the error's own sentence."""
    error = leading_error(error)
    if isinstance(error, TroupeError):
        return _domain_problem(error)
    if isinstance(error, HTTPException) and error.code is not None and error.code >= 400:
        return _protocol_problem(error)
    return Problem(
        _INTERNAL,
        "The request failed. It was recorded under the request id; quote it when you ask.",
        unexpected=True,
    )


def _domain_problem(error: TroupeError) -> Problem:
    kind = next((_DOMAIN[cls] for cls in type(error).__mro__ if cls in _DOMAIN), _INTERNAL)
    if kind is _INTERNAL:
        return Problem(kind, "The server is not set up for this request.", unexpected=True)
    headers: dict[str, str] = {}
    if isinstance(error, Unauthenticated):
        reason = (
            ', error="invalid_token"' if getattr(error, "presented", False) else ""
        )  # RFC 6750, section 3.1
        headers["WWW-Authenticate"] = f'Bearer realm="troupe"{reason}'
    if kind.status in {429, 503}:
        seconds = getattr(error, "retry_after", None) or DEFAULT_RETRY_AFTER
        headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    errors = error.errors if isinstance(error, InvalidInput) else ()
    return Problem(kind, str(error) or kind.title, errors, headers)


def _protocol_problem(error: HTTPException) -> Problem:
    status = error.code or 500
    kind = kind_of_status(status)
    headers = {
        name: value
        for name, value in error.get_headers()
        if name.lower() in {"allow", "retry-after", "www-authenticate"}
    }
    said = error.description if error.description != type(error).description else None
    return Problem(
        kind,
        said or _DETAILS.get(status) or kind.title,
        headers=headers,
        unexpected=status >= 500,
    )
