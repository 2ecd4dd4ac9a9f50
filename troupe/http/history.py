"""Timelines over HTTP: a session's events in order, a person's latest first."""

from datetime import datetime
from typing import Final

from troupe.actors.analytics.timelines import Place, Timelines
from troupe.common.errors import InvalidInput
from troupe.http import history_models as models
from troupe.http.answering import Answering
from troupe.http.conventions import EARLIEST_DATE, LATEST_DATE, decode_cursor, encode_cursor
from troupe.http.declaration import Answer
from troupe.http.history_ids import read_session_id, read_user_id
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api

TAG: Final = "history"
MOST_SHOWN: Final = 1_000_000
"""Events that a cursor may say have been shown: beyond, somebody has made it up."""
_SESSION: Final = "history/sessions"
_USER: Final = "history/users"


def declare(api: Api, answering: Answering, timelines: Timelines) -> None:
    """Declare the routes of timelines.

    Args:
        api: Of the application.
        answering: Knows how tenants report.
        timelines: To be read.
    """

    @api.get(
        "/api/v1/history/sessions/<session_id>",
        requires=Role.VIEWER,
        query=models.TimelineQuery,
        answers={200: models.SessionTimelineAnswer},
        summary="What happened in a session, in order",
        tag=TAG,
    )
    async def session_timeline(
        *, principal: Principal, session_id: str, query: models.TimelineQuery
    ) -> Answer:
        key = read_session_id(session_id)
        after = 0
        if query.cursor:
            after = shown_of(*decode_cursor(query.cursor, _SESSION, (int,)))
        found = await timelines.session(principal.tenant_id, key, after=after, limit=query.limit)
        cursor = None if found.place is None else encode_cursor(_SESSION, [found.place])
        return Answer(models.written_session(found, cursor))

    @api.get(
        "/api/v1/history/users/<user_id>",
        requires=Role.VIEWER,
        query=models.TimelineQuery,
        answers={200: models.UserTimelineAnswer},
        summary="What a customer or visitor did, on all devices, latest first",
        tag=TAG,
    )
    async def user_timeline(
        *, principal: Principal, user_id: str, query: models.TimelineQuery
    ) -> Answer:
        is_customer, person_id = read_user_id(user_id)
        after = None
        if query.cursor:
            at, shown = decode_cursor(query.cursor, _USER, (datetime, int))
            after = Place(instant_of(at), shown_of(shown))
        reporting = await answering.standing.of(principal.tenant_id)
        found = await timelines.person(
            principal.tenant_id,
            is_customer=is_customer,
            person_id=person_id,
            zone=reporting.zone,
            after=after,
            limit=query.limit,
        )
        cursor = None
        if found.place is not None:
            cursor = encode_cursor(_USER, [found.place.at, found.place.shown])
        return Answer(models.written_user(found, cursor))


def shown_of(value: object) -> int:
    """How many events a cursor says have been shown.

    Raises:
        InvalidInput: No answer of ours said so.
    """
    if isinstance(value, int) and 0 <= value <= MOST_SHOWN:
        return value
    raise _made_up()


def instant_of(value: object) -> datetime:
    """The instant that a cursor names, if it has a day in every zone.

    Raises:
        InvalidInput: No answer of ours said so.
    """
    if isinstance(value, datetime) and EARLIEST_DATE.year <= value.year <= LATEST_DATE.year:
        return value
    raise _made_up()


def _made_up() -> InvalidInput:
    return InvalidInput(
        "The cursor does not belong to this list.",
        [("?cursor", "must be next_cursor of the same list, filter and sort order")],
    )
