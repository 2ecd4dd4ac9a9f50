r"""Plain requests: the one form of HTTP that is read here and not by h11.

``GET``, visible ASCII, one space after each colon, every name known to frame nothing and given
once, nothing behind the head. That is stricter than any parser of HTTP, and short enough to be seen
through; whatever differs in a single byte is left untouched to Hypercorn. A test feeds this and h11
with millions of mutations: what is read here, h11 reads, in the same way.

Rejected: a second HTTP parser in C (it accepts more than h11 does, which is the very danger).
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from hypercorn.typing import ConnectionState, HTTPScope

MAX_PLAIN: Final = 8192
"""Bytes of a request; reading what is longer would cost more than it may save."""

_PLAIN: Final = re.compile(
    rb"GET (/[!-~]*) HTTP/1\.1\r\n((?:[A-Za-z0-9-]+: [!-~](?:[ -~]*[!-~])?\r\n)+)\r\n"
)
_FRAMING: Final = frozenset(
    {
        b"content-length", b"expect", b"http2-settings", b"keep-alive", b"proxy-connection", b"te",
        b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
"""What says where a message ends, or what becomes of the connection (RFC 9110, section 7.6.1)."""
_ALIVE: Final = b"keep-alive"


class PlainRequest(NamedTuple):
    """One whole request.

    Attributes:
        target: Path and query, as sent.
        headers: In order; names in small letters.
    """

    target: bytes
    headers: Mapping[bytes, bytes]


def read_plain(raw: bytes) -> PlainRequest | None:
    r"""What was received, if it is one whole plain request to the byte.

    >>> read_plain(b"GET /a?b HTTP/1.1\r\nHost: c\r\n\r\n")
    PlainRequest(target=b'/a?b', headers={b'host': b'c'})
    >>> read_plain(b"GET /a?b HTTP/1.1\r\nHost: c\r\nContent-Length: 0\r\n\r\n")
    """
    match = _PLAIN.fullmatch(raw) if len(raw) <= MAX_PLAIN else None
    if match is None:
        return None
    lines = match[2].split(b"\r\n")
    headers: dict[bytes, bytes] = {}
    for line in lines[:-1]:
        name, _, value = line.partition(b": ")
        headers[name.lower()] = value
    if len(headers) != len(lines) - 1 or b"host" not in headers:
        return None
    if not _FRAMING.isdisjoint(headers) or headers.get(b"connection", _ALIVE).lower() != _ALIVE:
        return None
    return PlainRequest(match[1], headers)


def scope_of(
    request: PlainRequest, client: tuple[str, int] | None, server: tuple[str, int] | None
) -> HTTPScope:
    """What an ASGI application is told about it, as Hypercorn would; of the lifespan's state, none.

    Args:
        request: That was read.
        client: Address and port at the other end; None of a socket that has none.
        server: Of this end, likewise.
    """
    path, _, query = request.target.partition(b"?")
    extensions: dict[str, Any] = {}
    return {
        "type": "http",
        "http_version": "1.1",
        "asgi": {"spec_version": "2.1", "version": "3.0"},
        "method": "GET",
        "scheme": "http",
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": list(request.headers.items()),
        "client": client,
        "server": server,
        "state": ConnectionState({}),
        "extensions": extensions,
    }
