"""The dashboard's routes: pages rendered on the server, and the few files that they load.

All state is in the address, so that a view can be bookmarked and sent to a colleague; the page
works without JavaScript. Someone who is not signed in is led to the login of the auth group and
comes back to where they wanted to go.

Every figure on a page stands in an element with ``data-metric`` and ``data-value``: the name in the
registry and the exact value, for programs that read the page.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Final
from urllib.parse import urlencode, urlsplit

import jinja2
from pydantic import Field
from quart import Response

from troupe.actors.analytics.answers import Answers, Snapshot
from troupe.actors.analytics.metrics import Unit
from troupe.common.errors import NotFound
from troupe.http.application import Application
from troupe.http.asked import Asked, Clock, utc_now
from troupe.http.conventions import QueryModel, is_unmodified
from troupe.http.dashboard import formats
from troupe.http.dashboard.overview import Reading, compose, read_overview
from troupe.http.dashboard.view import COMPARISONS, PRESETS, OverviewQuery, View
from troupe.http.declaration import Answer, Media
from troupe.http.principal import Access, Principal, Role
from troupe.http.problems import Problem
from troupe.http.request import current_request

PAGE: Final = Media("text/html; charset=utf-8", "A page.")
_PACKAGE: Final = "troupe.http.dashboard"
_KINDS: Final[Mapping[str, str]] = {
    "troupe.css": "text/css; charset=utf-8",
    "troupe.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_FOREVER: Final = "public, max-age=31536000, immutable"
_BRIEFLY: Final = "public, max-age=300"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where browsers reach the other parts.

    Attributes:
        auth: Origin of the auth group, ``http://127.0.0.1:8003``.
        dashboard: Origin of these pages.
    """

    auth: str
    dashboard: str

    def login(self, target: str) -> str:
        """Where to send someone who is not signed in; `target` is the path to return to."""
        back = urlencode({"next": f"{self.dashboard}{target}"})
        return f"{self.auth}/api/v1/login?{back}"

    @property
    def logout(self) -> str:
        """Where the logout is posted to."""
        return f"{self.auth}/api/v1/logout"


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that pages load; its address holds its version, so that it can be kept forever."""

    content: bytes
    kind: str
    version: str

    @classmethod
    def load(cls, name: str) -> "StaticFile":
        """From the package."""
        content = files(_PACKAGE).joinpath("static", name).read_bytes()
        return cls(content, _KINDS[name], hashlib.blake2b(content, digest_size=8).hexdigest())


class StaticQuery(QueryModel):
    """Which version of a file is wanted; the present one is answered in any case."""

    v: Annotated[str | None, Field(max_length=64)] = None
    """Its version."""


def declare(
    app: Application, answers: Answers, addresses: Addresses, clock: Clock = utc_now
) -> None:
    """Declare the pages and let people, unlike programs, see errors as pages.

    Args:
        app: The analytics group's application.
        answers: Over the group's database pool.
        addresses: Where browsers reach us and the auth group.
        clock: The present instant; tests bring their own.
    """
    static = {name: StaticFile.load(name) for name in _KINDS}
    templates = _templates(static)
    _declare_overview(app, answers, addresses, clock, templates)
    _declare_static(app, static)

    async def error_page(problem: Problem) -> Response | None:
        request = current_request()
        if problem.status == 401:
            return Response(b"", 303, {"Location": addresses.login(_own_path(request.url))})
        html = templates.get_template("problem.html").render(
            problem=problem, request_id=request.request_id
        )
        return Response(html, problem.status, dict(problem.headers), content_type=PAGE.content_type)

    app.error_page = error_page


def _templates(static: Mapping[str, StaticFile]) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["fmt"] = formats
    environment.globals["money"] = Unit.MONEY
    environment.globals["static"] = lambda name: f"/static/{name}?v={static[name].version}"
    return environment


def _declare_overview(
    app: Application,
    answers: Answers,
    addresses: Addresses,
    clock: Clock,
    templates: jinja2.Environment,
) -> None:
    @app.api.get(
        "/",
        requires=Role.VIEWER,
        query=OverviewQuery,
        answers={200: PAGE},
        summary="The overview page",
    )
    async def overview_page(*, principal: Principal, query: OverviewQuery) -> Answer:
        async def question(snapshot: Snapshot) -> tuple[Asked, View, Reading]:
            asked = Asked.of(snapshot.reporting, query, clock)
            view = View(query, asked.days)
            return asked, view, await read_overview(snapshot, asked, view)

        asked, view, reading = await answers.ask(principal.tenant_id, question)
        html = templates.get_template("overview.html").render(
            page=compose(asked, view, reading),
            view=view,
            reporting=asked.reporting,
            presets=PRESETS,
            comparisons=COMPARISONS,
            principal=principal,
            logout_url=addresses.logout,
        )
        return Answer(html)


def _declare_static(app: Application, static: Mapping[str, StaticFile]) -> None:
    @app.api.get(
        "/static/<name>",
        requires=Access.PUBLIC,
        query=StaticQuery,
        answers={200: Media("*/*", "A file that the pages load.")},
        etag=True,
        summary="Style, script and icon of the pages",
    )
    async def static_file(*, name: str, query: StaticQuery) -> Response:
        if name not in static:
            raise NotFound("There is no such file.")
        file = static[name]
        if is_unmodified(file.version):
            response = Response(b"", 304)
        else:
            response = Response(file.content, content_type=file.kind)
        response.headers["Cache-Control"] = _FOREVER if query.v == file.version else _BRIEFLY
        response.set_etag(file.version)
        return response


def _own_path(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
