"""The dashboard's routes: pages rendered on the server, and the few files that they load.

All state is in the address, so that a view can be bookmarked and sent to a colleague; the pages
can be read without JavaScript. Someone who is not signed in is led to the login of the auth group
and comes back to where they wanted to go.

Every figure on a page stands in an element with ``data-metric`` and ``data-value``: the name in the
registry and the exact value, for programs that read the page.
"""

from troupe.actors.analytics.alerts import Alerts
from troupe.actors.analytics.reports.store import ReportStore
from troupe.actors.analytics.tasks import Tasks
from troupe.actors.analytics.timelines import Timelines
from troupe.http.answering import Answering
from troupe.http.application import Application
from troupe.http.asked import Clock, utc_now
from troupe.http.dashboard import (
    alert_pages,
    data_page,
    overview_page,
    people_pages,
    performance_page,
    privacy_pages,
    provider_pages,
    report_pages,
    schedule_pages,
    settings_pages,
    task_pages,
    timeline_pages,
)
from troupe.http.dashboard.frame import Addresses, Frame
from troupe.http.dashboard.static_files import StaticFiles

__all__ = ["Addresses", "declare"]


def declare(
    app: Application,
    answering: Answering,
    addresses: Addresses,
    alerts: Alerts,
    reports: ReportStore,
    clock: Clock = utc_now,
) -> None:
    """Declare the pages and let people, unlike programs, see errors as pages.

    Args:
        app: The analytics group's application.
        answering: Over the group's pool; pages that show rows which are no figures (jobs, days,
            people) read them through `answering.answers.database`.
        addresses: Where browsers reach us and the other groups.
        alerts: Of all tenants.
        reports: Of all tenants.
        clock: The present instant; tests bring their own.
    """
    static = StaticFiles()
    answers = answering.answers
    frame = Frame(answers, addresses, static, clock)
    static.declare(app.api)
    overview_page.declare(app.api, frame, answering)
    data_page.declare(app.api, frame, answers)
    task_pages.declare(app.api, frame, answering, Tasks(answers.database))
    timeline_pages.declare(app.api, frame, answering, Timelines(answers.database))
    performance_page.declare(app.api, frame, answers)
    alert_pages.declare(app.api, frame, answers, alerts)
    report_pages.declare(app.api, frame, answers, reports)
    people_pages.declare(app.api, frame, answers)
    settings_pages.declare(app.api, frame, answers)
    provider_pages.declare(app.api, frame, answers)
    privacy_pages.declare(app.api, frame, answers)
    schedule_pages.declare(app.api, frame, answers)
    app.error_page = frame.error_page
