"""The request as our applications see it: Quart's, plus what the platform learned about it."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

import trio
from quart import request as _current
from quart_trio.wrappers import TrioRequest

from troupe.common.ids import new_id_text
from troupe.http.principal import Principal

DRAINING_EXTENSION: Final = "troupe.draining"
"""Key in an ASGI scope's extensions: a `trio.Event` that is set when streams should end."""

TAKEN_EXTENSION: Final = "troupe.taken"
"""Likewise: called with the number of a body's bytes that were passed on and are held no longer."""

ATTENDED_EXTENSION: Final = "troupe.attended"
"""Likewise: true of a request without a body that the server cancels when its client leaves."""

REQUEST_ID_HEADER: Final = "X-Request-Id"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._\-]{8,64}")

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Client:
    """Where a request came from, after the operator's own proxies are looked through.

    Attributes:
        address: An IP address, or ``<local>`` when there is no socket (the test client).
        scheme: ``http`` or ``https``, as the browser sees it.
    """

    address: str
    scheme: str

    @property
    def key(self) -> str:
        """What counts as one client: the address, or the /64 of an IPv6 address."""
        return _key_of(self.address)


@lru_cache(maxsize=4096)
def _key_of(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return text


class Request(TrioRequest):
    """Quart's request with an identity of its own; the fields are set before any handler runs."""

    request_id: str = ""
    client: Client = Client("<local>", "http")
    principal: Principal | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.after_answer: dict[str, str] = {}
        """Headers that the answer gets, whatever becomes of the request (rate limits)."""

    @property
    def draining(self) -> trio.Event:
        """Set once the server wants its answers to end; never, without our server."""
        extensions = cast("dict[str, object]", self.scope.get("extensions") or {})
        event = extensions.get(DRAINING_EXTENSION)
        return event if isinstance(event, trio.Event) else trio.Event()

    @property
    def route(self) -> str:
        """The template that matched (``/api/v1/jobs/<uuid:job_id>``), or ``unmatched``."""
        return self.url_rule.rule if self.url_rule is not None else "unmatched"


def current_request() -> Request:
    """The request that is being answered by this task."""
    return cast("Request", _current)


def request_id_of(header: str | None) -> str:
    """The caller's own id when it is harmless in a log line, else a fresh one."""
    if header is not None and _REQUEST_ID.fullmatch(header):
        return header
    return new_id_text()


def client_of(
    peer: str,
    scheme: str,
    forwarded_for: str | None,
    forwarded_proto: str | None,
    trusted: Sequence[IPNetwork],
) -> Client:
    """Look through the operator's proxies.

    The chain is read from the right, because only its right end was written by hosts that we
    trust: the first address that is not a trusted proxy is the client. A peer that is no proxy
    has its headers ignored.

    Args:
        peer: The address at the other end of the socket.
        scheme: Of the socket.
        forwarded_for: ``X-Forwarded-For``.
        forwarded_proto: ``X-Forwarded-Proto``.
        trusted: Networks of the operator's proxies.
    """
    if not is_within(peer, trusted):
        return Client(peer, scheme)
    if forwarded_proto in {"http", "https"}:
        scheme = forwarded_proto
    address = peer
    for hop in map(str.strip, reversed((forwarded_for or "").split(","))):
        try:
            ipaddress.ip_address(hop)
        except ValueError:
            break
        address = hop
        if not is_within(hop, trusted):
            break
    return Client(address, scheme)


def is_within(address: str, networks: Sequence[IPNetwork]) -> bool:
    """Whether an address lies in one of these networks; what is no address lies in none."""
    if not networks:
        return False
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)
