"""The pages of reports: sending, recipients, schedules, what became of each mail, previews, looks.

As over the API, everybody may see schedules and runs; who gets mail is for analysts; who decides
about it is an administrator. A preview is a mail, written by others than us in part: it is shown in
a frame of its own in which nothing runs and nothing loads.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode
from uuid import UUID

from pydantic import Field, model_validator

from troupe.actors.analytics.answers import Answers
from troupe.actors.analytics.reports.outcomes import State
from troupe.actors.analytics.reports.periods import ReportPeriod
from troupe.actors.analytics.reports.records import Recipient
from troupe.actors.analytics.reports.settings import ReportSettings
from troupe.actors.analytics.reports.store import ReportStore
from troupe.common.errors import NotFound
from troupe.common.ids import TenantId
from troupe.http.conventions import (
    MAX_CURSOR_CHARACTERS,
    MAX_LIMIT,
    Day,
    QueryModel,
)
from troupe.http.dashboard.fields import Words, fields_of
from troupe.http.dashboard.frame import PAGE, Frame
from troupe.http.dashboard.report_words import (
    PERIOD_WORDS,
    RUN_WORDS,
    STATE_WORDS,
    RunShown,
    due_in_words,
    schedule_in_words,
)
from troupe.http.dashboard.settings_pages import Tab
from troupe.http.dashboard.tenant_forms import zones
from troupe.http.declaration import Answer
from troupe.http.principal import Principal, Role
from troupe.http.report_desk import Walk, tag_of
from troupe.http.reports import recipient_tag
from troupe.http.routes import Api
from troupe.platform.schedules import CronTimetable, upcoming

SECTION: Final = "reports"
RUNS: Final = 20
ROWS: Final = 50
NEXT: Final = 3

TABS: Final = (
    Tab("Send", "/reports"),
    Tab("Schedules", "/reports/schedules"),
    Tab("Recipients", "/reports/recipients", Role.ANALYST),
    Tab("Deliveries", "/reports/deliveries", Role.ANALYST),
    Tab("Preview", "/reports/preview", Role.ANALYST),
    Tab("Look", "/reports/look"),
)
LOOK_WORDS: Final = {
    "sender_name": Words("Sender’s name"),
    "greeting": Words("Greeting"),
    "colour": Words("Colour", wrong="Six digits after a #, such as #1f5f99."),
    "rows": Words("Rows of a list", "in the mail"),
    "messages_per_minute": Words("Pace", "mails a minute"),
    "connections": Words("Connections", "at a time"),
    "bounces_until_suppressed": Words("Leave out after", "hard bounces"),
}
PLAIN_LOOK: Final = tuple(LOOK_WORDS)


class ReportsQuery(QueryModel):
    """One page of a list; an empty field of a form counts as none."""

    cursor: Annotated[str | None, Field(max_length=MAX_CURSOR_CHARACTERS)] = None
    """Where it begins."""

    @model_validator(mode="before")
    @classmethod
    def _as_sent_by_a_form(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value}


class RecipientsPageQuery(ReportsQuery):
    """Recipients, and which of them is open."""

    location: Annotated[str | None, Field(max_length=200)] = None
    """Only of this branch."""
    recipient: UUID | None = None
    """Whose sheet is open."""


class SchedulesPageQuery(ReportsQuery):
    """Schedules, and which of them is open."""

    schedule: UUID | None = None
    """Whose sheet is open."""


class DeliveriesPageQuery(ReportsQuery):
    """Mails, and which of them is open."""

    run: UUID | None = None
    """Only of this run."""
    state: State | None = None
    """Only those in this state."""
    delivery: UUID | None = None
    """Whose sheet is open."""


class PreviewPageQuery(ReportsQuery):
    """A report to look at."""

    period: ReportPeriod = ReportPeriod.DAY
    """What it sums up."""
    day: Day | None = None
    """The period is the last whole one before this day."""
    location: Annotated[str | None, Field(max_length=200)] = None
    """The branch; none: the whole company."""
    language: Literal["en", "de"] = "en"
    """Of the mail."""
    notice: bool = False
    """The notice that figures are late."""

    def mail(self, part: str) -> str:
        """The address of a part of the mail."""
        said = self.model_dump(mode="json", exclude_none=True, exclude={"cursor"})
        query = {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in said.items()
        }
        return f"/api/v1/reports/preview?{urlencode({**query, 'part': part})}"


@dataclass(frozen=True, slots=True)
class Lists:
    """An address of a list, with some parameters changed.

    Attributes:
        path: Of the page.
        query: As the address says it.
    """

    path: str
    query: ReportsQuery

    def link(self, **changes: str | None) -> str:
        """The address; None removes a parameter."""
        said = self.query.model_dump(mode="json", exclude_none=True)
        wanted = {**said, **changes}
        query = urlencode({name: value for name, value in wanted.items() if value is not None})
        return f"{self.path}?{query}" if query else self.path


def declare(api: Api, frame: Frame, answers: Answers, store: ReportStore) -> None:
    """Declare the pages.

    Args:
        api: Of the analytics group's application.
        frame: Renders them.
        answers: Knows the branches.
        store: Recipients, schedules, runs and deliveries.
    """
    pages = _Pages(frame, answers, store)
    _declare_sending(api, pages)
    _declare_schedules(api, pages)
    _declare_recipients(api, pages)
    _declare_deliveries(api, pages)
    _declare_looks(api, pages)


@dataclass(frozen=True, slots=True)
class _Pages:
    frame: Frame
    answers: Answers
    store: ReportStore

    async def branches(self, tenant: TenantId) -> dict[str, str]:
        page = await self.answers.locations(tenant, after=None, limit=MAX_LIMIT)
        return {one.location_id: one.name for one in page.locations}

    async def render(self, template: str, principal: Principal, **values: Any) -> Answer:
        return await self.frame.page(
            template,
            section=SECTION,
            principal=principal,
            tabs=tuple(tab for tab in TABS if principal.role >= tab.least),
            may_change=principal.role >= Role.ADMIN,
            may_send=principal.role >= Role.ANALYST,
            branches=await self.branches(principal.tenant_id),
            period_words=PERIOD_WORDS,
            state_words=STATE_WORDS,
            run_words=RUN_WORDS,
            **values,
        )


def _declare_sending(api: Api, pages: _Pages) -> None:
    store = pages.store

    @api.get(
        "/reports",
        requires=Role.VIEWER,
        query=ReportsQuery,
        answers={200: PAGE},
        summary="The page of reports: sending, and how far that is",
    )
    async def reports_page(*, principal: Principal, query: ReportsQuery) -> Answer:
        tenant = principal.tenant_id
        walk = Walk("pages/reports", UUID)
        found, following = await store.runs.page(
            tenant, before=walk.place(query.cursor), limit=RUNS
        )
        runs = [RunShown(run, mails) for run, mails in found]
        _, _, recipients = await store.recipients.page(tenant, limit=1)
        return await pages.render(
            "reports.html",
            principal,
            runs=runs,
            is_live=any(one.is_live for one in runs),
            recipients=recipients,
            is_first=not query.cursor,
            next_cursor=walk.cursor(following),
        )


def _declare_schedules(api: Api, pages: _Pages) -> None:
    store = pages.store

    @api.get(
        "/reports/schedules",
        requires=Role.VIEWER,
        query=SchedulesPageQuery,
        answers={200: PAGE},
        summary="The page of schedules of reports",
        endpoint="report_schedules_page",
    )
    async def schedules_page(*, principal: Principal, query: SchedulesPageQuery) -> Answer:
        tenant = principal.tenant_id
        found, _, _ = await store.schedules.page(tenant, limit=MAX_LIMIT)
        zone = (await store.look(tenant)).time_zone
        now = pages.frame.clock()
        shown = [
            (
                one,
                schedule_in_words(one),
                upcoming(CronTimetable(one.cron, zone), now, NEXT) if one.enabled else [],
            )
            for one in found
        ]
        opened = next((one for one in found if one.id == query.schedule), None)
        return await pages.render(
            "report_schedules.html",
            principal,
            schedules=shown,
            opened=opened,
            etag=None if opened is None else tag_of(opened.id, opened.version),
            due_in_words=due_in_words,
            list=Lists("/reports/schedules", query),
        )


def _declare_recipients(api: Api, pages: _Pages) -> None:
    store = pages.store

    @api.get(
        "/reports/recipients",
        requires=Role.ANALYST,
        query=RecipientsPageQuery,
        answers={200: PAGE},
        summary="The page of who gets reports",
    )
    async def recipients_page(*, principal: Principal, query: RecipientsPageQuery) -> Answer:
        tenant = principal.tenant_id
        walk = Walk(f"pages/recipients {query.location}", str, str)
        found, following, total = await store.recipients.page(
            tenant,
            after=walk.place(query.cursor),
            limit=ROWS,
            location=query.location,
        )
        suppressed, _ = await store.suppressions.page(tenant, after=None, limit=MAX_LIMIT)
        opened = await _recipient(pages, tenant, query.recipient)
        return await pages.render(
            "report_recipients.html",
            principal,
            recipients=found,
            total=total,
            suppressed=suppressed,
            opened=opened,
            etag=None if opened is None else recipient_tag(opened),
            zone=(await store.look(tenant)).time_zone,
            zones=zones(),
            list=Lists("/reports/recipients", query),
            next_cursor=walk.cursor(following),
        )


async def _recipient(pages: _Pages, tenant: TenantId, wanted: UUID | None) -> Recipient | None:
    """The recipient whose sheet is open; None when they are gone."""
    if wanted is None:
        return None
    try:
        return await pages.store.recipients.one(tenant, wanted)
    except NotFound:
        return None


def _declare_deliveries(api: Api, pages: _Pages) -> None:
    store = pages.store

    @api.get(
        "/reports/deliveries",
        requires=Role.ANALYST,
        query=DeliveriesPageQuery,
        answers={200: PAGE},
        problems=[404],
        summary="The page of mails and what became of them",
    )
    async def deliveries_page(*, principal: Principal, query: DeliveriesPageQuery) -> Answer:
        tenant = principal.tenant_id
        walk = Walk(f"pages/deliveries {query.run} {query.state}", UUID)
        found, following = await store.deliveries.page(
            tenant,
            before=walk.place(query.cursor),
            limit=ROWS,
            run_id=query.run,
            state=query.state,
        )
        run = None if query.run is None else await store.runs.one(tenant, query.run)
        opened, history = None, []
        if query.delivery is not None:
            try:
                opened = await store.deliveries.one(tenant, query.delivery)
                history = await store.deliveries.history(tenant, query.delivery)
            except NotFound:
                opened = None
        return await pages.render(
            "report_deliveries.html",
            principal,
            deliveries=found,
            run=run,
            opened=opened,
            history=history,
            list=Lists("/reports/deliveries", query),
            next_cursor=walk.cursor(following),
        )


def _declare_looks(api: Api, pages: _Pages) -> None:
    store = pages.store

    @api.get(
        "/reports/preview",
        requires=Role.ANALYST,
        query=PreviewPageQuery,
        answers={200: PAGE},
        summary="The page that shows a report as it would be sent",
    )
    async def preview_page(*, principal: Principal, query: PreviewPageQuery) -> Answer:
        return await pages.render("report_preview.html", principal, query=query)

    @api.get(
        "/reports/look",
        requires=Role.VIEWER,
        answers={200: PAGE},
        summary="The page of how reports look and leave",
    )
    async def look_page(*, principal: Principal) -> Answer:
        look = await store.look(principal.tenant_id)
        values = look.settings.model_dump(mode="json")
        return await pages.render(
            "report_look.html",
            principal,
            settings=look.settings,
            fields=fields_of(ReportSettings, values, LOOK_WORDS, path="", only=PLAIN_LOOK),
            etag=tag_of("settings", look.version),
        )
