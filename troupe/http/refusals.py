"""Requests that are not let in: which, and the answer that they get without any application.

HTTP leaves room for two readers of the same bytes to see two different requests, and a proxy in
front is such a second reader. What is ambiguous is refused, not interpreted (RFC 9112, section 6.3
and 11.2).
"""

from collections.abc import Iterable, Mapping
from email.utils import formatdate
from typing import Final

from hypercorn.typing import HTTPScope, Scope

from troupe.common.ids import new_id
from troupe.http.admission import Limits
from troupe.http.problems import MEDIA_TYPE, Problem, kind_of_status
from troupe.http.request import REQUEST_ID_HEADER
from troupe.http.security import NOTHING_POLICY, fixed_headers

_DETAILS: Final[Mapping[int, str]] = {
    400: "The request is not valid HTTP.",
    408: "The body of the request did not arrive in time.",
    413: "The body of the request is larger than any address here takes.",
    431: "The request line and headers together are too large.",
    500: "The request failed.",
    501: "This transfer coding is not supported.",
    503: "Too many requests are being answered; try again in a moment.",
}
CROWDED_RETRY_AFTER: Final = 1  # seconds

Headers = list[tuple[bytes, bytes]]


def refusal(status: int, detail: str | None = None) -> Problem:
    """A problem for a request that no application has seen."""
    return Problem(kind_of_status(status), detail or _DETAILS.get(status) or _DETAILS[400])


def crowded() -> Problem:
    """The problem of a request for which there is no room."""
    return Problem(
        kind_of_status(503), _DETAILS[503], headers={"Retry-After": str(CROWDED_RETRY_AFTER)}
    )


def two_framings() -> Problem:
    """The problem of a request whose end two readers may see in two places."""
    return refusal(400, "Content-Length and Transfer-Encoding exclude each other.")


def answer_to(problem: Problem) -> tuple[Headers, bytes]:
    """Headers and body, as complete as those of any other answer."""
    request_id = str(new_id())
    body = problem.body(request_id)
    headers = {
        "Content-Type": MEDIA_TYPE,
        "Content-Length": str(len(body)),
        REQUEST_ID_HEADER: request_id,
        **fixed_headers(NOTHING_POLICY),
        **problem.headers,
        "Connection": "close",
    }
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()], body


def written_answer(problem: Problem) -> bytes:
    """The same as it goes over the wire, for who has not seen a protocol yet."""
    headers, body = answer_to(problem)
    headers.append((b"date", formatdate(usegmt=True).encode()))
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return b"HTTP/1.1 %d \r\n%b\r\n%b" % (problem.status, lines, body)


def refusal_of(scope: Scope, limits: Limits) -> Problem | None:
    """Why a request must not reach the application, or None.

    Args:
        scope: Of the request.
        limits: Of its head. h11 checks the size only of a head that arrives in pieces.
    """
    if scope["type"] != "http":
        return refusal(400, "There are no websockets here.")
    headers = list(scope["headers"])
    size = len(scope["raw_path"]) + len(scope["query_string"])
    size += sum(len(name) + len(value) + 4 for name, value in headers)
    if size > limits.head_bytes:
        return refusal(431)
    if len(headers) > limits.headers:
        return refusal(431, f"There are more than {limits.headers} headers.")
    if not scope["path"].startswith("/"):
        return refusal(400, "The request's target is not a path.")
    if ambiguity := _ambiguity_of(scope):
        return ambiguity
    return refusal(413) if (announced_bytes(headers) or 0) > limits.body_bytes else None


def announced_bytes(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Bytes of the body that a head announces; None if it comes in pieces until one is the last.

    >>> announced_bytes([(b"content-length", b"12")]), announced_bytes([])
    (12, 0)
    """
    size = 0
    for name, value in headers:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length" and value.isdigit():
            size = max(size, int(value))
    return size


def _ambiguity_of(scope: HTTPScope) -> Problem | None:
    names = [name.lower() for name, _ in scope["headers"]]
    if b"transfer-encoding" in names:
        if b"content-length" in names:
            return two_framings()
        if scope["http_version"] == "1.0":
            return refusal(400, "HTTP/1.0 has no Transfer-Encoding.")
    return None


def path_of(target: str) -> str:
    """The path in a request's target, which may be a whole URL (RFC 9112, section 3.2.2)."""
    for scheme in ("http://", "https://"):
        if target[: len(scheme)].lower() == scheme:
            _, slash, path = target[len(scheme) :].partition("/")
            return slash + path or "/"
    return target
