"""The auth group's application on a real socket, the development provider, and a browser."""

import ipaddress
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import httpx2
import trio

from tests.support.postgres import TestDatabase
from troupe.actors.auth.backchannel import BackchannelLogouts
from troupe.actors.auth.login import Logins, LoginSettings
from troupe.actors.auth.members import Role, add_member
from troupe.actors.auth.peer_http import PeerHttp
from troupe.actors.auth.provider_tokens import ProviderTokens
from troupe.actors.auth.providers import put_identity_provider
from troupe.actors.auth.refreshes import Refresher, RefreshSettings
from troupe.actors.auth.relying_party import RelyingParty
from troupe.actors.auth.tenants import create_tenant
from troupe.common.bridge import aio
from troupe.common.database import Database
from troupe.common.ids import TenantId
from troupe.common.outbound import OutboundGuard
from troupe.common.secrets import KeyRing, Vault
from troupe.common.units import SECONDS
from troupe.http import auth as auth_routes
from troupe.http.application import HttpSettings, create_app
from troupe.http.credentials import CookiePolicy, Credentials
from troupe.http.idempotency import PostgresIdempotencyStore
from troupe.http.server import bind, serve, url_of

WAIT: Final = 20 * SECONDS
CLIENT_ID: Final = "troupe"
CLIENT_SECRET: Final = "client-secret-canary: +/%"
DASHBOARD: Final = "http://127.0.0.1:18001"
KEYS: Final = KeyRing([b"k" * 32])
LOOPBACK: Final = OutboundGuard([ipaddress.ip_network("127.0.0.0/8")])

USERS: Final = {
    "ada": {"sub": "sub-ada", "name": "Ada Lovelace", "email": "ada@harbor.example"},
    "grace": {"sub": "sub-grace", "name": "Grace Hopper", "email": "grace@tools.example"},
    "eve": {"sub": "sub-eve", "name": "Eve", "email": "eve@elsewhere.example"},
}
PASSWORD: Final = "correct horse"


@dataclass
class DevelopmentProvider:
    """The companion process and its configuration file, which it reads for every request."""

    issuer: str
    path: Path

    def register(self, *, callback: str, home: str, **changes: Any) -> None:
        """Make the provider know one relying party, and the people above."""
        client = {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "redirect_uris": [callback],
            "post_logout_redirect_uris": [home],
        }
        users = [{"username": name, "password": PASSWORD, **user} for name, user in USERS.items()]
        self.path.write_text(
            json.dumps({"clients": [client | changes], "users": users}), encoding="utf-8"
        )


@dataclass
class Site:
    """Everything that a test needs; tenants `harbor` and `tools` log in at the same provider."""

    url: str
    database: Database
    admin_url: str
    vault: Vault
    credentials: Credentials
    logins: Logins
    refresher: Refresher
    provider: DevelopmentProvider
    harbor: TenantId = field(init=False)
    tools: TenantId = field(init=False)
    providers: dict[TenantId, UUID] = field(default_factory=dict)

    async def create_tenants(self) -> None:
        """Two tenants, each with the provider."""
        self.harbor = await create_tenant(self.database, "Harbor")
        self.tools = await create_tenant(self.database, "Tools")
        for tenant in (self.harbor, self.tools):
            await self.put_provider(tenant)

    async def put_provider(self, tenant: TenantId, **changes: Any) -> None:
        """Set up the development provider for a tenant, or change how it is set up."""
        settings: dict[str, Any] = {
            "label": "Development",
            "issuer": self.provider.issuer,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "scopes": ("openid", "email", "profile", "offline_access"),
            "listed": True,
        }
        self.providers[tenant] = await put_identity_provider(
            self.database, self.vault, tenant, **settings | changes
        )

    async def add(self, tenant: TenantId, username: str, role: Role) -> UUID:
        """Make one of the people above a member."""
        return await add_member(
            self.database,
            tenant,
            issuer=self.provider.issuer,
            subject=USERS[username]["sub"],
            role=role,
        )

    async def admin(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """Rows of a statement of the superuser, who looks behind row-level security."""

        async def work() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self.admin_url)
            try:
                rows: list[asyncpg.Record] = await connection.fetch(sql, *arguments)
                return rows
            finally:
                await connection.close()

        return await aio(work())


class Browser:
    """Follows redirects one by one, keeps cookies, fills in the provider's form."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.client = httpx2.AsyncClient(timeout=WAIT, headers={"Accept": "text/html"})

    async def get(self, url: str, **arguments: Any) -> httpx2.Response:
        """GET, without following."""
        address = url if urlsplit(url).scheme else self.site.url + url
        return await self.client.get(address, **arguments)

    async def to_provider(self, tenant: TenantId, **query: str) -> httpx2.Response:
        """Open the login link; the provider's answer, which is its form for who is new there."""
        answer = await self.get("/api/v1/login", params={"tenant": str(tenant), **query})
        assert answer.status_code == 303, answer.text
        return await self.get(answer.headers["Location"])

    async def submit(
        self, form: httpx2.Response, username: str, password: str = PASSWORD, action: str = "login"
    ) -> httpx2.Response:
        """Send the provider's form."""
        found = re.search('name="interaction" value="([^"]+)"', form.text)
        assert found is not None, form.text
        return await self.client.post(
            f"{self.site.provider.issuer}/login",
            data={
                "interaction": found[1],
                "username": username,
                "password": password,
                "action": action,
            },
        )

    async def callback_url(self, tenant: TenantId, username: str, **query: str) -> str:
        """Log in at the provider; the address at which it sends the browser back."""
        answer = await self.to_provider(tenant, **query)
        if answer.status_code == 200:
            answer = await self.submit(answer, username)
        assert answer.status_code == 303, answer.text
        location: str = answer.headers["Location"]
        return location

    async def log_in(self, tenant: TenantId, username: str, **query: str) -> httpx2.Response:
        """The whole way; our answer to the callback."""
        return await self.get(await self.callback_url(tenant, username, **query))

    async def api(self, path: str, **arguments: Any) -> httpx2.Response:
        """GET from the API, as a program would ask."""
        return await self.get(path, headers={"Accept": "application/json"}, **arguments)

    async def send(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **arguments: Any
    ) -> httpx2.Response:
        """An unsafe request with the session's CSRF token and our own origin."""
        me = await self.api("/api/v1/me")
        proof = {"X-CSRF-Token": me.json().get("csrf_token") or "", "Origin": self.site.url}
        return await self.client.request(
            method, self.site.url + path, headers={**proof, **(headers or {})}, **arguments
        )


@asynccontextmanager
async def open_site(
    database: Database,
    server: TestDatabase,
    provider: DevelopmentProvider,
    refresh: RefreshSettings | None = None,
    **limits: float,
) -> AsyncIterator[Site]:
    """Serve the auth group's application while the context is open."""
    listener = bind("127.0.0.1", 0)
    url = url_of(listener)
    addresses = auth_routes.Addresses(public_url=url, dashboard_url=DASHBOARD)
    vault = Vault(KEYS)
    refresh = refresh or RefreshSettings()
    stop = trio.Event()
    with listener:
        async with PeerHttp(LOOPBACK) as http:
            party = RelyingParty(http)
            credentials = Credentials(
                database, provider_tokens=ProviderTokens(database, vault, party)
            )
            settings = LoginSettings(
                callback_url=addresses.callback,
                home_url=addresses.home,
                refresh=refresh,
                **limits,
            )
            logins = Logins(database, vault, party, settings)
            app = create_app(
                "auth",
                resolver=credentials,
                settings=HttpSettings(
                    public_origins=(url,),
                    cors_origins=(DASHBOARD,),
                    session_cookie=CookiePolicy.under(url).session,
                ),
                idempotency=PostgresIdempotencyStore(database),
            )
            auth_routes.declare(
                app,
                database=database,
                vault=vault,
                logins=logins,
                logouts=BackchannelLogouts(database, RelyingParty(http)),
                credentials=credentials,
                addresses=addresses,
                peers=http,
            )
            provider.register(callback=addresses.callback, home=addresses.home)
            refresher = Refresher(database, vault, party, refresh, lease=2)
            site = Site(
                url, database, server.admin_url, vault, credentials, logins, refresher, provider
            )
            await site.create_tenants()
            async with trio.open_nursery() as nursery:

                async def serving(task_status: trio.TaskStatus[list[str]]) -> None:
                    await serve(app, [listener], shutdown=stop, task_status=task_status)

                await nursery.start(serving)
                yield site
                stop.set()
