"""What the routes of reports share: what they work with, tags, cursors, who acts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

from pydantic import BaseModel

from troupe.actors.analytics.reports.statements import Actor
from troupe.actors.analytics.reports.store import ReportStore
from troupe.actors.analytics.reports.writing import Press
from troupe.http.conventions import CursorValue, decode_cursor, encode_cursor, entity_tag
from troupe.http.credentials import ResolvedPrincipal
from troupe.http.principal import Principal

TAG: Final = "reports"

NO_NAMES: Final[Mapping[str, str]] = MappingProxyType({})

Clock = Callable[[], datetime]
R = TypeVar("R")


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


class Walk:
    """A list that is read page by page; each begins where the one before has ended.

    Args:
        order: Name of the list, its filter and its order; a cursor of another is refused.
        types: Of what tells where a page ends.
    """

    def __init__(self, order: str, *types: type[CursorValue]) -> None:
        self._order = order
        self._types = types

    def place(self, cursor: str | None) -> Any:
        """Where a cursor continues: a value, or several as a tuple; None: at the beginning.

        Raises:
            InvalidInput: It is not a cursor of this list.
        """
        if not cursor:
            return None
        values = decode_cursor(cursor, self._order, self._types)
        return values[0] if len(values) == 1 else tuple(values)

    def cursor(self, place: Any) -> str | None:
        """The cursor that continues at a place; None: that was the last page."""
        if place is None:
            return None
        return encode_cursor(self._order, place if isinstance(place, tuple) else (place,))


def amended(record: R, body: BaseModel, *, nullable: str, names: Mapping[str, str] = NO_NAMES) -> R:
    """A record with what a body gives; null says nothing but where it has a meaning.

    Args:
        record: A dataclass.
        body: What somebody wants changed.
        nullable: The field of which null is a value.
        names: Fields of the body that the record calls otherwise.
    """
    given = {name: getattr(body, name) for name in body.model_fields_set}
    changes = {
        names.get(name, name): value
        for name, value in given.items()
        if value is not None or name == nullable
    }
    return replace(record, **changes)  # type: ignore[type-var]  # R is a dataclass


def actor_of(principal: Principal) -> Actor:
    """Who is acting, for the audit log."""
    if principal.kind == "session":
        return "user", principal.subject_id
    return "token", cast("ResolvedPrincipal", principal).credential_id
