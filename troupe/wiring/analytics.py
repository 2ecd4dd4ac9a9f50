"""What the analytics group consists of: answers, tasks, alerts, reports and the dashboard."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from troupe.actors.analytics.alarms import watch_everybody
from troupe.actors.analytics.alerts import Alerts
from troupe.actors.analytics.answers import Answers
from troupe.actors.analytics.following import Bell, follow_everybody
from troupe.actors.analytics.keeping import AnswerCache
from troupe.actors.analytics.reports.bounces import Collector, bounce_kind
from troupe.actors.analytics.reports.content import ReportReader
from troupe.actors.analytics.reports.dispatch import Dispatch, report_kinds
from troupe.actors.analytics.reports.smtp import MailLine
from troupe.actors.analytics.reports.statements import COLLECT
from troupe.actors.analytics.reports.store import ReportStore
from troupe.actors.analytics.reports.task_lists import every_list
from troupe.actors.analytics.reports.upkeep import look_after_reports
from troupe.actors.analytics.reports.workshop import open_workshop
from troupe.actors.analytics.reports.writing import Press
from troupe.actors.analytics.tasks import Tasks
from troupe.actors.analytics.timelines import Timelines
from troupe.actors.analytics.trials import Trials
from troupe.actors.auth.return_address import origin_of
from troupe.common.connections import SmtpConfig
from troupe.common.database import Database
from troupe.common.secrets import Vault
from troupe.common.units import MiB
from troupe.http import alerts as alert_routes
from troupe.http import analytics as analytics_routes
from troupe.http import exports, performance, reports
from troupe.http import history as history_routes
from troupe.http import tasks as task_routes
from troupe.http.answering import Answering, Question
from troupe.http.application import Application
from troupe.http.credentials import looking_ahead
from troupe.http.dashboard import pages
from troupe.http.front import KeptAnswers
from troupe.http.operations import Gauge
from troupe.http.report_desk import Desk
from troupe.http.security import page_policy
from troupe.http.warming import stay_current
from troupe.platform.group import Group, Resource
from troupe.platform.jobs import JobRunner, RunnerSettings
from troupe.platform.supervision import ChildContext, ChildSpec
from troupe.wiring.parts import (
    add_database,
    add_http,
    add_peers,
    application,
    credentials_of,
    http_settings,
    new_group,
)
from troupe.wiring.site import Site


def _add_reports(
    site: Site, group: Group, database: Resource[Database], press: Callable[[], Press]
) -> None:
    """The jobs of reports, and what looks after them."""
    vault, guard, jobs = Vault(site.keys), site.guard(), site.configuration.jobs

    async def run_jobs(child: ChildContext) -> None:
        pool = database.get()
        context = ssl.create_default_context()

        def line_of(config: SmtpConfig, secret: bytes | None) -> MailLine:
            return MailLine(config, secret, guard, context=context)

        dispatch = Dispatch(pool, vault, press(), line_of)
        collector = Collector(pool, vault, guard, group.threads, context=context)
        runner = JobRunner(
            group.name,
            {**report_kinds(dispatch), COLLECT: bounce_kind(collector)},
            pool=group.pool,
            database=database.get,
            settings=RunnerSettings(
                lease=jobs.lease, poll=jobs.poll, history_days=jobs.history_days
            ),
        )
        await runner.child_spec().start(child)

    group.add_actor(ChildSpec(name="jobs", start=run_jobs, kind="job_runner"))

    async def look_after(child: ChildContext) -> None:
        child.started()
        await look_after_reports(database.get(), child.stopping)

    group.add_actor(ChildSpec(name="report_upkeep", start=look_after))


def compose(site: Site) -> Group:
    """The analytics group."""
    group, database = new_group(site, "analytics")
    sizes = site.configuration.groups.analytics
    # Of its own: what nobody waits for never makes the dashboard wait for a connection, and gives
    # way to it for a processor.
    background = add_database(
        site,
        group,
        "background",
        connections=lambda: sizes.background_connections,
        niceness=max(sizes.niceness, sizes.background_niceness),
    )
    addresses = pages.Addresses(site.auth_url, site.dashboard_url, site.data_url)
    auth_origin, data_origin = origin_of(site.auth_url), origin_of(site.data_url)
    peers = add_peers(site, group)
    settings = site.configuration.analytics
    cache: AnswerCache[Question] = AnswerCache(settings.answer_cache * MiB)
    vault, guard = Vault(site.keys), site.guard()
    workshop = group.resource("workshop", lambda: open_workshop(site.reserved))

    def press(pool: Resource[Database]) -> Press:
        reader = ReportReader(Answers(pool.get()), every_list())
        return Press(reader, workshop.get(), site.dashboard_url)

    _add_reports(site, group, background, lambda: press(background))

    @asynccontextmanager
    async def open_answering() -> AsyncIterator[Answering]:
        yield Answering(Answers(database.get()), unhurried=Answers(background.get()), cache=cache)

    # Looks ahead, as the answers do: nobody who looks at a dashboard waits for either.
    credentials = group.resource(
        "credentials",
        lambda: looking_ahead(credentials_of(site, database.get(), peers.get())),
    )

    # Shared by who asks and who keeps it current; made anew with the pool that it reads from.
    answering = group.resource("answering", open_answering)

    def own_gauges() -> list[Gauge]:
        found, pool = cache.statistics(), background.get().statistics()
        return [
            Gauge("troupe_answers_kept", "Answers in memory.", found.answers),
            Gauge("troupe_answers_kept_bytes", "What they take.", found.size_bytes),
            Gauge("troupe_answers_found", "Questions answered from memory.", found.hits),
            Gauge("troupe_answers_computed", "Questions not found there.", found.misses),
            Gauge("troupe_background_connections", "Connections open.", pool.size),
            Gauge("troupe_background_waiting", "Units waiting for one.", pool.waiting),
        ]

    bell = Bell()

    async def freshness(child: ChildContext) -> None:
        child.started()
        await stay_current(
            database.get(),
            answering.get(),
            child.stopping,
            warm=settings.warm_presets,
            told=bell.ring,
        )

    group.add_actor(ChildSpec(name="freshness", start=freshness))

    async def follow_data(child: ChildContext) -> None:
        child.started()
        await follow_everybody(background.get(), bell, child.stopping)

    group.add_actor(ChildSpec(name="tasks", start=follow_data))

    async def watch(child: ChildContext) -> None:
        child.started()
        await watch_everybody(background.get(), vault, guard, child.stopping)

    group.add_actor(ChildSpec(name="alerts", start=watch))

    def build() -> Application:
        app = application(
            site,
            group,
            database.get(),
            credentials.get(),
            description="Figures of the shop, and the dashboard.",
            own_gauges=own_gauges,
            settings=http_settings(
                site,
                public_url=site.dashboard_url,
                page_policy=page_policy(connect=[auth_origin, data_origin], forms=[auth_origin]),
            ),
        )
        analytics_routes.declare(app.api, answering.get())
        performance.declare(app.api, answering.get())
        tasks = Tasks(database.get())
        task_routes.declare(app.api, answering.get(), tasks)
        exports.declare(app.api, answering.get(), tasks)
        alerts = Alerts(database.get(), vault)
        alert_routes.declare(app.api, alerts, Trials(database.get(), vault, guard))
        history_routes.declare(app.api, answering.get(), Timelines(database.get()))
        store = ReportStore(database.get())
        reports.declare(app.api, Desk(store, press(database)))
        pages.declare(app, answering.get(), addresses, alerts, store)
        app.front = KeptAnswers(app, answering.get(), credentials.get())
        return app

    add_http(site, group, build)
    return group
