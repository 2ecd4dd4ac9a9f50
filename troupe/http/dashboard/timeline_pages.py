"""The pages of timelines: a session in order, a person on all their devices, latest first."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final

from pydantic import Field

from troupe.actors.analytics.timelines import Device, Place, Timelines
from troupe.http.answering import Answering
from troupe.http.conventions import MAX_CURSOR_CHARACTERS, QueryModel, decode_cursor, encode_cursor
from troupe.http.dashboard.event_words import moments_of, span
from troupe.http.dashboard.frame import PAGE, Frame
from troupe.http.declaration import Answer
from troupe.http.history import instant_of, shown_of
from troupe.http.history_ids import read_session_id, read_user_id, session_id_of, user_id_of
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api

EVENTS: Final = 100
_SESSION: Final = "pages/sessions"
_PERSON: Final = "pages/users"


class TimelinePageQuery(QueryModel):
    """Which part of a timeline."""

    cursor: Annotated[str | None, Field(max_length=MAX_CURSOR_CHARACTERS)] = None
    """Where the page begins."""


def declare(api: Api, frame: Frame, answering: Answering, timelines: Timelines) -> None:
    """Declare the pages.

    Args:
        api: Of the analytics group's application.
        frame: Renders them.
        answering: Knows how tenants report.
        timelines: To be read.
    """

    @api.get(
        "/history/sessions/<session_id>",
        requires=Role.VIEWER,
        query=TimelinePageQuery,
        answers={200: PAGE},
        summary="The page of a session",
    )
    async def session_page(
        *, principal: Principal, session_id: str, query: TimelinePageQuery
    ) -> Answer:
        key = read_session_id(session_id)
        after = 0
        if query.cursor:
            after = shown_of(*decode_cursor(query.cursor, _SESSION, (int,)))
        reporting = await answering.standing.of(principal.tenant_id)
        found = await timelines.session(principal.tenant_id, key, after=after, limit=EVENTS)
        head = found.head
        return await frame.page(
            "session.html",
            section="history",
            principal=principal,
            reporting=reporting,
            head=head,
            lasted=span(head.ended_at - head.started_at),
            contact=found.contact,
            user_id=user_id_of(
                is_customer=head.customer_id is not None,
                person_id=head.customer_id or head.user_pseudo_id,
            ),
            moments=moments_of(found.events, reporting.zone, [None] * len(found.events)),
            next_cursor=encode_cursor(_SESSION, [found.place]) if found.place else None,
            is_first=not query.cursor,
            path=f"/history/sessions/{session_id}",
        )

    @api.get(
        "/history/users/<user_id>",
        requires=Role.VIEWER,
        query=TimelinePageQuery,
        answers={200: PAGE},
        summary="The page of a customer or visitor",
    )
    async def person_page(
        *, principal: Principal, user_id: str, query: TimelinePageQuery
    ) -> Answer:
        is_customer, person_id = read_user_id(user_id)
        after = None
        if query.cursor:
            at, shown = decode_cursor(query.cursor, _PERSON, (datetime, int))
            after = Place(instant_of(at), shown_of(shown))
        reporting = await answering.standing.of(principal.tenant_id)
        found = await timelines.person(
            principal.tenant_id,
            is_customer=is_customer,
            person_id=person_id,
            zone=reporting.zone,
            after=after,
            limit=EVENTS,
        )
        place = found.place
        letters = letters_of(found.devices)
        sessions = [
            session_id_of(one.stream_id, one.user_pseudo_id, one.ga_session_id)
            for one in found.events
        ]
        return await frame.page(
            "person.html",
            section="history",
            principal=principal,
            reporting=reporting,
            head=found.head,
            contact=found.contact,
            devices=[(letters.get(one.user_pseudo_id, ""), one) for one in found.devices],
            moments=moments_of(found.events, reporting.zone, sessions, letters),
            next_cursor=encode_cursor(_PERSON, [place.at, place.shown]) if place else None,
            is_first=not query.cursor,
            path=f"/history/users/{user_id}",
        )


def letters_of(devices: list[Device]) -> Mapping[str, str]:
    """A letter for each visitor, A for the one seen last; none where there is but one."""
    visitors = list(dict.fromkeys(device.user_pseudo_id for device in devices))
    if len(visitors) < 2:
        return {}
    return {
        visitor: chr(ord("A") + number) if number < 26 else str(number + 1)
        for number, visitor in enumerate(visitors)
    }
