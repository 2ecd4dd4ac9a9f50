"""The page of performance: pages by which people come in, and branches, each against before."""

from typing import Annotated, Any, Final, Literal, cast
from urllib.parse import urlencode

from pydantic import Field, model_validator

from troupe.actors.analytics.answers import Answers, Snapshot
from troupe.actors.analytics.metrics import METRICS
from troupe.common.dates import Compare
from troupe.http.asked import Asked
from troupe.http.conventions import MAX_CURSOR_CHARACTERS, CompareQuery
from troupe.http.dashboard.frame import PAGE, Frame
from troupe.http.dashboard.view import COMPARISONS, PRESETS
from troupe.http.declaration import Answer
from troupe.http.performance import BRANCHES, PAGES
from troupe.http.performance_models import PerformanceQuery
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api

SECTION: Final = "tasks/performance"
ROWS: Final = 25
COLUMNS: Final = (
    "gross_revenue",
    "purchases",
    "sessions",
    "session_conversion_rate",
    "average_order_value",
    "cart_abandonment_rate",
)


class PerformancePageQuery(CompareQuery):
    """What the page shows."""

    of: Literal["pages", "branches"] = "pages"
    """Of what."""
    compare: Compare = Compare.PREVIOUS
    """The period to compare with."""
    cursor: Annotated[str | None, Field(max_length=MAX_CURSOR_CHARACTERS)] = None
    """Where the list begins."""

    @model_validator(mode="before")
    @classmethod
    def _as_sent_by_a_form(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        sent = {name: value for name, value in given.items() if value}
        if sent.get("preset"):
            sent.pop("start_date", None)
            sent.pop("end_date", None)
        return sent

    def given(self) -> dict[str, str]:
        """What the address says beyond the defaults."""
        said = self.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
        return {name: str(value) for name, value in said.items()}

    def link(self, **changes: str | None) -> str:
        """The page's address with some parameters changed; None removes one."""
        wanted: dict[str, str | None] = {**self.given(), "cursor": None, **changes}
        query = urlencode({name: value for name, value in wanted.items() if value is not None})
        return f"/tasks/performance?{query}" if query else "/tasks/performance"

    def asked(self) -> PerformanceQuery:
        """The same as the API is asked for it."""
        return PerformanceQuery(
            start_date=self.start_date,
            end_date=self.end_date,
            preset=self.preset,
            compare=self.compare,
            cursor=self.cursor,
            limit=ROWS,
        )

    def export(self, form: str) -> str:
        """The address of the same list as a file."""
        said = {
            name: value
            for name, value in self.given().items()
            if name in {"start_date", "end_date", "preset", "compare"}
        }
        which = "pages" if self.of == "pages" else "locations"
        query = urlencode({"format": form, **said})
        return f"/api/v1/exports/tasks/performance/{which}?{query}"


def declare(api: Api, frame: Frame, answers: Answers) -> None:
    """Declare the page.

    Args:
        api: Of the analytics group's application.
        frame: Renders it.
        answers: To be asked.
    """

    @api.get(
        "/tasks/performance",
        requires=Role.VIEWER,
        query=PerformancePageQuery,
        answers={200: PAGE},
        summary="The page of performance",
    )
    async def performance_page(*, principal: Principal, query: PerformancePageQuery) -> Answer:
        wanted = query.asked()
        inquiry = PAGES if query.of == "pages" else BRANCHES
        inquiry.check(wanted)

        async def question(snapshot: Snapshot) -> tuple[Asked, Any]:
            asked = Asked.of(snapshot.reporting, wanted, frame.clock)
            return asked, await inquiry.read(snapshot, asked, wanted)

        asked, found = await answers.ask(principal.tenant_id, question)
        told = inquiry.model.model_validate(inquiry.write(asked, wanted, found))
        return await frame.page(
            "performance.html",
            section=SECTION,
            principal=principal,
            reporting=asked.reporting,
            query=query,
            days=asked.days,
            comparison=asked.comparison,
            found=cast("Any", told),
            columns=[METRICS[name] for name in COLUMNS],
            presets=PRESETS,
            comparisons=COMPARISONS,
            preset=None if query.start_date else (query.preset or "28d"),
        )
