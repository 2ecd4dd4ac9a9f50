"""The route of the overview: figures of a period, compared with another.

The page's content is an answer like those of the API: a function of the tenant's standing and the
request, kept as bytes under the same kind of tag, and made ready after each load. Only the frame
around it, which knows the person, is rendered for each request.
"""

from dataclasses import dataclass
from typing import Final

from markupsafe import Markup
from pydantic import BaseModel

from troupe.http.answering import Answering, Inquiry
from troupe.http.asked import Asked
from troupe.http.dashboard.frame import PAGE, Frame
from troupe.http.dashboard.overview import Reading, compose, read_overview
from troupe.http.dashboard.templates import environment
from troupe.http.dashboard.view import COMPARISONS, PRESETS, OverviewQuery, View
from troupe.http.declaration import Answer
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api


@dataclass(frozen=True, slots=True)
class _Content(Inquiry[OverviewQuery, Reading]):
    """The page without its frame."""

    def bytes_of(self, asked: Asked, query: OverviewQuery, found: Reading) -> bytes:
        """The content as HTML."""
        view = View(query, asked.days)
        html = _TEMPLATES.get_template("overview_content.html").render(
            page=compose(asked, view, found),
            view=view,
            reporting=asked.reporting,
            presets=PRESETS,
            comparisons=COMPARISONS,
        )
        return html.encode()


_TEMPLATES: Final = environment()
OVERVIEW: Final = _Content(
    "overview page",
    BaseModel,
    lambda snapshot, asked, query: read_overview(snapshot, asked, View(query, asked.days)),
    lambda _asked, _query, found: found,
)


def declare(api: Api, frame: Frame, answering: Answering) -> None:
    """Declare the page."""

    @api.get(
        "/",
        requires=Role.VIEWER,
        query=OverviewQuery,
        answers={200: PAGE},
        summary="The overview page",
    )
    async def overview_page(*, principal: Principal, query: OverviewQuery) -> Answer:
        asked, content = await answering.page(principal.tenant_id, OVERVIEW, query)
        until = asked.reporting.data_until
        return await frame.page(
            "overview.html",
            section="overview",
            principal=principal,
            reporting=asked.reporting,
            stale=until is not None and until < asked.days.end,
            content=Markup(content.decode()),  # noqa: S704 - rendered above, with escaping
        )
