"""The dashboard's routes: pages rendered on the server, and the few files that they load.

All state is in the address, so that a view can be bookmarked and sent to a colleague; the page
works without JavaScript. Someone who is not signed in is led to the login of the auth group and
comes back to where they wanted to go.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.resources import files
from typing import Annotated, Final, Literal
from urllib.parse import urlencode, urlsplit

import jinja2
from pydantic import AfterValidator, Field
from quart import Response

from troupe.actors.analytics.answers import Answers
from troupe.actors.analytics.metrics import Unit
from troupe.common.dates import Compare, Granularity
from troupe.common.errors import NotFound
from troupe.http.analytics import Clock, resolve, utc_now
from troupe.http.application import Application
from troupe.http.conventions import CompareQuery, Preset
from troupe.http.dashboard import formats
from troupe.http.dashboard.overview import CARDS, Choice, overview
from troupe.http.declaration import Answer, Media
from troupe.http.principal import Access, Principal, Role
from troupe.http.problems import Problem
from troupe.http.request import current_request

PAGE: Final = Media("text/html; charset=utf-8", "A page.")
_PACKAGE: Final = "troupe.http.dashboard"
_STATIC: Final[Mapping[str, str]] = {
    "troupe.css": "text/css; charset=utf-8",
    "troupe.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_PRESETS: Final = (
    (Preset.YESTERDAY, "Yesterday"),
    (Preset.LAST_7_DAYS, "Last 7 days"),
    (Preset.LAST_28_DAYS, "Last 28 days"),
    (Preset.LAST_30_DAYS, "Last 30 days"),
    (Preset.LAST_90_DAYS, "Last 90 days"),
    (Preset.MONTH_TO_DATE, "This month"),
    (Preset.YEAR_TO_DATE, "This year"),
    (Preset.ALL, "All"),
)
_COMPARISONS: Final = (
    (Compare.PREVIOUS, "the period before"),
    (Compare.WEEKDAY, "the same weekdays before"),
    (Compare.YEAR, "the year before"),
    (Compare.NONE, "nothing"),
)


def _on_a_card(name: str) -> str:
    if name not in CARDS:
        raise ValueError(f"must be one of {', '.join(CARDS)}")
    return name


class OverviewQuery(CompareQuery):
    """What the overview shows."""

    compare: Compare = Compare.PREVIOUS
    """The period to compare with."""
    granularity: Literal[Granularity.DAY, Granularity.WEEK, Granularity.MONTH] = Granularity.DAY
    """Length of the chart's steps."""
    metric: Annotated[
        str, AfterValidator(_on_a_card), Field(json_schema_extra={"enum": list(CARDS)})
    ] = CARDS[0]
    """The chart's figure."""
    location: Annotated[str | None, Field(max_length=100)] = None
    """Only this branch."""


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


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["fmt"] = formats
    environment.globals["money"] = Unit.MONEY
    return environment


def declare(
    app: Application, answers: Answers, addresses: Addresses, clock: Clock = utc_now
) -> None:
    """Declare the pages and let people, unlike programs, see errors as pages."""
    templates = _environment()
    static = {
        name: (files(_PACKAGE).joinpath("static", name).read_bytes(), kind)
        for name, kind in _STATIC.items()
    }

    @app.api.get(
        "/",
        requires=Role.VIEWER,
        query=OverviewQuery,
        answers={200: PAGE},
        summary="The overview page",
        scope="analytics:read",
    )
    async def overview_page(*, principal: Principal, query: OverviewQuery) -> Answer:
        asked = await resolve(answers, principal, query, clock)
        choice = Choice(
            preset="" if query.start_date else (query.preset or Preset.LAST_28_DAYS),
            compare=query.compare,
            granularity=query.granularity,
            metric=query.metric,
            location=query.location,
        )
        page = await overview(
            answers, asked.tenant, asked.reporting, choice, asked.days, asked.comparison
        )
        given = query.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
        html = templates.get_template("overview.html").render(
            **{name: getattr(page, name) for name in page.__slots__},
            choice=choice,
            presets=_PRESETS,
            comparisons=_COMPARISONS,
            currency=asked.reporting.currency,
            data_until=asked.reporting.data_until,
            stale=_is_stale(asked.reporting.data_until, asked.days.end),
            tenant_name=asked.reporting.tenant_name,
            principal=principal,
            logout_url=addresses.logout,
            link=partial(_link, given),
        )
        return Answer(html)

    @app.api.get(
        "/static/<name>",
        requires=Access.PUBLIC,
        answers={200: Media("*/*", "A file that the pages load.")},
        etag=True,
        summary="Style, script and icon of the pages",
    )
    async def static_file(*, name: str) -> Response:
        if name not in static:
            raise NotFound("There is no such file.")
        content, kind = static[name]
        response = Response(content, content_type=kind)
        response.headers["Cache-Control"] = "public, max-age=300"
        response.set_etag(hashlib.blake2b(content, digest_size=16).hexdigest())
        return response

    async def error_page(problem: Problem) -> Response | None:
        request = current_request()
        if problem.status == 401:
            return Response(b"", 303, {"Location": addresses.login(_own_path(request.url))})
        html = templates.get_template("problem.html").render(
            title=problem.kind.title,
            detail=problem.detail,
            action="Back to the overview",
            action_url="/",
            request_id=request.request_id,
        )
        return Response(html, problem.status, content_type=PAGE.content_type)

    app.error_page = error_page


def _own_path(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _is_stale(data_until: date | None, end: date) -> bool:
    """Whether the range reaches beyond the data."""
    return data_until is not None and data_until < end


def _link(given: Mapping[str, object], **changes: object) -> str:
    """The page's address with some parameters changed; None removes one."""
    wanted = {**given, **changes}
    query = urlencode({name: value for name, value in wanted.items() if value is not None})
    return f"/?{query}" if query else "/"
