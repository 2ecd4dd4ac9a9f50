"""The route of the overview: figures of a period, compared with another."""

from troupe.actors.analytics.answers import Answers, Snapshot
from troupe.http.asked import Asked
from troupe.http.dashboard.frame import PAGE, Frame
from troupe.http.dashboard.overview import Reading, compose, read_overview
from troupe.http.dashboard.view import COMPARISONS, PRESETS, OverviewQuery, View
from troupe.http.declaration import Answer
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api


def declare(api: Api, frame: Frame, answers: Answers) -> None:
    """Declare the page."""

    @api.get(
        "/",
        requires=Role.VIEWER,
        query=OverviewQuery,
        answers={200: PAGE},
        summary="The overview page",
    )
    async def overview_page(*, principal: Principal, query: OverviewQuery) -> Answer:
        async def question(snapshot: Snapshot) -> tuple[Asked, View, Reading]:
            asked = Asked.of(snapshot.reporting, query, frame.clock)
            view = View(query, asked.days)
            return asked, view, await read_overview(snapshot, asked, view)

        asked, view, reading = await answers.ask(principal.tenant_id, question)
        return await frame.page(
            "overview.html",
            section="overview",
            principal=principal,
            reporting=asked.reporting,
            page=compose(asked, view, reading),
            view=view,
            presets=PRESETS,
            comparisons=COMPARISONS,
        )
