"""What each group consists of: its resources, its actors, its HTTP application.

A group is described here and run by `troupe.supervisor`. Everything that a group holds is its own;
what the groups have in common is PostgreSQL and this file.
"""

import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from socket import socket
from typing import Any, Final

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
from troupe.actors.auth.backchannel import BackchannelLogouts
from troupe.actors.auth.login import Logins, LoginSettings
from troupe.actors.auth.peer_http import PeerHttp
from troupe.actors.auth.provider_tokens import ProviderTokens
from troupe.actors.auth.refreshes import Refresher, RefreshSettings
from troupe.actors.auth.relying_party import RelyingParty
from troupe.actors.auth.return_address import origin_of
from troupe.actors.data.connection_test import connection_test_kind
from troupe.actors.data.days import INGEST
from troupe.actors.data.erasure import erasure_kinds
from troupe.actors.data.ingestion import ingest_kind
from troupe.actors.data.master_data import IMPORT_MASTER_DATA, master_data_kind
from troupe.actors.data.reconciliation import RECONCILE, reconcile_kind
from troupe.actors.data.rederivation import DERIVE_AGAIN, derive_kind
from troupe.actors.data.retention import RETENTION, retention_kind
from troupe.actors.data.upkeep import look_after_days
from troupe.common.config import Configuration, GroupSettings
from troupe.common.connections import TEST_CONNECTION, SmtpConfig
from troupe.common.database import CACHED_STATEMENTS, Database, PoolSettings, open_database
from troupe.common.outbound import OutboundGuard
from troupe.common.secrets import KeyRing, Vault
from troupe.common.units import MiB
from troupe.http import alerts as alert_routes
from troupe.http import analytics as analytics_routes
from troupe.http import auth as auth_routes
from troupe.http import auth_login, data_imports, exports, performance, reports
from troupe.http import data as data_routes
from troupe.http import history as history_routes
from troupe.http import tasks as task_routes
from troupe.http.admission import Limits
from troupe.http.answering import Answering, Question
from troupe.http.application import OWN_PAGE_POLICY, Application, HttpSettings, create_app
from troupe.http.credentials import CookiePolicy, Credentials
from troupe.http.dashboard import pages
from troupe.http.front import KeptAnswers
from troupe.http.idempotency import PostgresIdempotencyStore, sweep_answers
from troupe.http.operations import Gauge, Others, Readiness, nobody_else
from troupe.http.report_desk import Desk
from troupe.http.security import Rate, page_policy
from troupe.http.server import serve
from troupe.http.warming import stay_current
from troupe.platform.group import Group, Resource, Sizes
from troupe.platform.jobs import JobRunner, RunnerSettings
from troupe.platform.schedules import Scheduler
from troupe.platform.supervision import ChildContext, ChildSpec, Snapshot

GROUPS: Final = ("auth", "data", "analytics")


@dataclass(frozen=True, kw_only=True)
class Site:
    """What the groups are given.

    Attributes:
        configuration: In force.
        sockets: Group to its listening socket; those of the groups that run here.
        urls: Group to the URL of its port; of all groups.
        runtime_url: Where PostgreSQL is now; raises DatabaseUnavailable before it has started.
        keys: Key-encryption keys.
        snapshot: The whole tree in this process as it is now.
        instance: Name of the one instance of a group that this process is; empty: it is none.
        around: How the whole group of this instance looks from outside; None: not known yet.
        others: Asks the other instances of the group for their figures.
        figures_from: Told how to get those of this one.
    """

    configuration: Configuration
    sockets: dict[str, socket]
    urls: dict[str, str]
    runtime_url: Callable[[], str]
    keys: KeyRing
    snapshot: Callable[[], Snapshot]
    instance: str = ""
    around: Callable[[], Mapping[str, Any] | None] = lambda: None
    others: Others = nobody_else
    figures_from: Callable[[Callable[[], list[Any]]], None] = lambda _figures: None

    def settings(self, group: str) -> GroupSettings:
        """The group's section of the configuration."""
        return self.configuration.groups.named(group)

    @property
    def auth_url(self) -> str:
        """Where browsers reach the auth group."""
        return self.configuration.auth.public_url or self.urls["auth"]

    @property
    def dashboard_url(self) -> str:
        """Where browsers reach the dashboard."""
        return self.configuration.auth.dashboard_url or self.urls["analytics"]

    @property
    def data_url(self) -> str:
        """Where browsers reach the data group."""
        return self.configuration.auth.data_url or self.urls["data"]

    def guard(self) -> OutboundGuard:
        """What decides which hosts a tenant may name."""
        return outbound_guard(self.configuration)

    def http(
        self,
        *,
        public_url: str = "",
        cors_origins: tuple[str, ...] = (),
        page_policy: str = OWN_PAGE_POLICY,
    ) -> HttpSettings:
        """Settings of one application; the session's cookie is the same on all three."""
        told = self.configuration.http
        return HttpSettings(
            public_origins=(origin_of(public_url),) if public_url else (),
            cors_origins=(*cors_origins, *told.cors_origins),
            trusted_proxies=told.trusted_proxies,
            address_rate=Rate(told.address_rate, burst=told.address_rate // 4),
            principal_rate=Rate(told.account_rate, burst=told.account_rate // 12),
            tenant_rate=Rate(told.tenant_rate, burst=told.tenant_rate // 12),
            page_policy=page_policy,
            session_cookie=CookiePolicy.under(self.auth_url).session,
        )


def outbound_guard(configuration: Configuration) -> OutboundGuard:
    """What decides which hosts tenants may name."""
    allowed = configuration.auth.allow_private_peers
    return OutboundGuard(ipaddress.ip_network(network) for network in allowed)


def key_file(configuration: Configuration) -> Path:
    """Where the key-encryption keys lie, or will lie."""
    given = configuration.auth.key_encryption_key_file
    return Path(given) if given else configuration.state_directory / "keys"


def key_ring(configuration: Configuration) -> KeyRing:
    """The key-encryption keys: the operator's file, or one made on the first start.

    Raises:
        ConfigurationError: The file cannot be read or holds no keys.
    """
    if configuration.auth.key_encryption_key_file:
        return KeyRing.load(key_file(configuration))
    configuration.state_directory.mkdir(parents=True, exist_ok=True)
    return KeyRing.load_or_create(key_file(configuration))


def compose(site: Site, names: Iterable[str] = GROUPS) -> list[Group]:
    """The groups of these names."""
    build = {"auth": _auth, "data": _data, "analytics": _analytics}
    return [build[name](site) for name in names]


def _new_group(site: Site, name: str) -> tuple[Group, Resource[Database]]:
    settings = site.settings(name)
    group = Group(
        name,
        tasks=settings.tasks,
        mailbox=settings.mailbox,
        database_connections=settings.database_connections,
    )
    database = site.configuration.database

    def open_pool() -> AbstractAsyncContextManager[Database]:
        return open_database(
            site.runtime_url(),
            connections=group.sizes.database_connections,
            application_name=f"troupe {site.instance or name}",
            listen_url=database.listen_url.get_secret_value() or None,
            settings=pool_settings(site.configuration, niceness=settings.niceness),
        )

    resource = group.resource("database", open_pool)

    def fit() -> None:
        if (pool := resource.held) is not None:
            pool.resize(group.sizes.database_connections)

    group.when_resized(fit)
    return group, resource


def pool_settings(configuration: Configuration, *, niceness: int = 0) -> PoolSettings:
    """How connections are treated, in every pool; `niceness` is that of the group."""
    database = configuration.database
    return PoolSettings(
        deadline=database.statement_deadline,
        connect_deadline=database.connect_deadline,
        statement_cache_size=0 if database.transaction_pooler else CACHED_STATEMENTS,
        niceness=niceness,
    )


def sizes_of(settings: GroupSettings) -> Sizes:
    """The bounds of a group that change while it runs."""
    return Sizes(
        tasks=settings.tasks,
        mailbox=settings.mailbox,
        database_connections=settings.database_connections,
    )


def _add_peers(site: Site, group: Group) -> Resource[PeerHttp]:
    guard = site.guard()
    return group.resource("peers", lambda: PeerHttp(guard))


def _credentials(site: Site, database: Database, peers: PeerHttp) -> Credentials:
    """What reads the credentials of requests; each group asks identity providers for itself."""
    tokens = ProviderTokens(database, Vault(site.keys), RelyingParty(peers))
    return Credentials(database, provider_tokens=tokens)


def _add_http(site: Site, group: Group, build: Callable[[], Application]) -> None:
    """Serve an application as the group's last child; it is built anew with every start."""
    grace = site.configuration.shutdown.grace
    settings = site.settings(group.name)
    limits = Limits(connections=settings.connections, requests=settings.requests, drain=grace)

    async def start(child: ChildContext) -> None:
        app = build()
        await serve(
            app,
            [site.sockets[group.name]],
            front=app.front,
            shutdown=child.stopping,
            limits=replace(limits, body_bytes=app.largest_body),
            task_status=child,
        )

    # The server's own deadlines end it within its drain; the rest is room for them to work.
    group.add_service(ChildSpec(name="http", start=start, shutdown=grace + 3.0, kind="service"))


def _application(
    site: Site,
    group: Group,
    database: Database,
    credentials: Credentials,
    *,
    description: str,
    settings: HttpSettings,
    own_gauges: Callable[[], list[Gauge]] = list,
) -> Application:
    def readiness() -> Readiness:
        tree = site.snapshot().find(group.name)
        return Readiness(ready=tree.ready, parts=site.around() or tree.as_dict())

    def gauges() -> list[Gauge]:
        pool, connections = group.pool.statistics(), database.statistics()
        return [
            Gauge("troupe_pool_tasks_running", "Tasks running.", pool.running),
            Gauge("troupe_pool_tasks_limit", "Tasks that may run.", pool.limit),
            Gauge("troupe_pool_tasks_waiting", "Tasks waiting for a slot.", pool.waiting),
            Gauge("troupe_database_connections", "Connections open.", connections.size),
            Gauge("troupe_database_waiting", "Units waiting for one.", connections.waiting),
            *own_gauges(),
        ]

    app = create_app(
        group.name,
        resolver=credentials,
        settings=settings,
        readiness=readiness,
        gauges=gauges,
        idempotency=PostgresIdempotencyStore(database),
        description=description,
        replica=site.instance,
        others=site.others,
    )
    site.figures_from(app.metrics.figures)
    return app


def _auth(site: Site) -> Group:
    group, database = _new_group(site, "auth")
    settings = site.configuration.auth
    peers = _add_peers(site, group)
    refresh = RefreshSettings(settings.session_confirm, settings.session_unconfirmed)
    addresses = auth_login.Addresses(site.auth_url, site.dashboard_url)
    vault = Vault(site.keys)

    async def ask_again(child: ChildContext) -> None:
        party = RelyingParty(peers.get())
        await Refresher(database.get(), vault, party, refresh).run(child)

    if refresh.confirm > 0:
        group.add_actor(ChildSpec(name="refresher", start=ask_again))

    def build() -> Application:
        credentials = _credentials(site, database.get(), peers.get())
        logins = Logins(
            database.get(),
            vault,
            RelyingParty(peers.get()),
            LoginSettings(
                callback_url=addresses.callback,
                home_url=addresses.home,
                state_lifetime=settings.login_state_lifetime,
                session_idle=settings.session_idle,
                session_absolute=settings.session_absolute,
                refresh=refresh,
            ),
        )
        app = _application(
            site,
            group,
            database.get(),
            credentials,
            description="Login, sessions and tokens, tenants and their connections.",
            settings=site.http(
                public_url=site.auth_url, cors_origins=(origin_of(site.dashboard_url),)
            ),
        )
        auth_routes.declare(
            app,
            database=database.get(),
            vault=vault,
            logins=logins,
            logouts=BackchannelLogouts(database.get(), RelyingParty(peers.get())),
            credentials=credentials,
            addresses=addresses,
            peers=peers.get(),
        )
        return app

    _add_http(site, group, build)
    return group


def _data(site: Site) -> Group:
    group, database = _new_group(site, "data")
    settings, jobs = site.configuration.data, site.configuration.jobs
    vault = Vault(site.keys)

    guard = site.guard()
    peers = _add_peers(site, group)

    async def run_jobs(child: ChildContext) -> None:
        pool = database.get()
        kinds = {
            INGEST: ingest_kind(pool, vault, group.threads, settings, guard=guard, pool=group.pool),
            IMPORT_MASTER_DATA: master_data_kind(pool, vault, guard, group.threads),
            TEST_CONNECTION: connection_test_kind(pool, vault, guard, group.threads),
            **erasure_kinds(pool, vault),
            RECONCILE: reconcile_kind(pool, vault, group.threads, settings, guard=guard),
            DERIVE_AGAIN: derive_kind(pool, vault),
            RETENTION: retention_kind(pool, vault),
        }
        runner = JobRunner(
            group.name,
            kinds,
            pool=group.pool,
            database=database.get,
            settings=RunnerSettings(
                lease=jobs.lease,
                poll=jobs.poll,
                history_days=jobs.history_days,
                # Within the grace, and with time to hand back what is interrupted: whoever is cut
                # off at its end cannot, and an attempt is lost.
                drain=max(0.2, min(5.0, site.configuration.shutdown.grace / 2 - 1)),
            ),
        )
        await runner.child_spec().start(child)

    group.add_actor(ChildSpec(name="jobs", start=run_jobs, kind="job_runner"))

    async def sweep(child: ChildContext) -> None:
        child.started()
        await sweep_answers(database.get(), child.stopping)

    group.add_actor(ChildSpec(name="sweeper", start=sweep))

    async def look_after(child: ChildContext) -> None:
        child.started()
        await look_after_days(database.get(), child.stopping)

    group.add_actor(ChildSpec(name="upkeep", start=look_after))
    # For the schedules of all groups: a slot is a row and a job, whoever runs the latter.
    group.add_actor(Scheduler(database=database.get).child_spec())

    def build() -> Application:
        app = _application(
            site,
            group,
            database.get(),
            _credentials(site, database.get(), peers.get()),
            description="Extraction, jobs and what is available.",
            settings=site.http(cors_origins=(origin_of(site.dashboard_url),)),
        )
        data_routes.declare(
            app.api,
            database.get(),
            maximum_days=settings.maximum_days,
            maximum_schedules=settings.maximum_schedules,
        )
        data_imports.declare(app.api, database.get(), guard)
        return app

    _add_http(site, group, build)
    return group


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


def _analytics(site: Site) -> Group:
    group, database = _new_group(site, "analytics")
    addresses = pages.Addresses(site.auth_url, site.dashboard_url, site.data_url)
    auth_origin, data_origin = origin_of(site.auth_url), origin_of(site.data_url)
    peers = _add_peers(site, group)
    settings = site.configuration.analytics
    cache: AnswerCache[Question] = AnswerCache(settings.answer_cache * MiB)
    vault, guard = Vault(site.keys), site.guard()
    workshop = group.resource("workshop", open_workshop)

    def press() -> Press:
        reader = ReportReader(Answers(database.get()), every_list())
        return Press(reader, workshop.get(), site.dashboard_url)

    _add_reports(site, group, database, press)

    @asynccontextmanager
    async def open_answering() -> AsyncIterator[Answering]:
        yield Answering(Answers(database.get()), cache=cache)

    # Shared by who asks and who keeps it current; made anew with the pool that it reads from.
    answering = group.resource("answering", open_answering)

    def kept() -> list[Gauge]:
        found = cache.statistics()
        return [
            Gauge("troupe_answers_kept", "Answers in memory.", found.answers),
            Gauge("troupe_answers_kept_bytes", "What they take.", found.size_bytes),
            Gauge("troupe_answers_found", "Questions answered from memory.", found.hits),
            Gauge("troupe_answers_computed", "Questions not found there.", found.misses),
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
        await follow_everybody(database.get(), bell, child.stopping)

    group.add_actor(ChildSpec(name="tasks", start=follow_data))

    async def watch(child: ChildContext) -> None:
        child.started()
        await watch_everybody(database.get(), vault, guard, child.stopping)

    group.add_actor(ChildSpec(name="alerts", start=watch))

    def build() -> Application:
        credentials = _credentials(site, database.get(), peers.get())
        app = _application(
            site,
            group,
            database.get(),
            credentials,
            description="Figures of the shop, and the dashboard.",
            own_gauges=kept,
            settings=site.http(
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
        reports.declare(app.api, Desk(store, press()))
        pages.declare(app, answering.get(), addresses, alerts, store)
        app.front = KeptAnswers(app, answering.get(), credentials)
        return app

    _add_http(site, group, build)
    return group
