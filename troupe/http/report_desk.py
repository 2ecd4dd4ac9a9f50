"""What the routes of reports share: what they work with, tags, cursors, who acts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast
from uuid import UUID

from troupe.actors.analytics.reports.statements import Actor
from troupe.actors.analytics.reports.store import ReportStore
from troupe.actors.analytics.reports.writing import Press
from troupe.http.conventions import decode_cursor, entity_tag
from troupe.http.credentials import ResolvedPrincipal
from troupe.http.principal import Principal

TAG: Final = "reports"

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The present instant."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Desk:
    """What the routes work with.

    Attributes:
        store: Recipients, schedules, runs and deliveries.
        press: Writes mails.
        clock: The present instant.
    """

    store: ReportStore
    press: Press
    clock: Clock = utc_now


def tag_of(*parts: object) -> str:
    """An entity tag."""
    return entity_tag("report", *parts)


def place_of(cursor: str | None, order: str) -> UUID | None:
    """The row that a cursor continues after."""
    return None if not cursor else cast("UUID", decode_cursor(cursor, order, (UUID,))[0])


def without_nulls(values: Mapping[str, Any], *, except_for: str) -> dict[str, Any]:
    """What was given; null says nothing but where it has a meaning."""
    return {
        name: value for name, value in values.items() if value is not None or name == except_for
    }


def actor_of(principal: Principal) -> Actor:
    """Who is acting, for the audit log."""
    if principal.kind == "session":
        return "user", principal.subject_id
    return "token", cast("ResolvedPrincipal", principal).credential_id
