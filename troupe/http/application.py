"""One Quart application per group, with everything that is not the group's own business.

A request passes, in this order: an identity (request id, client address behind the operator's
proxies), the route's deadline, CORS preflight, the declared route (`troupe.http.routes`:
credentials, rates, validation), the handler. Whatever comes back, an answer or an exception of any
kind, leaves with the same headers, one structured log line and one observation in the metrics.

Quart's own way from a request to its view (hooks before and after, error handlers, blueprints) is
not used: what it offers is done here in one place, where its order can be read, and it is what
changed most between the two releases that we run on. Three more things differ on purpose:

* `_Connection` shields the last message of an answer. Hypercorn reacts to it by queueing
  ``http.disconnect``, quart-trio (0.12 and 0.13) reacts to that by cancelling the very task that is
  still inside Hypercorn, and the idle timer and the closing of the socket never happen: a leaked
  connection per request. The shield is bounded by the stall deadline of `troupe.http.connection`.
* It also ends a body that is too large as soon as it is. Quart 0.23 collects a chunked body to its
  end before it looks at the limit. And a body that a route takes as a file is taken no faster than
  it is read (`troupe.http.uploads`).
* Rules are only accepted from `Api`. ``@app.get`` of Quart would make a route that nobody guards
  and no document mentions.
"""

import ipaddress
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import version as version_of
from typing import Any, Final, cast
from urllib.parse import quote

import trio
from hypercorn.typing import (
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
)
from quart import Response
from quart.utils import encode_headers
from quart.wrappers import Request as QuartRequest
from quart.wrappers.response import DataBody
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import IntegerConverter
from werkzeug.routing import ValidationError as RoutingValidationError
from werkzeug.wrappers import Response as WerkzeugResponse

from troupe.common.errors import DeadlineExceeded
from troupe.common.logs import get_logger, log_context
from troupe.common.units import SECONDS, MiB
from troupe.http.connection import Front
from troupe.http.declaration import REQUEST_DEADLINE, Route, Upload
from troupe.http.event_stream import StreamSlots
from troupe.http.exact_json import ExactJSONProvider
from troupe.http.idempotency import IdempotencyStore
from troupe.http.operations import (
    Gauge,
    HttpMetrics,
    Others,
    Readiness,
    declare_operations,
    nobody_else,
)
from troupe.http.principal import SESSION_COOKIE, CredentialResolver
from troupe.http.problems import MEDIA_TYPE as PROBLEM_TYPE
from troupe.http.problems import Problem, leading_error, problem_of
from troupe.http.request import (
    ATTENDED_EXTENSION,
    REQUEST_ID_HEADER,
    TAKEN_EXTENSION,
    Request,
    client_of,
    is_within,
    request_id_of,
)
from troupe.http.routes import Api
from troupe.http.security import (
    NOTHING_POLICY,
    Cors,
    Guard,
    Rate,
    apply_security_headers,
    page_policy,
)
from troupe.http.uploads import StreamedBody

_logger = get_logger(__name__)

CLIENT_GONE: Final = 499
"""What logs and metrics call a request whose client left; nothing was sent."""

MAX_LOGGED_PATH: Final = 200
PRINCIPAL_RATE: Final = Rate(requests=60_000, burst=5_000)
TENANT_RATE: Final = Rate(requests=240_000, burst=20_000)
ADDRESS_RATE: Final = Rate(requests=1200, burst=300)
OWN_PAGE_POLICY: Final = page_policy()

View = Callable[..., Awaitable[Response]]
ErrorPage = Callable[[Problem], Awaitable[Response | None]]
AnyResponse = Response | WerkzeugResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """What an operator may say about one port.

    Attributes:
        public_origins: Where browsers reach this port; empty: whatever host they ask for.
        cors_origins: Other origins that may read answers and, with a session, change things.
        trusted_proxies: Networks (CIDR) whose ``X-Forwarded-…`` headers are believed.
        body_limit: Bytes of a request's body; more is answered 413.
        body_deadline: Seconds for the body to arrive; then 408.
        principal_rate: Requests of one authenticated subject.
        tenant_rate: Requests of all subjects of one tenant.
        address_rate: Requests of one address to public routes, and its failed authentications.
        page_policy: Content policy of ``text/html`` answers.
        session_cookie: Name of the cookie that carries a session; the same on all three ports.
    """

    public_origins: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    body_limit: int = 1 * MiB
    body_deadline: float = 60 * SECONDS
    principal_rate: Rate = PRINCIPAL_RATE
    tenant_rate: Rate = TENANT_RATE
    address_rate: Rate = ADDRESS_RATE
    page_policy: str = OWN_PAGE_POLICY
    session_cookie: str = SESSION_COOKIE


class _StorableInteger(IntegerConverter):
    """``<int:…>`` in a rule: only what PostgreSQL's bigint takes, else the route does not match."""

    regex = r"[0-9]{1,19}"

    def to_python(self, value: str) -> int:
        number = int(super().to_python(value))
        if number >= 2**63:
            raise RoutingValidationError
        return number


class _Connection(TrioASGIHTTPConnection):
    """quart-trio's connection without its leak; see the module's text."""

    app: "Application"
    _streamed: StreamedBody | None = None

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        upload = self.app.upload_at(self.scope["method"], self.scope["path"])
        limit = self.app.config["MAX_CONTENT_LENGTH"] if upload is None else upload.most
        extensions = cast("dict[str, Any]", self.scope.get("extensions") or {})
        taken = extensions.get(TAKEN_EXTENSION, _nothing_held)
        self._streamed = None if upload is None else StreamedBody(taken)
        if ATTENDED_EXTENSION in extensions:
            await self._answer_alone(send)
            return
        received = 0

        async def receive_bounded() -> ASGIReceiveEvent:
            nonlocal received
            while True:
                if self._streamed is not None:
                    await self._streamed.room()
                message = await receive()
                if message["type"] != "http.request":
                    return message
                was_over = received > limit
                received += len(message["body"])
                if received <= limit:
                    return message
                if not was_over:
                    # What has arrived exceeds the limit, so that whoever reads it is refused.
                    return {**message, "more_body": False}

        async def send_shielded(message: ASGISendEvent) -> None:
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            with trio.CancelScope(shield=last):
                await send(message)

        await super().__call__(receive_bounded, send_shielded)

    async def _answer_alone(self, send: ASGISendCallable) -> None:
        """Without tasks of its own: there is no body to wait for, and who leaves is noticed."""
        request = self._create_request_from_scope(send)
        request.body.set_complete()
        response = await self.app.handle_request(request)
        patience = self.app.config["RESPONSE_TIMEOUT"]
        if isinstance(response, Response) and response.timeout != Ellipsis:
            patience = response.timeout
        with trio.move_on_after(math.inf if patience is None else patience):
            await self._send_at_once(send, response)

    async def _send_at_once(self, send: ASGISendCallable, response: AnyResponse) -> None:
        """As Quart's, but a body that is there goes in one piece."""
        body = response.response
        if not isinstance(body, DataBody):
            await self._send_response(send, response)
            return
        begin: Any = {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": encode_headers(response.headers),
        }
        data = body.data[body.begin : body.end]
        await send(begin)
        await send({"type": "http.response.body", "body": data, "more_body": False})

    def _create_request_from_scope(self, send: ASGISendCallable) -> QuartRequest:
        request = super()._create_request_from_scope(send)
        if self._streamed is not None:
            cast("Any", request).body = self._streamed
        return request


class Application(QuartTrio):
    """The HTTP face of one group; made by `create_app`."""

    asgi_http_class = _Connection
    request_class = Request
    json_provider_class = ExactJSONProvider

    api: Api
    front: Front | None = None
    """Answers some requests before they reach the application; for `troupe.http.server.serve`."""
    error_page: ErrorPage | None = None
    """Renders a problem for people who asked for ``text/html``; None answers JSON to them too."""

    def __init__(self, group: str, settings: HttpSettings, metrics: HttpMetrics) -> None:
        self._routes: dict[str, Route] = {}
        self._uploads: dict[tuple[str, str], Upload] = {}
        self._declaring = False
        super().__init__("troupe", static_folder=None)
        self.group = group
        self.settings = settings
        self.metrics = metrics
        self.stream_slots = StreamSlots()
        self.cors = Cors(frozenset(settings.cors_origins))
        self._proxies = [ipaddress.ip_network(network) for network in settings.trusted_proxies]
        self.config["MAX_CONTENT_LENGTH"] = settings.body_limit
        self.config["BODY_TIMEOUT"] = settings.body_deadline
        self.config["PROVIDE_AUTOMATIC_OPTIONS"] = True
        self.url_map.merge_slashes = False
        self.url_map.converters["int"] = _StorableInteger

    def declare(self, route: Route, view: View) -> None:
        """Take a route from `Api`."""
        self._declaring = True
        try:
            self.add_url_rule(
                route.rule,
                route.endpoint,
                view,
                methods=[route.method],
                strict_slashes=False,
            )
        finally:
            self._declaring = False
        self._routes[route.endpoint] = route
        if route.upload is not None:
            self._uploads[(route.method, route.rule)] = route.upload

    def add_url_rule(self, rule: str, *args: Any, **kwargs: Any) -> None:
        """Refuses rules that were not declared through `Api`.

        Raises:
            RuntimeError: The rule did not come from `declare`.
        """
        if not self._declaring:
            raise RuntimeError(f"{rule}: declare it with app.api, which guards and documents it")
        super().add_url_rule(rule, *args, **kwargs)

    def upload_at(self, method: str, path: str) -> Upload | None:
        """What a request's body is when it is a file."""
        return self._uploads.get((method, path))

    async def handle_request(self, request: QuartRequest) -> AnyResponse:
        """Answer one request, completely: identity, headers, log line, metrics."""
        ours = cast("Request", request)
        ours.request_id = request_id_of(request.headers.get(REQUEST_ID_HEADER))
        ours.client = client_of(
            request.headers.get("Remote-Addr", ""),
            request.scheme,
            request.headers.get("X-Forwarded-For"),
            request.headers.get("X-Forwarded-Proto"),
            self._proxies,
        )
        began = time.perf_counter()
        status = CLIENT_GONE
        self.metrics.begin()
        with log_context(request_id=ours.request_id, group=self.group):
            try:
                response = await self._answer_in_context(ours)
                self._complete(ours, response)
                status = response.status_code
                return response
            finally:
                self._record(ours, status, time.perf_counter() - began)

    def is_proxy(self, address: str) -> bool:
        """Whether an address is one of the operator's proxies."""
        return is_within(address, self._proxies)

    async def _answer_in_context(self, request: Request) -> AnyResponse:
        async with AsyncExitStack() as stack:
            try:
                context = cast("AbstractAsyncContextManager[object]", self.request_context(request))
                await stack.enter_async_context(context)
            except HTTPException as error:  # a Host header that is no name
                return await self._answer_error(error, request)
            return await self._answer(request)

    def _complete(self, request: Request, response: AnyResponse) -> None:
        headers = response.headers
        headers[REQUEST_ID_HEADER] = request.request_id
        for name, value in request.after_answer.items():
            headers.setdefault(name, value)
        is_page = (headers.get("Content-Type") or "").startswith("text/html")
        apply_security_headers(
            headers,
            policy=self.settings.page_policy if is_page else NOTHING_POLICY,
            secure=request.client.scheme == "https",
        )
        self.cors.apply(request, headers, preflight=self.cors.is_preflight(request))

    def _record(self, request: Request, status: int, seconds: float) -> None:
        self.metrics.end(request.method, request.route, status, seconds)
        who = request.principal
        route = self.route_of(request)
        told: dict[str, object] = {
            "method": request.method,
            "path": printable(request.path),
            "route": request.route,
            "status": status,
            "milliseconds": round(seconds * 1000, 2),
            "client": request.client.address,
        }
        if who is not None:
            told |= {"tenant_id": str(who.tenant_id), "subject_id": str(who.subject_id)}
        if route is None or route.counted:
            _logger.info("request_answered", **told)
        else:
            _logger.debug("request_answered", **told)

    @property
    def largest_body(self) -> int:
        """Bytes that the most generous route takes."""
        most = [upload.most for upload in self._uploads.values()]
        return max([self.settings.body_limit, *most])

    def route_of(self, request: Request) -> Route | None:
        """The declared route that a request matched."""
        return self._routes.get(request.url_rule.endpoint) if request.url_rule else None

    async def _answer(self, request: Request) -> AnyResponse:
        """Whatever happens, an answer; only a cancellation from outside passes."""
        route = self.route_of(request)
        deadline = route.deadline if route is not None else REQUEST_DEADLINE
        try:
            with trio.move_on_after(math.inf if deadline is None else deadline):
                return await self._dispatch(request)
            late = DeadlineExceeded(f"The answer was not ready within {deadline:g} seconds.")
            return await self._answer_error(late, request)
        except BaseExceptionGroup as group:
            cancelled, errors = group.split(trio.Cancelled)
            if cancelled is None:
                return await self._answer_error(group, request)
            if errors is not None:
                await self._answer_error(errors, request)  # only for its line in the log
            raise cancelled from None
        except Exception as error:  # noqa: BLE001  # becoming an answer is what it is caught for
            return await self._answer_error(error, request)

    async def _dispatch(self, request: Request) -> AnyResponse:
        if self.cors.is_preflight(request):
            return Response(b"", 204)
        rule = request.url_rule
        if rule is None:
            raise request.routing_exception or NotFound()
        if request.method == "OPTIONS":
            return Response(b"", 204, {"Allow": ", ".join(sorted(rule.methods or ()))})
        view = cast("View", self.view_functions[rule.endpoint])
        return await view(**(request.view_args or {}))

    async def _answer_error(self, error: BaseException, request: Request) -> AnyResponse:
        cause = leading_error(error)
        problem = problem_of(cause)
        if problem.unexpected:
            _logger.error(
                "request_failed", method=request.method, route=request.route, exc_info=cause
            )
        elif problem.status >= 500:
            _logger.warning(
                "request_refused", route=request.route, status=problem.status, reason=str(cause)
            )
        page = await self._page_for(problem, request)
        if page is not None:
            return page
        headers = Headers(problem.headers)
        return Response(
            problem.body(request.request_id), problem.status, headers, content_type=PROBLEM_TYPE
        )

    async def _page_for(self, problem: Problem, request: Request) -> Response | None:
        if self.error_page is None or not _wants_page(request):
            return None
        try:
            return await self.error_page(problem)
        except Exception:
            _logger.exception("error_page_failed", problem=problem.kind.slug)
            return None


def printable(path: str) -> str:
    """A path that cannot forge a line of the log."""
    short = path[:MAX_LOGGED_PATH]
    return short if short.isprintable() else quote(short, errors="replace")


def _wants_page(request: Request) -> bool:
    if request.path.startswith("/api/"):
        return False
    if "HX-Request" in request.headers:
        return True  # htmx puts whatever is answered into the page, and says that it takes anything
    accepted = request.accept_mimetypes.best_match(["application/json", "text/html"])
    return accepted == "text/html"


def _nothing_held(_size: int) -> None:
    """Without our server nobody counts what is held."""


def _ready() -> Readiness:
    return Readiness(ready=True)


def _no_gauges() -> Iterable[Gauge]:
    return ()


def create_app(
    group: str,
    *,
    resolver: CredentialResolver | None,
    settings: HttpSettings | None = None,
    readiness: Callable[[], Readiness] = _ready,
    gauges: Callable[[], Iterable[Gauge]] = _no_gauges,
    idempotency: IdempotencyStore | None = None,
    description: str = "",
    replica: str = "",
    others: Others = nobody_else,
) -> Application:
    """An application with its operational routes; the group adds its own through ``app.api``.

    Args:
        group: ``auth``, ``data`` or ``analytics``.
        resolver: Turns credentials into principals; None when every route is public.
        settings: What the operator says about the port.
        readiness: The group's view of itself, for ``/health/ready``; must not wait.
        gauges: The group's own numbers, for ``/metrics``; must not wait.
        idempotency: Keeps answers of POSTs with an ``Idempotency-Key``.
        description: Of the group, for its document.
        replica: Name of this one among the instances of the group; empty: there are no others.
        others: Asks the others for their figures, for ``/metrics``.
    """
    settings = settings or HttpSettings()
    metrics = HttpMetrics(group, gauges, replica=replica, others=others)
    app = Application(group, settings, metrics)
    guard = Guard(
        resolver,
        own_origins=frozenset(settings.public_origins),
        cors=app.cors,
        principal_rate=settings.principal_rate,
        tenant_rate=settings.tenant_rate,
        address_rate=settings.address_rate,
        session_cookie=settings.session_cookie,
    )
    app.api = Api(group, guard, app.declare, idempotency)
    declare_operations(
        app.api,
        metrics=metrics,
        readiness=readiness,
        title=f"Troupe {group}",
        version=version_of("troupe"),
        description=description,
    )
    return app
