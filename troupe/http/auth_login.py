"""The routes that a browser walks through: choosing a provider, coming back from it, leaving.

What goes wrong on the way is told on a page with the way out, because a person stands there; a
client that asks for JSON gets the problem document instead. Nothing of an answer from a provider
is shown or logged beyond what our own errors say.
"""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from quart import Response

from troupe.actors.auth.errors import LoginDenied, LoginExpired, NotAMember
from troupe.actors.auth.login import Logins, ProviderAnswer, Whence
from troupe.actors.auth.return_address import origin_of, return_address
from troupe.actors.auth.sessions import is_csrf_token
from troupe.common.errors import (
    CallerError,
    DatabaseError,
    Forbidden,
    NotFound,
    PeerError,
    TroupeError,
)
from troupe.common.logs import get_logger
from troupe.common.units import MINUTES
from troupe.http.application import Application
from troupe.http.auth_models import CallbackQuery, HomeQuery, LoginQuery, LogoutForm
from troupe.http.credentials import CookiePolicy, Credentials, ResolvedPrincipal
from troupe.http.declaration import Answers, Media
from troupe.http.login_pages import PAGE, Action, LoginPages
from troupe.http.principal import CSRF_HEADER, Access
from troupe.http.problems import Problem, problem_of
from troupe.http.request import current_request
from troupe.http.routes import Api

_logger = get_logger(__name__)

_TITLES: Final[tuple[tuple[type[TroupeError], str], ...]] = (
    (LoginExpired, "Please sign in again"),
    (LoginDenied, "You are not signed in"),
    (NotAMember, "You have no access here"),
    (NotFound, "This sign-in link does not work"),
    (PeerError, "Your identity provider could not sign you in"),
    (DatabaseError, "Signing in is not possible at the moment"),
)
_LOGOUT_LIFETIME: Final = 10 * MINUTES
_FAILURES: Final[Answers] = dict.fromkeys((403, 404, 409, 502, 503, 504, 507), PAGE)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where browsers reach us.

    Attributes:
        public_url: This application.
        dashboard_url: The dashboard; where a login leads when nothing else is asked for.
    """

    public_url: str
    dashboard_url: str

    @property
    def callback(self) -> str:
        """Where providers send browsers back; to be registered with each of them."""
        return f"{self.public_url.rstrip('/')}/api/v1/callback"

    @property
    def home(self) -> str:
        """Where they may send a browser after a logout; to be registered likewise."""
        return f"{self.public_url.rstrip('/')}/"

    @property
    def origins(self) -> frozenset[str]:
        """That a login may lead to."""
        return frozenset({origin_of(self.public_url), origin_of(self.dashboard_url)})

    def after_login(self, wanted: str | None) -> str:
        """`wanted` if it is one of ours, else the dashboard."""
        return return_address(wanted, home=self.dashboard_url, origins=self.origins)


@dataclass(frozen=True, slots=True)
class Desk:
    """What the login routes work with."""

    logins: Logins
    credentials: Credentials
    cookies: CookiePolicy
    addresses: Addresses
    pages: LoginPages


def declare_login(app: Application, desk: Desk) -> None:
    """Declare the pages and the routes of logging in and out."""
    _declare_pages(app, desk)
    _declare_way_in(app.api, desk)
    _declare_way_out(app.api, desk)


def _declare_pages(app: Application, desk: Desk) -> None:
    addresses, pages = desk.addresses, desk.pages

    @app.api.get(
        "/",
        requires=Access.PUBLIC,
        query=HomeQuery,
        answers={200: PAGE, 404: PAGE, 409: PAGE},
        summary="The login page",
        tag="login",
    )
    async def login_page(*, query: HomeQuery) -> Response:
        """Also where a provider sends a browser after a logout, with the state that it was given.

        The session is over by then; a state of another logout only shows that somebody else made
        the browser come here.
        """
        returned = current_request().cookies.get(desk.cookies.logout, "")
        if query.state is not None and not hmac.compare_digest(
            query.state.encode(), returned.encode()
        ):
            return pages.message(
                "This address does not belong to a sign-out",
                "It was used before, is older than a few minutes, or is another browser's.",
                Action("To the start", "/"),
                status=409,
                request_id=current_request().request_id,
            )
        principal = await _signed_in(desk)
        if principal is not None:
            active = next(
                one.name for one in principal.memberships if one.tenant_id == principal.tenant_id
            )
            return pages.render(
                "signed_in.html",
                name=principal.name,
                email=principal.email,
                tenant=active,
                dashboard_url=addresses.after_login(query.next),
                csrf_token=principal.csrf_token,
            )
        choices = [
            {
                "tenant_name": choice.tenant_name,
                "label": choice.label,
                "url": _login_path(provider=choice.provider_id, next=query.next),
            }
            for choice in await desk.logins.choices(query.tenant)
        ]
        asked = query.tenant is not None
        status = 404 if asked and not choices else 200
        return pages.render("choose.html", status, choices=choices, asked=asked)

    @app.api.get(
        "/static/<name>",
        requires=Access.PUBLIC,
        answers={200: Media("*/*", "A file that the pages load.")},
        summary="Style and icon of the pages",
        tag="login",
    )
    async def static_file(*, name: str) -> Response:
        return pages.static_file(name)

    async def error_page(problem: Problem) -> Response | None:
        return pages.message(
            problem.kind.title,
            problem.detail,
            Action("To the start", "/"),
            status=problem.status,
            request_id=current_request().request_id,
        )

    app.error_page = error_page


def _declare_way_in(api: Api, desk: Desk) -> None:
    addresses, cookies = desk.addresses, desk.cookies

    @api.get(
        "/api/v1/login",
        requires=Access.PUBLIC,
        query=LoginQuery,
        answers={303: None, **_FAILURES},
        summary="Send the browser to an identity provider",
        tag="login",
    )
    async def login(*, query: LoginQuery) -> Response:
        """With several providers to choose from, the login page asks which."""

        async def begin() -> Response:
            provider = query.provider
            if provider is None:
                choices = await desk.logins.choices(query.tenant)
                if len(choices) != 1:
                    return _redirect(_home_path(tenant=query.tenant, next=query.next))
                provider = choices[0].provider_id
            begun = await desk.logins.begin(
                provider,
                next_url=addresses.after_login(query.next),
                binding=current_request().cookies.get(cookies.binding),
            )
            response = _redirect(begun.url)
            lifetime = desk.logins.settings.state_lifetime
            cookies.set(response, cookies.binding, begun.binding, lifetime)
            return response

        return await _or_page(desk, begin)

    @api.get(
        "/api/v1/callback",
        requires=Access.PUBLIC,
        query=CallbackQuery,
        answers={303: None, **_FAILURES},
        summary="Where an identity provider sends the browser back",
        tag="login",
    )
    async def callback(*, query: CallbackQuery) -> Response:
        async def finish() -> Response:
            request = current_request()
            replaced = request.cookies.get(cookies.session)
            finished = await desk.logins.finish(
                ProviderAnswer(
                    state=query.state, code=query.code, issuer=query.iss, error=query.error
                ),
                binding=request.cookies.get(cookies.binding),
                replaced_session=replaced,
                whence=Whence(request.headers.get("User-Agent", ""), request.client.address),
            )
            if replaced:
                desk.credentials.forget("session", replaced)
            response = _redirect(finished.next_url)
            lifetime = desk.logins.settings.session_absolute
            cookies.set(response, cookies.session, finished.session, lifetime)
            return response

        return await _or_page(desk, finish)


def _declare_way_out(api: Api, desk: Desk) -> None:
    cookies, pages = desk.cookies, desk.pages

    @api.post(
        "/api/v1/logout",
        requires=Access.PUBLIC,
        body=LogoutForm,
        form=True,
        answers={200: PAGE, **_FAILURES},
        summary="End the session",
        tag="login",
    )
    async def logout(*, body: LogoutForm) -> Response:
        """Answers with a page that leads on to the provider's own logout.

        Not with a redirect: browsers hold a form's whole chain of redirects against the content
        policy of the page that it was on, and that page does not know the providers.
        """

        async def end() -> Response:
            session = current_request().cookies.get(cookies.session)
            begun = None
            if session:
                _check_csrf(desk, body, session)
                begun = await desk.logins.end(session)
                desk.credentials.forget("session", session)
            url = None if begun is None else begun.url
            response = pages.render("signed_out.html", provider_url=url)
            cookies.clear(response, cookies.session)
            if begun is not None:
                cookies.set(response, cookies.logout, begun.state, _LOGOUT_LIFETIME)
            return response

        return await _or_page(desk, end)


async def _signed_in(desk: Desk) -> ResolvedPrincipal | None:
    session = current_request().cookies.get(desk.cookies.session)
    principal = await desk.credentials.resolve(None, session, None)
    return principal if isinstance(principal, ResolvedPrincipal) else None


def _check_csrf(desk: Desk, body: LogoutForm, session: str) -> None:
    """Refuse a logout that another site made the browser send.

    The dashboard's pages send no referrer, and browsers then write ``Origin: null``; the token is
    the proof, and a foreign origin only a reason to doubt it.
    """
    headers = current_request().headers
    given = body.csrf_token or headers.get(CSRF_HEADER, "")
    origin = headers.get("Origin", "null")
    if not is_csrf_token(given, session) or origin not in desk.addresses.origins | {"null"}:
        raise Forbidden("Sign out from within the page: this request came from elsewhere.")


async def _or_page(desk: Desk, step: Callable[[], Awaitable[Response]]) -> Response:
    """Take a step; a failure that a person can understand becomes a page."""
    try:
        return await step()
    except (CallerError, PeerError, DatabaseError) as error:
        accepted = current_request().accept_mimetypes
        if accepted.best_match(["text/html", "application/json"]) == "application/json":
            raise
        return _failure(desk, error)


def _failure(desk: Desk, error: TroupeError) -> Response:
    problem = problem_of(error)
    request = current_request()
    title = next((text for kind, text in _TITLES if isinstance(error, kind)), problem.kind.title)
    about = {"kind": type(error).__name__, "reason": str(error), "status": problem.status}
    if isinstance(error, PeerError | DatabaseError):
        _logger.warning("login_failed", **about)
    else:
        _logger.info("login_refused", **about)
    response = desk.pages.message(
        title,
        problem.detail,
        Action("Sign in again", "/"),
        status=problem.status,
        request_id=request.request_id,
    )
    response.headers.update(problem.headers)
    return response


def _redirect(url: str) -> Response:
    return Response(b"", 303, {"Location": url})


def _path(base: str, parameters: dict[str, UUID | str | None]) -> str:
    given = {name: str(value) for name, value in parameters.items() if value is not None}
    return f"{base}?{urlencode(given)}" if given else base


def _login_path(*, provider: UUID, next: str | None) -> str:  # noqa: A002  # the parameter's name
    return _path("/api/v1/login", {"provider": provider, "next": next})


def _home_path(*, tenant: UUID | None, next: str | None) -> str:  # noqa: A002  # likewise
    return _path("/", {"tenant": tenant, "next": next})
