"""Tenants and what they may set about themselves.

A tenant is made, deactivated and activated again by the operator, or deactivated by its owner: from
then on nobody gets in, no schedule and no job of it does anything, and everything is kept. Deleting
it is `troupe.actors.auth.erasure`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal
from zoneinfo import available_timezones

from pydantic import ValidationError

from troupe.actors.auth.audit import OPERATOR, QUERIES, Actor, append
from troupe.common.database import Database
from troupe.common.errors import InvalidInput, NotFound, PreconditionFailed
from troupe.common.ids import TenantId, new_id
from troupe.common.tenant_settings import TenantSettings

if TYPE_CHECKING:
    import asyncpg

__all__ = [
    "Tenant",
    "TenantChange",
    "change_tenant",
    "create_tenant",
    "load_tenant",
    "set_tenant_state",
]

_MAX_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class Tenant:
    """A customer company.

    Attributes:
        reporting_time_zone: Days of a report are days there.
        reporting_currency: ISO 4217.
        week_start: 1 is Monday, 7 is Sunday.
        version: Rises by one with each change.
    """

    tenant_id: TenantId
    name: str
    state: Literal["active", "deactivated"]
    reporting_time_zone: str
    reporting_currency: str
    week_start: int
    settings: TenantSettings
    version: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class TenantChange:
    """What to change; None leaves as it is. `settings` names only those that change."""

    name: str | None = None
    reporting_time_zone: str | None = None
    reporting_currency: str | None = None
    week_start: int | None = None
    settings: dict[str, Any] | None = None

    def fields(self) -> list[str]:
        """Names of what changes, for the audit log."""
        named = ("name", "reporting_time_zone", "reporting_currency", "week_start")
        changed = [field for field in named if getattr(self, field) is not None]
        return changed + [f"settings.{name}" for name in sorted(self.settings or {})]


def _check(name: str, time_zone: str, currency: str, week_start: int) -> None:
    problems = []
    if not 1 <= len(name) <= _MAX_NAME or name != name.strip() or not name.isprintable():
        problems.append(("/name", f"must have 1 to {_MAX_NAME} characters, no outer spaces"))
    # Names without a slash (MET) and those of other clocks (right/…) do not mean the same to
    # PostgreSQL and to us.
    known = time_zone in available_timezones() and not time_zone.startswith(("posix/", "right/"))
    if not known or ("/" not in time_zone and time_zone != "UTC"):
        problems.append(("/reporting_time_zone", "must be a time zone, such as Europe/Berlin"))
    if not (
        len(currency) == 3 and currency.isascii() and currency.isalpha() and currency.isupper()
    ):
        problems.append(("/reporting_currency", "must be a currency's code, such as EUR"))
    if not 1 <= week_start <= 7:
        problems.append(("/week_start", "must be 1 (Monday) to 7 (Sunday)"))
    if problems:
        raise InvalidInput("The tenant is not valid.", problems)


def _settings(present: TenantSettings, change: dict[str, Any]) -> TenantSettings:
    try:
        return TenantSettings.model_validate({**present.model_dump(), **change})
    except ValidationError as error:
        pointers = [
            ("/settings/" + "/".join(map(str, finding["loc"])), finding["msg"])
            for finding in error.errors(include_url=False, include_input=False)
        ]
        raise InvalidInput("The tenant's settings are not valid.", pointers) from None


def _tenant(row: "asyncpg.Record") -> Tenant:
    fields = dict(row.items())
    return Tenant(**fields | {"settings": TenantSettings.model_validate(fields["settings"])})


async def create_tenant(
    database: Database,
    name: str,
    *,
    reporting_time_zone: str = "UTC",
    reporting_currency: str = "EUR",
    week_start: int = 1,
    settings: TenantSettings | None = None,
    actor: Actor = OPERATOR,
) -> TenantId:
    """Make a tenant.

    Raises:
        InvalidInput: A field is not valid.
    """
    _check(name, reporting_time_zone, reporting_currency, week_start)
    tenant = TenantId(new_id())
    chosen = (settings or TenantSettings()).model_dump(mode="json")

    async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        await connection.execute(
            QUERIES["create_tenant"],
            tenant,
            name,
            reporting_time_zone,
            reporting_currency,
            week_start,
            chosen,
        )
        await append(connection, actor, "tenant.created", str(tenant), {"name": name})

    await database.run(unit, tenant=tenant)
    return tenant


async def load_tenant(database: Database, tenant: TenantId) -> Tenant:
    """Read a tenant.

    Raises:
        NotFound: There is none.
    """
    row = await database.fetch_row(QUERIES["tenant"], tenant, tenant=tenant)
    if row is None:
        raise NotFound("There is no such tenant.")
    return _tenant(row)


async def change_tenant(
    database: Database, tenant: TenantId, change: TenantChange, *, version: int, actor: Actor
) -> Tenant:
    """Change a tenant that has not changed since `version` was read.

    Raises:
        NotFound: There is no such tenant.
        PreconditionFailed: It has changed.
        InvalidInput: A field is not valid.
    """

    async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> Tenant:
        row = await connection.fetchrow(QUERIES["tenant"], tenant)
        if row is None:
            raise NotFound("There is no such tenant.")
        present = _tenant(row)
        name = present.name if change.name is None else change.name
        zone = change.reporting_time_zone or present.reporting_time_zone
        currency = change.reporting_currency or present.reporting_currency
        week_start = present.week_start if change.week_start is None else change.week_start
        _check(name, zone, currency, week_start)
        settings = _settings(present.settings, change.settings or {})
        changed = await connection.fetchrow(
            QUERIES["change_tenant"],
            tenant,
            version,
            name,
            zone,
            currency,
            week_start,
            settings.model_dump(mode="json"),
        )
        if changed is None:
            raise PreconditionFailed("The tenant was changed since you have read it.")
        detail = {"fields": change.fields()}
        await append(connection, actor, "tenant.changed", str(tenant), detail)
        return _tenant(changed)

    return await database.run(unit, tenant=tenant)


async def set_tenant_state(
    database: Database,
    tenant: TenantId,
    state: Literal["active", "deactivated"],
    *,
    actor: Actor = OPERATOR,
) -> Tenant:
    """Deactivate a tenant, or activate it again; within two seconds nobody gets in, or all do.

    Raises:
        NotFound: There is no such tenant.
    """

    async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> Tenant:
        changed = await connection.fetchrow(QUERIES["set_tenant_state"], tenant, state)
        if changed is not None:
            action = "tenant.activated" if state == "active" else "tenant.deactivated"
            await append(connection, actor, action, str(tenant))
            return _tenant(changed)
        row = await connection.fetchrow(QUERIES["tenant"], tenant)
        if row is None:
            raise NotFound("There is no such tenant.")
        return _tenant(row)

    return await database.run(unit, tenant=tenant)
