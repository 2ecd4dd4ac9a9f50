"""The provider as a Quart application: its addresses, its headers, its error pages.

No ``form-action`` in the content policy: browsers apply it to every redirect after a form, and a
login ends in a redirect to another origin, which may redirect further.
"""

from typing import Final

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, ASGISendEvent
from quart import Response
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from werkzeug.exceptions import HTTPException

from troupe.common.units import KiB
from troupe_demo.oidc.provider import BadLink, Provider, page
from troupe_demo.oidc.settings import SettingsFile

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class _Connection(TrioASGIHTTPConnection):
    """quart-trio cancels itself inside the last send, and Hypercorn then leaks the connection."""

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        async def send_shielded(message: ASGISendEvent) -> None:
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            with trio.CancelScope(shield=last):
                await send(message)

        await super().__call__(receive, send_shielded)


class _Application(QuartTrio):
    asgi_http_class = _Connection


async def _index() -> Response:
    return await page("It runs", "Applications send people here to sign in.", 200)


async def _add_headers(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


async def _bad_link(error: BadLink) -> Response:
    return await page("This link does not work", str(error), 400)


async def _http_error(error: HTTPException) -> Response:
    return await page(error.name, error.description or "", error.code or 500)


def create_app(settings: SettingsFile, issuer: str) -> QuartTrio:
    """The application.

    Args:
        settings: The configuration file.
        issuer: URL under which the application is reached, without a trailing slash.
    """
    app = _Application(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 64 * KiB
    app.after_request(_add_headers)
    app.register_error_handler(BadLink, _bad_link)
    app.register_error_handler(HTTPException, _http_error)
    provider = Provider(settings, issuer)
    for rule, methods, view in (
        ("/", ["GET"], _index),
        ("/.well-known/openid-configuration", ["GET"], provider.metadata),
        ("/jwks", ["GET"], provider.key_set),
        ("/authorize", ["GET", "POST"], provider.authorize),
        ("/login", ["POST"], provider.log_in),
        ("/token", ["POST"], provider.token),
        ("/userinfo", ["GET", "POST"], provider.userinfo),
        ("/end-session", ["GET", "POST"], provider.end_session),
    ):
        app.add_url_rule(rule, rule, view, methods=methods)
    return app
