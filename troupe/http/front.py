"""Kept answers, given before Hypercorn sees the request.

Problem. What dashboards ask is in memory, and an answer of three kilobytes costs 0.7 ms on its way
through Hypercorn, h11 and Quart: tasks, locks and scopes per request, all for a look into a
dictionary.

Choice. What a connection receives while nothing is under way on it, if it is a plain request
(`troupe.http.plain`), is shown to us first. If an answer to *the very same target* is kept, it is
written at once. Everything else, and whoever sends a header that is not on a short list, such as a
cookie, takes the usual way, which is the only one that decides anything:

* A shortcut exists only for a target (path and query as bytes, host as sent) that the usual way
  has just answered for this tenant; nothing is decoded here, so nothing can be decoded
  differently.
* Credentials are looked up in the same memory as there, for as long as they are remembered there;
  an unknown, expired or revoked token is not known here. Roles, scopes and rates are asked of the
  same guard. Whoever is refused anything is refused by the usual way.
* The tenant's standing is the same object with the same age. When it changes, by a load or a new
  day, the tag is made anew from the same question, by the same function as there.
* Headers, the line in the log and the observations are the same.

Rejected: answering before credentials are known; a cache in front of the port, which knows neither
tenants nor roles.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

from troupe.actors.analytics.answers import Reporting
from troupe.common.errors import InvalidInput, Unauthenticated
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger
from troupe.http.answering import Answering, Question
from troupe.http.application import Application, printable
from troupe.http.asked import Asked
from troupe.http.declaration import JSON_TYPE, Route
from troupe.http.direct import date_now
from troupe.http.plain import PlainRequest
from troupe.http.principal import Principal
from troupe.http.request import Client, current_request, request_id_of
from troupe.http.security import MAX_TOKEN_CHARACTERS, NOTHING_POLICY, bearer_of, fixed_headers

_logger = get_logger(__name__)
_level = logging.getLogger(__name__)  # asked before a line is put together that nobody will see

_Key = tuple[TenantId, bytes, bytes]
"""Tenant, host as sent, target."""

MAX_SHORTCUTS: Final = 8192
MAX_TARGET: Final = 2048

_HARMLESS: Final = frozenset(
    {
        b"accept", b"accept-encoding", b"accept-language", b"cache-control", b"dnt", b"pragma",
        b"priority", b"referer", b"sec-ch-ua", b"sec-ch-ua-mobile", b"sec-ch-ua-platform",
        b"sec-fetch-dest", b"sec-fetch-mode", b"sec-fetch-site", b"sec-fetch-user", b"user-agent",
    }
)  # fmt: skip
"""Headers that change nothing about an answer of these routes."""
_UNDERSTOOD: Final = _HARMLESS | {b"authorization", b"connection", b"host", b"x-request-id"}


def means_nothing_more(headers: Iterable[bytes]) -> bool:
    """Whether headers of these names, in small letters, leave an answer what it is kept as."""
    return _UNDERSTOOD.issuperset(headers)


class KnownCredentials(Protocol):
    """The part of `Credentials` that is asked here."""

    def recall_token(self, bearer: str) -> Principal | None:
        """Whom a token belongs to, if that is remembered and still good."""
        ...


@dataclass(frozen=True, slots=True)
class _Shortcut:
    """Where a target leads.

    Attributes:
        route: That answered it.
        path: As it was logged.
        question: Which it asks.
        tag: Of the answer.
        reporting: The tenant's standing that the tag was made from.
        until: When days begin to mean others.
    """

    route: Route
    path: str
    question: Question
    tag: str
    reporting: Reporting
    until: datetime


class KeptAnswers:
    """The `troupe.http.connection.Front` of the analytics port.

    Args:
        app: Whose guard, metrics and headers are used.
        answering: Whose answers are given.
        credentials: Where tokens are remembered.
    """

    def __init__(
        self,
        app: Application,
        answering: Answering,
        credentials: KnownCredentials,
    ) -> None:
        self._app = app
        self._answering = answering
        self._credentials = credentials
        self._shortcuts: OrderedDict[_Key, _Shortcut] = OrderedDict()
        fixed = {
            "content-type": JSON_TYPE,
            **fixed_headers(NOTHING_POLICY),
            "cache-control": "private, no-cache",
            "vary": "Origin",
        }
        named = {name.lower(): value for name, value in fixed.items()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        self._fixed = f"HTTP/1.1 200 \r\n{lines}"
        answering.offer = self.offer

    def offer(self, tenant: TenantId, question: Question, asked: Asked, tag: str) -> None:
        """Remember where the current request's target leads; called on the usual way."""
        request = current_request()
        route = self._app.route_of(request)
        target: bytes = request.scope["raw_path"]
        if request.scope["query_string"]:
            target += b"?" + request.scope["query_string"]
        hosts = [value for name, value in request.scope["headers"] if name == b"host"]
        if request.method != "GET" or route is None or len(hosts) != 1 or len(target) > MAX_TARGET:
            return
        key = tenant, hosts[0], target
        self._shortcuts[key] = _Shortcut(
            route, printable(request.path), question, tag, asked.reporting, asked.good_until
        )
        self._shortcuts.move_to_end(key)
        while len(self._shortcuts) > MAX_SHORTCUTS:
            self._shortcuts.popitem(last=False)

    def answer(self, request: PlainRequest, peer: str) -> bytes | None:
        """See `troupe.http.connection.Front.answer`."""
        began = time.perf_counter()
        target, headers = request
        if self._app.is_proxy(peer) or not means_nothing_more(headers):
            return None  # through a proxy, the usual way finds out who the client is
        principal = self._principal(headers.get(b"authorization"))
        if principal is None:
            return None
        tenant = principal.tenant_id
        shortcut = self._current((tenant, headers[b"host"], target))
        if shortcut is None:
            return None
        body = self._answering.cache.get(tenant, shortcut.tag)
        if body is None:
            return None
        route, client = shortcut.route, Client(peer, "http")
        guard = self._app.api.guard
        limits = guard.admit_known(principal, client, route.requires, route.scope)
        if limits is None:
            return None
        header = headers.get(b"x-request-id")
        request_id = request_id_of(None if header is None else header.decode("ascii"))
        seconds = time.perf_counter() - began
        self._app.metrics.count("GET", route.rule, 200, seconds)
        if _level.isEnabledFor(logging.INFO):
            _logger.info(
                "request_answered",
                method="GET",
                path=shortcut.path,
                route=route.rule,
                status=200,
                milliseconds=round(seconds * 1000, 2),
                client=peer,
                tenant_id=str(tenant),
                subject_id=str(principal.subject_id),
                request_id=request_id,
                group=self._app.group,
            )
        policy, left = limits
        return (
            f'{self._fixed}content-length: {len(body)}\r\netag: "{shortcut.tag}"\r\n'
            f"x-request-id: {request_id}\r\nratelimit-policy: {policy}\r\n"
            f"ratelimit: {left}\r\ndate: {date_now().decode()}\r\n\r\n"
        ).encode("ascii") + body

    def _principal(self, authorization: bytes | None) -> Principal | None:
        if authorization is None or len(authorization) > MAX_TOKEN_CHARACTERS:
            return None
        try:
            bearer = bearer_of(authorization.decode("ascii"))
        except Unauthenticated:
            return None
        return None if bearer is None else self._credentials.recall_token(bearer)

    def _current(self, key: _Key) -> _Shortcut | None:
        shortcut = self._shortcuts.get(key)
        reporting = self._answering.standing.recall(key[0])
        if shortcut is None or reporting is None:
            return None
        same = reporting is shortcut.reporting or reporting == shortcut.reporting
        if same and self._answering.clock() < shortcut.until:
            return shortcut
        inquiry, query = shortcut.question
        try:
            asked = Asked.of(reporting, query, self._answering.clock)
        except InvalidInput:  # the usual way says why
            return None
        shortcut = replace(
            shortcut,
            tag=inquiry.tag(asked, query),
            reporting=asked.reporting,
            until=asked.good_until,
        )
        self._shortcuts[key] = shortcut
        return shortcut
