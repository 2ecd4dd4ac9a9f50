"""What every group has: a pool of tasks and of connections, an application, a server."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from troupe.actors.auth.peer_http import PeerHttp
from troupe.actors.auth.provider_tokens import ProviderTokens
from troupe.actors.auth.relying_party import RelyingParty
from troupe.actors.auth.return_address import origin_of
from troupe.common.database import Database, open_database
from troupe.common.secrets import Vault
from troupe.http.admission import Limits
from troupe.http.application import OWN_PAGE_POLICY, Application, HttpSettings, create_app
from troupe.http.credentials import CookiePolicy, Credentials
from troupe.http.idempotency import PostgresIdempotencyStore
from troupe.http.operations import Gauge, Readiness
from troupe.http.security import Rate
from troupe.http.server import serve
from troupe.platform.group import Group, Resource
from troupe.platform.supervision import ChildContext, ChildSpec
from troupe.wiring.site import Site, pool_settings


def http_settings(
    site: Site,
    *,
    public_url: str = "",
    cors_origins: tuple[str, ...] = (),
    page_policy: str = OWN_PAGE_POLICY,
) -> HttpSettings:
    """Settings of one application; the session's cookie is the same on all three."""
    told = site.configuration.http
    return HttpSettings(
        public_origins=(origin_of(public_url),) if public_url else (),
        cors_origins=(*cors_origins, *told.cors_origins),
        trusted_proxies=told.trusted_proxies,
        address_rate=Rate(told.address_rate, burst=told.address_rate // 4),
        principal_rate=Rate(told.account_rate, burst=told.account_rate // 12),
        tenant_rate=Rate(told.tenant_rate, burst=told.tenant_rate // 12),
        page_policy=page_policy,
        session_cookie=CookiePolicy.under(site.auth_url).session,
    )


def new_group(site: Site, name: str) -> tuple[Group, Resource[Database]]:
    """A group without children, and its connections, whose number follows its sizes."""
    settings = site.settings(name)
    group = Group(
        name,
        tasks=settings.tasks,
        mailbox=settings.mailbox,
        database_connections=settings.database_connections,
        keep_off=site.left_to_others(name),
    )
    resource = add_database(
        site,
        group,
        "database",
        connections=lambda: group.sizes.database_connections,
        niceness=settings.niceness,
    )

    def fit() -> None:
        if (pool := resource.held) is not None:
            pool.resize(group.sizes.database_connections)

    group.when_resized(fit)
    return group, resource


def add_database(
    site: Site, group: Group, name: str, *, connections: Callable[[], int], niceness: int
) -> Resource[Database]:
    """A pool of connections for the group.

    Args:
        site: Of the group.
        group: Which holds the pool.
        name: Of the resource.
        connections: At most, when the pool is opened.
        niceness: How far its sessions give way to others.
    """
    database = site.configuration.database

    def open_pool() -> AbstractAsyncContextManager[Database]:
        return open_database(
            site.runtime_url(),
            connections=connections(),
            application_name=f"troupe {site.instance or group.name}",
            listen_url=database.listen_url.get_secret_value() or None,
            settings=pool_settings(site.configuration, niceness=niceness, keep_off=site.reserved),
        )

    return group.resource(name, open_pool)


def add_peers(site: Site, group: Group) -> Resource[PeerHttp]:
    """Let the group speak to the hosts that tenants name."""
    guard = site.guard()
    return group.resource("peers", lambda: PeerHttp(guard))


def credentials_of(site: Site, database: Database, peers: PeerHttp) -> Credentials:
    """What reads the credentials of requests; each group asks identity providers for itself."""
    tokens = ProviderTokens(database, Vault(site.keys), RelyingParty(peers))
    return Credentials(database, provider_tokens=tokens)


def add_http(site: Site, group: Group, build: Callable[[], Application]) -> None:
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
            limits=replace(limits, body_bytes=app.largest_body, body=app.settings.body_deadline),
            task_status=child,
        )

    # The server's own deadlines end it within its drain; the rest is room for them to work.
    group.add_service(ChildSpec(name="http", start=start, shutdown=grace + 3.0, kind="service"))


def application(
    site: Site,
    group: Group,
    database: Database,
    credentials: Credentials,
    *,
    description: str,
    settings: HttpSettings,
    own_gauges: Callable[[], list[Gauge]] = list,
) -> Application:
    """An application with what all of them answer; the group declares its own routes on it."""

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
