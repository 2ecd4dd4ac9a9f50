"""What the provider does: logging people in and out, and telling applications who they are.

Two cookies, both only for this provider: ``devidp_browser`` ties a login page to the browser that
it was shown in, so that no other site can submit it (neither to guess a password nor to log the
visitor in as somebody else), and ``devidp_login`` remembers who is logged in. Cookies are shared
between the ports of a host, hence the prefix.
"""

import hmac
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from quart import Response, jsonify, redirect, render_template, request
from werkzeug.datastructures import MultiDict

from troupe.common.logs import get_logger
from troupe_demo.oidc import authorization
from troupe_demo.oidc.memory import Grant, Interaction, Login, Memory, Request
from troupe_demo.oidc.settings import SettingsFile
from troupe_demo.oidc.token_endpoint import TokenEndpoint, TokenError
from troupe_demo.oidc.tokens import ALGORITHM, Signer

BROWSER_COOKIE: Final = "devidp_browser"
LOGIN_COOKIE: Final = "devidp_login"
MAX_FAILURES: Final = 10

_logger = get_logger(__name__)


class BadLink(Exception):
    """A link that brought a person here is wrong; shown as a page, nobody is sent anywhere."""


def _lists(parameters: MultiDict[str, str]) -> Mapping[str, Sequence[str]]:
    return dict(parameters.lists())


async def _parameters() -> MultiDict[str, str]:
    """Of the query for a GET, of the form for a POST."""
    return request.args if request.method in {"GET", "HEAD"} else await request.form


def _set_cookie(response: Response, name: str, value: str) -> None:
    response.set_cookie(name, value, path="/", httponly=True, samesite="Lax")


async def page(title: str, message: str, status: int) -> Response:
    """A page that says one thing."""
    html = await render_template("page.html", title=title, message=message)
    return Response(html, status, content_type="text/html; charset=utf-8")


def _redirect(url: str) -> Response:
    return cast("Response", redirect(url, 303))


class Provider:
    """Everything behind the routes.

    Args:
        settings: The configuration file.
        issuer: URL of this provider, without a trailing slash.
    """

    def __init__(self, settings: SettingsFile, issuer: str) -> None:
        self.settings = settings
        self.issuer = issuer
        self.memory = Memory()
        self.signer = Signer(issuer)
        self.tokens = TokenEndpoint(self.memory, self.signer)

    async def metadata(self) -> Response:
        """The discovery document."""
        return jsonify(self._metadata())

    async def key_set(self) -> Response:
        """The public keys."""
        return jsonify(self.signer.key_set())

    def _metadata(self) -> dict[str, object]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "end_session_endpoint": f"{self.issuer}/end-session",
            "jwks_uri": f"{self.issuer}/jwks",
            "scopes_supported": list(authorization.SCOPES),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "token_endpoint_auth_methods_supported": [
                "client_secret_basic",
                "client_secret_post",
                "none",
            ],
            "code_challenge_methods_supported": ["S256"],
            "claims_supported": ["sub", "name", "preferred_username", "email", "email_verified"],
            "authorization_response_iss_parameter_supported": True,
        }

    # --- logging in ---------------------------------------------------------------------------

    async def authorize(self) -> Response:
        """Check the request; then a code for who is logged in already, or the login page."""
        settings = await self.settings.read()
        try:
            wanted, prompt = authorization.check(_lists(await _parameters()), settings)
        except authorization.Untrusted as error:
            raise BadLink(str(error)) from error
        except authorization.Refused as error:
            return self._return_error(error.redirect_uri, error.state, error.error, str(error))
        login = self.memory.logins.get(request.cookies.get(LOGIN_COOKIE))
        if login is not None and settings.user(login.sub) and prompt in {"", "none", "consent"}:
            return self._return_code(wanted, login)
        if prompt == "none":
            return self._return_error(
                wanted.redirect_uri, wanted.state, "login_required", "nobody is logged in"
            )
        browser = request.cookies.get(BROWSER_COOKIE) or secrets.token_urlsafe(32)
        key = self.memory.interactions.put(Interaction(wanted, browser))
        response = await self._login_page(key, wanted)
        _set_cookie(response, BROWSER_COOKIE, browser)
        return response

    async def log_in(self) -> Response:
        """The login page comes back."""
        form = await request.form
        key = form.get("interaction")
        interaction = self.memory.interactions.get(key)
        browser = request.cookies.get(BROWSER_COOKIE, "")
        if interaction is None or not hmac.compare_digest(
            browser.encode(), interaction.browser.encode()
        ):
            raise BadLink("This page has expired. Go back to the application and sign in again.")
        wanted = interaction.request
        if form.get("action") == "cancel":
            self.memory.interactions.drop(key)
            return self._return_error(
                wanted.redirect_uri, wanted.state, "access_denied", "the person cancelled"
            )
        settings = await self.settings.read()
        username = form.get("username", "")
        user = settings.log_in(username, form.get("password", ""))
        if user is None:
            return await self._failed(key or "", interaction, username)
        self.memory.interactions.drop(key)
        self.memory.logins.drop(request.cookies.get(LOGIN_COOKIE))
        login = Login(user.sub, secrets.token_urlsafe(16), int(time.time()))
        _logger.info("person_logged_in", sub=user.sub, client_id=wanted.client_id)
        response = self._return_code(wanted, login)
        _set_cookie(response, LOGIN_COOKIE, self.memory.logins.put(login))
        return response

    async def _failed(self, key: str, interaction: Interaction, username: str) -> Response:
        interaction.failures += 1
        _logger.info("login_failed", failures=interaction.failures)
        if interaction.failures >= MAX_FAILURES:
            self.memory.interactions.drop(key)
            return await page(
                "Too many attempts", "Go back to the application and sign in again.", 429
            )
        return await self._login_page(
            key,
            interaction.request,
            problem="The user name or the password is wrong.",
            username=username,
            status=400,
        )

    async def _login_page(
        self,
        key: str,
        wanted: Request,
        *,
        problem: str = "",
        username: str = "",
        status: int = 200,
    ) -> Response:
        html = await render_template(
            "login.html",
            title="Sign in",
            client_id=wanted.client_id,
            interaction=key,
            problem=problem,
            username=username,
        )
        return Response(html, status, content_type="text/html; charset=utf-8")

    def _return_code(self, wanted: Request, login: Login) -> Response:
        code = self.memory.codes.put(Grant(wanted, login))
        return self._return(wanted.redirect_uri, {"code": code, "state": wanted.state})

    def _return_error(
        self, redirect_uri: str, state: str | None, error: str, description: str
    ) -> Response:
        parameters = {"error": error, "error_description": description, "state": state}
        return self._return(redirect_uri, parameters)

    def _return(self, redirect_uri: str, parameters: Mapping[str, str | None]) -> Response:
        url = authorization.with_parameters(redirect_uri, {**parameters, "iss": self.issuer})
        return _redirect(url)

    # --- after that ---------------------------------------------------------------------------

    async def token(self) -> Response:
        """Codes and refresh tokens become tokens."""
        form = _lists(await request.form)
        try:
            answer = self.tokens.answer(
                request.headers.get("Authorization"), form, await self.settings.read()
            )
        except TokenError as error:
            _logger.info("token_refused", error=error.error, reason=str(error))
            response = jsonify({"error": error.error, "error_description": str(error)})
            response.status_code = error.status
            if error.status == 401:
                response.headers["WWW-Authenticate"] = 'Basic realm="token"'
            return response
        return jsonify(answer)

    async def userinfo(self) -> Response:
        """Claims about the person that an access token stands for."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        grant = self.memory.access_tokens.get(token.strip()) if scheme.lower() == "bearer" else None
        settings = await self.settings.read()
        user = None if grant is None or grant.ended else settings.user(grant.login.sub)
        if grant is None or user is None:
            response = jsonify({"error": "invalid_token"})
            response.status_code = 401
            response.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
            return response
        return jsonify({"sub": user.sub, **user.claims(grant.request.scopes)})

    async def end_session(self) -> Response:
        """RP-initiated logout: at once with a hint of this very login, else after asking."""
        parameters = await _parameters()
        key = request.cookies.get(LOGIN_COOKIE)
        if request.method == "POST" and "confirmation" in parameters:
            if hmac.compare_digest(
                parameters["confirmation"].encode(), self._confirmation(key).encode()
            ):
                return await self._logged_out(key, None)
            raise BadLink("This page has expired. Please try again.")
        hint = self._hint(parameters)
        target = await self._logout_target(parameters, hint)
        login = self.memory.logins.get(key)
        if login is not None and (hint is None or hint.get("sid") != login.sid):
            html = await render_template(
                "logout.html", title="Sign out?", confirmation=self._confirmation(key)
            )
            return Response(html, 200, content_type="text/html; charset=utf-8")
        return await self._logged_out(key, target)

    def _hint(self, parameters: Mapping[str, str]) -> dict[str, Any] | None:
        hint = self.signer.read_hint(parameters.get("id_token_hint", ""))
        if hint is None and "id_token_hint" in parameters:
            raise BadLink("The identity hint is not from this provider.")
        if hint is not None and parameters.get("client_id", hint["aud"]) != hint["aud"]:
            raise BadLink("The link names two applications.")
        return hint

    async def _logout_target(
        self, parameters: Mapping[str, str], hint: dict[str, Any] | None
    ) -> str | None:
        """Where the person goes afterwards, if the application has registered that address."""
        target = parameters.get("post_logout_redirect_uri")
        if target is None:
            return None
        settings = await self.settings.read()
        client = settings.client(hint["aud"] if hint else parameters.get("client_id"))
        if client is None or target not in client.post_logout_redirect_uris:
            raise BadLink("The application did not register the address to return to.")
        return authorization.with_parameters(target, {"state": parameters.get("state")})

    async def _logged_out(self, key: str | None, target: str | None) -> Response:
        self.memory.logins.drop(key)
        if target is None:
            response = await page("You are signed out", "You can close this page.", 200)
        else:
            response = _redirect(target)
        response.delete_cookie(LOGIN_COOKIE, path="/", httponly=True, samesite="Lax")
        return response

    @staticmethod
    def _confirmation(key: str | None) -> str:
        # Derived from the cookie, which no other site can read.
        return hmac.digest((key or "").encode(), b"end-session", "sha256").hex()
