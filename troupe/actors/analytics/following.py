"""Tasks follow the data: after every load, and when a cart has been left alone for long enough.

The problem: what salespeople work through is derived from days that are loaded again and again, but
what they made of it (a status, a note, who cares for it) must outlive every load. Lists that are
computed when they are asked for would have nowhere to keep that, and a task that is copied once
would never hear of the purchase that settles it.

So tasks are rows of their own with two halves. Everything that the data shows is put onto a bench,
told apart by subjects that a reload gives again, and merged: what is there is renewed, what is new
is raised, what is gone is forgotten unless somebody has worked on it. Doing it twice changes
nothing; doing it after a load that was torn in pieces gives the same as after a whole one.

What it costs: all of a tenant's derived tables (not its events) are read each time, a second or
two for a large shop, some seconds behind the load. In exchange there is no bookkeeping of what a
load has changed that could be wrong. Rejected: deriving tasks inside the publication, which would
hold the lock on the tenant's version for longer and let a mistake here keep days from being loaded.

Any number of instances may look; a tenant is followed by one at a time, the others skip it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import trio
from pydantic import ValidationError

from troupe.actors.analytics.spacing import Candidate, Person, refused
from troupe.common.database import Database
from troupe.common.errors import DeadlineExceeded
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger
from troupe.common.sql import load
from troupe.common.tenant_settings import TenantSettings
from troupe.common.tenants import active_tenants
from troupe.common.units import HOURS, MINUTES, SECONDS

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

FOLLOWING: Final = load(__package__, "following.sql")
RULES: Final = 1
"""Raise it when the data would give other tasks now; all tenants are then followed anew."""
LOOK_PAUSE: Final = 30 * SECONDS
QUIET: Final = 1 * SECONDS
"""A backfill publishes many days within a minute."""
RESTS: Final = 4
"""Times as long as it took: while days pour in, following takes a fifth of a processor at most."""
LONGEST_REST: Final = 10 * SECONDS
"""Whoever was loaded last must not wait because there are many tenants."""
DEADLINE: Final = 5 * MINUTES
FRESH: Final = 1 * HOURS
"""After so long it is done in any case: master data may have new telephone numbers."""

_log = get_logger(__name__)


class TaskKind(StrEnum):
    """What a task is about; the name is part of the list's address."""

    PURCHASES = "purchases"
    CARTS = "cart-abandonment"
    SEARCHES = "search-analysis"
    VISITS = "repeat-visits"


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides which tasks a tenant's data gives.

    Attributes:
        tenant: Whose.
        currency: Of reports.
        zone: Of reports.
        settings: Cooldown, how many visits within how many days, retention.
        now: The moment for which it is done.
    """

    tenant: TenantId
    currency: str
    zone: str
    settings: TenantSettings
    now: datetime

    @property
    def kept_from(self) -> datetime:
        """First instant of the first day that is kept."""
        zone = ZoneInfo(self.zone)
        first = self.settings.first_kept(self.now.astimezone(zone).date())
        return datetime.combine(first, datetime.min.time(), zone)

    def followed_as(self, data_version: int) -> str:
        """Says how and for which data it is done; kept, to compare later."""
        settings = self.settings
        words = (
            RULES,
            data_version,
            self.currency,
            settings.cart_cooldown_days,
            settings.repeat_visit_sessions,
            settings.repeat_visit_days,
            settings.retention_days,
        )
        return " ".join(map(str, words))


@dataclass(frozen=True, slots=True)
class _Standing:
    """How far the tasks of a tenant follow its data.

    Attributes:
        rules: What they are to follow.
        wanted: `Rules.followed_as` of the present data.
        followed: Whether they were last followed as that.
        due: Whether there is something to do although nothing was loaded.
    """

    rules: Rules
    wanted: str
    followed: bool
    due: bool


async def _standing_of(connection: "Connection", tenant: TenantId) -> _Standing | None:
    row = await connection.fetchrow(FOLLOWING["standing"], tenant, FRESH)
    if row is None:
        return None
    rules = Rules(
        tenant,
        row["reporting_currency"],
        row["reporting_time_zone"],
        TenantSettings.model_validate(row["settings"]),
        row["now"],
    )
    wanted = rules.followed_as(row["data_version"])
    return _Standing(rules, wanted, wanted == row["followed_as"], row["due"])


async def have_followed(connection: "Connection", tenant: TenantId) -> bool:
    """Whether the tasks of a tenant are those of the data that this transaction sees.

    False, too, of a tenant that is not active or whose settings cannot be used: its tasks stand
    still.
    """
    try:
        standing = await _standing_of(connection, tenant)
    except ValidationError:
        return False  # `follow_once` says why
    return standing is not None and standing.followed


async def follow_tenant(connection: "Connection", tenant: TenantId) -> bool:
    """Have the tasks of a tenant follow its data, if they do not; inside its transaction.

    Returns:
        Whether there was something to do, and nobody else at it.

    Raises:
        ValidationError: The tenant's stored settings cannot be used.
    """
    standing = await _standing_of(connection, tenant)
    if standing is None or (standing.followed and not standing.due):
        return False
    await connection.execute(FOLLOWING["ensure_followed"], tenant)
    if await connection.fetchrow(FOLLOWING["lock_followed"], tenant) is None:
        return False
    await follow(connection, standing.rules)
    # What was loaded since the look above is seen by some of these statements and not by others; it
    # has raised the version, so the next look finds something to do.
    await connection.execute(
        FOLLOWING["note_followed"], tenant, standing.wanted, standing.rules.now
    )
    return True


async def follow(connection: "Connection", rules: Rules) -> None:
    """Have all tasks follow the data, inside the tenant's transaction."""
    tenant, settings = rules.tenant, rules.settings
    never = timedelta(0)
    await connection.execute(FOLLOWING["open_bench"])
    for kind, arguments, cooldown in (
        (TaskKind.PURCHASES, (), never),
        (
            TaskKind.CARTS,
            (rules.now, rules.currency),
            timedelta(days=settings.cart_cooldown_days),
        ),
        (TaskKind.SEARCHES, (rules.currency,), never),
        (
            TaskKind.VISITS,
            (settings.repeat_visit_sessions, settings.repeat_visit_days, rules.currency),
            timedelta(days=settings.repeat_visit_days),
        ),
    ):
        await connection.execute(FOLLOWING["clear_bench"])
        await connection.execute(FOLLOWING[_FINDING[kind]], tenant, *arguments)
        await connection.execute(FOLLOWING["measure_bench"])
        await _merge(connection, rules, kind, cooldown)


_FINDING: Final = {
    TaskKind.PURCHASES: "find_purchases",
    TaskKind.CARTS: "find_carts",
    TaskKind.SEARCHES: "find_searches",
    TaskKind.VISITS: "find_visits",
}


async def _merge(
    connection: "Connection", rules: Rules, kind: TaskKind, cooldown: timedelta
) -> None:
    tenant = rules.tenant
    if kind is TaskKind.CARTS:
        await connection.execute(FOLLOWING["rekey_carts"], tenant)
    if cooldown:
        await _drop_refused(connection, tenant, kind, cooldown)
    if kind is TaskKind.VISITS:
        await connection.execute(FOLLOWING["read_once"])
        await connection.execute(FOLLOWING["add_products"], tenant)
        await connection.execute(FOLLOWING["read_as_estimated"])
    await connection.execute(FOLLOWING["settle"], tenant, kind)
    await connection.execute(FOLLOWING["renew"], tenant, kind)
    await connection.execute(FOLLOWING["raise"], tenant, kind)
    await connection.execute(FOLLOWING["forget"], tenant, kind, rules.kept_from)


async def _drop_refused(
    connection: "Connection", tenant: TenantId, kind: TaskKind, cooldown: timedelta
) -> None:
    rows = await connection.fetch(FOLLOWING["candidates"], tenant, kind)
    candidates = [Candidate(row["subject"], _person(row), row["raised_at"]) for row in rows]
    persons = sorted({candidate.person.person_id for candidate in candidates})
    raised = await connection.fetch(FOLLOWING["raised"], tenant, kind, persons)
    subjects = refused(candidates, [(_person(row), row["raised_at"]) for row in raised], cooldown)
    if subjects:
        await connection.execute(FOLLOWING["drop_candidates"], subjects)


def _person(row: "asyncpg.Record") -> Person:
    return Person(row["is_customer"], row["person_id"])


class Bell:
    """Wakes whoever follows: tenants of which something was heard."""

    def __init__(self) -> None:
        self._heard: set[TenantId] = set()
        self._rung = trio.Event()

    def ring(self, tenant: TenantId) -> None:
        """Something of this tenant has changed."""
        self._heard.add(tenant)
        self._rung.set()

    async def wait(self) -> set[TenantId]:
        """Tenants of which something was heard: those of `QUIET` seconds together."""
        await self._rung.wait()
        await trio.sleep(QUIET)
        heard, self._heard, self._rung = self._heard, set(), trio.Event()
        return heard


async def follow_once(database: Database, tenant: TenantId) -> bool:
    """`follow_tenant` in a transaction of its own; a tenant that cannot be followed waits.

    Raises:
        DatabaseError: PostgreSQL failed.
    """

    async def unit(connection: Any) -> bool:
        return await follow_tenant(connection, tenant)

    try:
        return await database.run(unit, tenant=tenant, deadline=DEADLINE)
    # Whatever it is, the other tenants must not wait for this one.
    except ValidationError as error:
        wrong = "; ".join(finding["msg"] for finding in error.errors(include_input=False))
        _log.warning("tenant_settings_unusable", tenant_id=str(tenant), problem=wrong)
    except DeadlineExceeded as error:
        _log.warning("tasks_not_followed", tenant_id=str(tenant), problem=str(error))
    return False


async def follow_everybody(database: Database, bell: Bell, stopping: trio.Event) -> None:
    """Look at every tenant twice a minute, and at one of which something was heard at once.

    Args:
        database: The group's pool.
        bell: Rings when something was heard.
        stopping: Ends it.

    Raises:
        DatabaseError: PostgreSQL is away; whoever supervises this starts it again.
    """
    look_again = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def end() -> None:
            await stopping.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(end)
        while True:
            heard: set[TenantId] | None = None
            with trio.move_on_at(look_again):
                heard = await bell.wait()
            if heard is None:
                look_again = trio.current_time() + LOOK_PAUSE
            began = trio.current_time()
            active = await active_tenants(database)
            for tenant in active if heard is None else sorted(heard.intersection(active)):
                await follow_once(database, tenant)
            rest = RESTS * (trio.current_time() - began)
            await trio.sleep(min(rest, LONGEST_REST))
