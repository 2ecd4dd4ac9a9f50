"""One declaration per route, from which everything else follows.

What a route takes, answers and requires is said once, at the function::

    @app.api.get("/api/v1/stats", requires=Role.VIEWER, query=StatsQuery, answers={200: Stats},
                 summary="Key figures of a range")
    async def stats(*, principal: Principal, query: StatsQuery) -> Stats: ...

The same declaration checks credentials, reads and validates the input, refuses what is not declared
(unknown query parameters, undeclared statuses) and is written into ``/openapi.json``. So the
document cannot say something else than the program does, and a test that walks the document walks
every route: the application refuses rules that were not declared here.

Rejected: checking with decorators stacked on Quart's own ``route`` (one can be forgotten, and the
forgotten one is the leak) and generating the document from type hints alone (they know neither
roles nor the errors).

A handler is called with keyword arguments: the variables of the path, and whichever of `principal`,
`query`, `body` its signature names. It returns a model, an `Answer` with status, headers and entity
tag, or a ready `Response` for anything that is not JSON.
"""

import hashlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar, Unpack, cast

import trio
from quart import Response

from troupe.common.database import CommitUnknown
from troupe.common.errors import DatabaseError, InvalidInput
from troupe.common.logs import get_logger
from troupe.common.units import SECONDS
from troupe.http.declaration import (
    JSON_TYPE,
    REQUEST_DEADLINE,
    Declaration,
    Handler,
    Method,
    Route,
    variables_of,
)
from troupe.http.exchange import check_path, read_body, read_query, respond
from troupe.http.idempotency import (
    KEY_HEADER,
    MAX_KEY_CHARACTERS,
    REPLAY_HEADER,
    Claim,
    IdempotencyStore,
    is_worth_keeping,
)
from troupe.http.principal import Principal
from troupe.http.problems import MEDIA_TYPE as PROBLEM_TYPE
from troupe.http.problems import problem_of
from troupe.http.request import current_request
from troupe.http.security import SAFE_METHODS, Guard
from troupe.http.uploads import Reception

SHIELDED_DEADLINE: Final = 3 * SECONDS

HandlerT = TypeVar("HandlerT", bound=Handler)
_logger = get_logger(__name__)


class Register(Protocol):
    """How a declared route reaches the application."""

    def __call__(
        self, route: Route, view: Callable[..., Awaitable[Response]]
    ) -> None:  # pragma: no cover
        """Add the rule."""
        ...


class Api:
    """The routes of one application.

    Args:
        group: Its name; the default scopes and the tag derive from it.
        guard: Decides about credentials and rates.
        register: Adds a rule to the application.
        idempotency: Where answers to keyed POSTs are kept; without it no route may declare
            ``creates``.
    """

    def __init__(
        self,
        group: str,
        guard: Guard,
        register: Register,
        idempotency: IdempotencyStore | None = None,
    ) -> None:
        self.group = group
        self.routes: list[Route] = []
        self._guard = guard
        self._register = register
        self._idempotency = idempotency
        self._reception = Reception()

    @property
    def guard(self) -> Guard:
        """What decides about credentials and rates."""
        return self._guard

    @property
    def session_cookie(self) -> str:
        """Name of the cookie that carries a session."""
        return self._guard.session_cookie

    def get(self, rule: str, **declaration: Unpack[Declaration]) -> Callable[[HandlerT], HandlerT]:
        """Declare a GET; see `route`."""
        return self.route("GET", rule, **declaration)

    def post(self, rule: str, **declaration: Unpack[Declaration]) -> Callable[[HandlerT], HandlerT]:
        """Declare a POST; see `route`."""
        return self.route("POST", rule, **declaration)

    def put(self, rule: str, **declaration: Unpack[Declaration]) -> Callable[[HandlerT], HandlerT]:
        """Declare a PUT; see `route`."""
        return self.route("PUT", rule, **declaration)

    def patch(
        self, rule: str, **declaration: Unpack[Declaration]
    ) -> Callable[[HandlerT], HandlerT]:
        """Declare a PATCH; see `route`."""
        return self.route("PATCH", rule, **declaration)

    def delete(
        self, rule: str, **declaration: Unpack[Declaration]
    ) -> Callable[[HandlerT], HandlerT]:
        """Declare a DELETE; see `route`."""
        return self.route("DELETE", rule, **declaration)

    def route(
        self, method: Method, rule: str, **declaration: Unpack[Declaration]
    ) -> Callable[[HandlerT], HandlerT]:
        """Declare a route.

        Args:
            method: The one method; HEAD comes with GET, OPTIONS by itself.
            rule: In Werkzeug's notation: ``/api/v1/jobs/<uuid:job_id>``.
            **declaration: See `Declaration`.

        Raises:
            ValueError: The declaration contradicts itself or the handler's signature.
        """

        def declare(handler: HandlerT) -> HandlerT:
            kind = "read" if method in SAFE_METHODS else "write"
            route = Route(
                method=method,
                rule=rule,
                endpoint=declaration.get("endpoint") or handler.__name__,
                handler=handler,
                summary=declaration["summary"],
                description=inspect.getdoc(handler) or "",
                requires=declaration["requires"],
                scope=declaration.get("scope") or f"{self.group}:{kind}",
                query=declaration.get("query"),
                body=declaration.get("body"),
                form=declaration.get("form", False),
                upload=declaration.get("upload"),
                answers=declaration["answers"],
                problems=frozenset(declaration.get("problems", ())),
                variables=variables_of(rule),
                tag=declaration.get("tag") or self.group,
                creates=declaration.get("creates", False),
                etag=declaration.get("etag", False),
                if_match=declaration.get("if_match", False),
                deadline=declaration.get("deadline", REQUEST_DEADLINE),
                counted=declaration.get("counted", True),
            )
            self._check(route)
            self.routes.append(route)
            self._register(route, self._view(route))
            return handler

        return declare

    def _check(self, route: Route) -> None:
        where = f"{route.method} {route.rule}"
        path = {variable.name for variable in route.variables}
        named = set(inspect.signature(route.handler).parameters)
        inputs = {"query": route.query, "body": route.body, "upload": route.upload}
        available = path | {name for name, model in inputs.items() if model is not None}
        missing = available - named
        if missing:
            raise ValueError(f"{where}: the handler ignores {', '.join(sorted(missing))}")
        if not route.is_public:
            available.add("principal")
        if named - available:
            raise ValueError(f"{where}: nothing gives {', '.join(sorted(named - available))}")
        if not route.is_public and not self._guard.can_authenticate:
            raise ValueError(f"{where}: requires credentials, but there is no resolver")
        if route.creates and (self._idempotency is None or route.is_public):
            raise ValueError(f"{where}: `creates` needs an idempotency store and a principal")
        if (route.body or route.upload) is not None and route.method in SAFE_METHODS:
            raise ValueError(f"{where}: a {route.method} has no body")
        if route.upload is not None and (route.body is not None or path):
            raise ValueError(f"{where}: an upload is the whole body, and its path is fixed")
        if not any(status < 400 for status in route.answers):
            raise ValueError(f"{where}: declares no success")

    def _view(self, route: Route) -> Callable[..., Awaitable[Response]]:
        wants_principal = "principal" in inspect.signature(route.handler).parameters

        async def view(**path: Any) -> Response:
            request = current_request()
            arguments: dict[str, Any] = dict(path)
            principal = None
            if route.is_public:
                if route.counted:
                    self._guard.admit_anyone(request)
            else:
                principal = await self._guard.admit(request, route.requires, route.scope)
                if wants_principal:
                    arguments["principal"] = principal
            check_path(path)
            query = read_query(request, route.query)
            if query is not None:
                arguments["query"] = query
            raw = b""
            if route.body is not None:
                raw = cast("bytes", await request.get_data())
                arguments["body"] = read_body(request, raw, route.body, form=route.form)
            if route.upload is None:
                return await self._run(route, principal, raw, arguments)
            async with self._reception.receive(request, route.upload) as upload:
                arguments["upload"] = upload
                return await self._run(route, principal, upload.sha256, arguments)

        return view

    async def _run(
        self, route: Route, principal: Principal | None, raw: bytes, arguments: dict[str, Any]
    ) -> Response:
        key = current_request().headers.get(KEY_HEADER) if route.creates else None
        if key is not None and principal is not None:
            return await self._once(route, principal, key, raw, arguments)
        return respond(route, await route.handler(**arguments))

    async def _once(
        self, route: Route, principal: Principal, key: str, raw: bytes, arguments: dict[str, Any]
    ) -> Response:
        if not (0 < len(key) <= MAX_KEY_CHARACTERS and key.isascii() and key.isprintable()):
            raise InvalidInput(
                "The idempotency key is not valid.",
                [(f"header:{KEY_HEADER}", f"1 to {MAX_KEY_CHARACTERS} printable characters")],
            )
        store = self._idempotency
        assert store is not None  # noqa: S101  # `_check` refuses such a declaration
        request = current_request()
        digest = hashlib.sha256(
            b"\0".join((request.method.encode(), request.full_path.encode(), raw))
        ).digest()
        claim = await store.begin(principal.tenant_id, key, route.rule, digest)
        if not isinstance(claim, Claim):
            media = JSON_TYPE if claim.status < 400 else PROBLEM_TYPE
            headers = {REPLAY_HEADER: "true"}
            return Response(claim.body, claim.status, headers, content_type=media)
        return await self._run_claimed(route, store, claim, arguments)

    async def _run_claimed(
        self, route: Route, store: IdempotencyStore, claim: Claim, arguments: dict[str, Any]
    ) -> Response:
        ended = False
        try:
            try:
                response = respond(route, await route.handler(**arguments))
            except Exception as error:
                # A refusal is an answer too; what is not worth keeping gives the claim back.
                problem = problem_of(error)
                body = problem.body(current_request().request_id)
                if isinstance(error, CommitUnknown):
                    ended = True  # the claim outlives us, so that nothing is done twice at once
                elif is_worth_keeping(problem.status, body):
                    ended = True
                    await self._keep(store, claim, problem.status, body)
                raise
            raw = await response.get_data(as_text=False)
            if is_worth_keeping(response.status_code, raw):
                ended = True
                await self._keep(store, claim, response.status_code, raw)
            return response
        finally:
            if not ended:
                with trio.move_on_after(SHIELDED_DEADLINE, shield=True):
                    await store.abandon(claim)

    async def _keep(self, store: IdempotencyStore, claim: Claim, status: int, body: bytes) -> None:
        try:
            with trio.move_on_after(SHIELDED_DEADLINE, shield=True):
                await store.complete(claim, status, body)
        except DatabaseError:
            # The work is done, so the answer stands. The claim stays too: a repetition hears
            # "still running" for a while, which is safer than doing the work again at once.
            _logger.warning("idempotency_answer_not_kept", route=claim.route, status=status)
