"""The pages on which a tenant is set up: its settings, and the systems that it is connected to.

Everybody may look at the settings, as over the API; connections are an administrator's. What is
read here is read from PostgreSQL, in this group's own pool and under the tenant's row-level
security; what is changed is changed by the browser over the auth group's API, with the entity tag
of what the page has shown. So nobody overwrites what they have not seen.
"""

from dataclasses import dataclass
from typing import Final, get_args

from troupe.actors.analytics.answers import Answers
from troupe.actors.auth.tenants import load_tenant
from troupe.common.connections import ConnectionKind
from troupe.http.dashboard.connection_forms import read_connection_form
from troupe.http.dashboard.frame import PAGE, Frame
from troupe.http.dashboard.tenant_forms import currencies, sections_of, zones
from troupe.http.declaration import Answer
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api
from troupe.http.tenants import connection_tag, tag_of

SECTION: Final = "settings"
KINDS: Final[tuple[ConnectionKind, ...]] = get_args(ConnectionKind)


@dataclass(frozen=True, slots=True)
class Tab:
    """One of the pages of a section.

    Attributes:
        title: For people.
        path: Its address.
        least: Role below which it is not shown.
    """

    title: str
    path: str
    least: Role = Role.VIEWER


TABS: Final = (
    Tab("General", "/settings"),
    Tab("Connections", "/settings/connections", Role.ADMIN),
    Tab("Logins", "/settings/logins", Role.ADMIN),
    Tab("Alerts", "/settings/alerts"),
    Tab("Data and privacy", "/settings/privacy", Role.ADMIN),
    Tab("Audit log", "/settings/audit", Role.ADMIN),
)


def tabs_for(role: Role) -> tuple[Tab, ...]:
    """The pages of the settings that somebody may see."""
    return tuple(tab for tab in TABS if role >= tab.least)


def declare(api: Api, frame: Frame, answers: Answers) -> None:
    """Declare the pages.

    Args:
        api: Of the analytics group's application.
        frame: Renders them.
        answers: Over the group's pool.
    """
    database = answers.database

    @api.get(
        "/settings",
        requires=Role.VIEWER,
        answers={200: PAGE},
        summary="The page of a tenant's settings",
    )
    async def settings_page(*, principal: Principal) -> Answer:
        tenant = await load_tenant(database, principal.tenant_id)
        return await frame.page(
            "settings.html",
            section=SECTION,
            principal=principal,
            tabs=tabs_for(principal.role),
            tenant=tenant,
            sections=sections_of(tenant),
            etag=tag_of(tenant),
            zones=zones(),
            currencies=currencies(),
            may_change=principal.role >= Role.ADMIN,
        )

    @api.get(
        "/settings/connections",
        requires=Role.ADMIN,
        answers={200: PAGE},
        summary="The page of a tenant's connections",
    )
    async def connections_page(*, principal: Principal) -> Answer:
        found = [await read_connection_form(database, principal.tenant_id, kind) for kind in KINDS]
        return await frame.page(
            "connections.html",
            section=SECTION,
            principal=principal,
            tabs=tabs_for(principal.role),
            connections=found,
        )

    @api.get(
        "/settings/connections/<any(bigquery, sftp, smtp):kind>",
        requires=Role.ADMIN,
        answers={200: PAGE},
        summary="The page of one connection",
    )
    async def connection_page(*, principal: Principal, kind: ConnectionKind) -> Answer:
        found = await read_connection_form(database, principal.tenant_id, kind)
        return await frame.page(
            "connection.html",
            section=SECTION,
            principal=principal,
            tabs=tabs_for(principal.role),
            connection=found,
            etag=connection_tag(principal.tenant_id, kind, found.version),
            zones=zones(),
        )
