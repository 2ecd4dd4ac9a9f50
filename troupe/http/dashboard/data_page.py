"""The route of the data page: what is there, what is under way, what to load."""

from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from troupe.actors.analytics.answers import Answers
from troupe.http.conventions import Day, QueryModel
from troupe.http.dashboard.frame import PAGE, Frame
from troupe.http.dashboard.job_words import STATES as JOB_STATES
from troupe.http.dashboard.settings_pages import Tab
from troupe.http.dashboard.supply import STATES, read_supply
from troupe.http.declaration import Answer
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api
from troupe.platform.jobs import JobState

PATH: Final = "/data"
TABS: Final = (Tab("Days and jobs", PATH), Tab("Schedules", "/data/schedules"))
SHOWN_STATES: Final = (
    (None, "All"),
    (JobState.RUNNING, "Running"),
    (JobState.AVAILABLE, "Waiting"),
    (JobState.FAILED, "Failed"),
    (JobState.DEAD, "Gave up"),
)


class DataQuery(QueryModel):
    """What the data page shows."""

    until: Day | None = None
    """A day in the calendar's last month."""
    state: JobState | None = None
    """Only jobs in this state."""
    day: Day | None = None
    """The day that is opened beside the page."""
    job: UUID | None = None
    """The job that is opened beside the page."""

    def link(self, **changes: object) -> str:
        """The page's address with some parameters changed; None removes one."""
        said = self.model_dump(mode="json", exclude_none=True) | changes
        query = urlencode({name: value for name, value in said.items() if value is not None})
        return f"{PATH}?{query}" if query else PATH

    @property
    def closed(self) -> str:
        """The address with nothing opened."""
        return self.link(day=None, job=None)


def declare(api: Api, frame: Frame, answers: Answers) -> None:
    """Declare the page."""

    @api.get(
        PATH,
        requires=Role.VIEWER,
        query=DataQuery,
        answers={200: PAGE},
        problems=(404,),
        summary="The data page",
    )
    async def data_page(*, principal: Principal, query: DataQuery) -> Answer:
        reporting = await answers.reporting(principal.tenant_id)
        supply = await read_supply(
            answers.database,
            principal.tenant_id,
            week_start=reporting.week_start,
            now=frame.clock(),
            until=query.until,
            state=query.state,
            day=query.day,
            job=query.job,
        )
        return await frame.page(
            "data.html",
            section="data",
            principal=principal,
            reporting=reporting,
            supply=supply,
            query=query,
            states=STATES,
            job_states=JOB_STATES,
            shown_states=SHOWN_STATES,
            tabs=TABS,
            may_act=principal.role >= Role.ANALYST,
        )
