"""What the routes of timelines take and answer."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import Field

from troupe.actors.analytics.timelines import (
    Contact,
    Device,
    Event,
    PersonHead,
    PersonTimeline,
    SessionHead,
    SessionTimeline,
)
from troupe.http import exact_json
from troupe.http.conventions import MAX_CURSOR_CHARACTERS, AnswerModel, QueryModel
from troupe.http.history_ids import session_id_of, user_id_of

MAX_EVENTS: Final = 500


class TimelineQuery(QueryModel):
    """Which part of a timeline."""

    limit: Annotated[int, Field(ge=1, le=MAX_EVENTS)] = 100
    """Events per page."""
    cursor: Annotated[str | None, Field(max_length=MAX_CURSOR_CHARACTERS)] = None
    """`next_cursor` of the page before."""


class EventAnswer(AnswerModel):
    """One event."""

    event_at: datetime
    event_name: str
    session_id: str | None
    """Null outside of sessions."""
    user_pseudo_id: str
    """The visitor: one per device and browser."""
    gap_seconds: float | None
    """Since the event before it; null where none is known."""
    details: dict[str, Any]
    """Page, product, term, device, money: what the event says of these."""


class ContactAnswer(AnswerModel):
    """Who somebody is, as the master data has it; empty where it does not know."""

    company: str
    contact: str
    email: str
    phone: str
    location_id: str
    location_name: str | None

    @classmethod
    def of(cls, contact: Contact) -> "ContactAnswer":
        """From the domain's contact."""
        return cls(**{name: getattr(contact, name) for name in cls.model_fields})


class SessionAnswer(AnswerModel):
    """A session as a whole."""

    session_id: str
    user_id: str
    """For `/api/v1/history/users/{id}`."""
    started_at: datetime
    ended_at: datetime
    engaged: bool
    customer_id: str | None
    user_pseudo_id: str
    channel: str
    source: str | None
    medium: str | None
    campaign: str | None
    device_category: str | None
    country: str | None
    landing_page: str | None
    events: int
    page_views: int
    purchases: int
    """Deduplicated."""

    @classmethod
    def of(cls, head: SessionHead) -> "SessionAnswer":
        """From the domain's session."""
        named = {"session_id", "user_id"}
        person = head.customer_id or head.user_pseudo_id
        return cls(
            **{name: getattr(head, name) for name in cls.model_fields if name not in named},
            session_id=session_id_of(head.stream_id, head.user_pseudo_id, head.ga_session_id) or "",
            user_id=user_id_of(is_customer=head.customer_id is not None, person_id=person) or "",
        )


class SessionTimelineAnswer(AnswerModel):
    """A session and a page of its events, in order."""

    session: SessionAnswer
    contact: ContactAnswer
    data: list[EventAnswer]
    next_cursor: str | None = None


class DeviceAnswer(AnswerModel):
    """What a person came with."""

    user_pseudo_id: str
    device_category: str
    """Empty when not known."""
    stream_id: str
    sessions: int
    first_at: datetime
    last_at: datetime

    @classmethod
    def of(cls, device: Device) -> "DeviceAnswer":
        """From the domain's device."""
        return cls(**{name: getattr(device, name) for name in cls.model_fields})


class UserAnswer(AnswerModel):
    """A person as a whole."""

    user_id: str
    is_customer: bool
    person_id: str
    """The customer's id, else the visitor's."""
    customer_id: str | None
    """As whom a visitor was known last."""
    sessions: int
    engaged_sessions: int
    purchases: int
    """Deduplicated."""
    first_at: datetime
    last_at: datetime

    @classmethod
    def of(cls, head: PersonHead) -> "UserAnswer":
        """From the domain's person."""
        return cls(
            **{name: getattr(head, name) for name in cls.model_fields if name != "user_id"},
            user_id=user_id_of(is_customer=head.is_customer, person_id=head.person_id) or "",
        )


class UserTimelineAnswer(AnswerModel):
    """A person and a page of their events on all devices, latest first."""

    user: UserAnswer
    contact: ContactAnswer
    devices: list[DeviceAnswer]
    data: list[EventAnswer]
    next_cursor: str | None = None


def written_session(found: SessionTimeline, next_cursor: str | None) -> bytes:
    """A `SessionTimelineAnswer` as it travels."""
    return exact_json.dumps_stored(
        {
            "session": SessionAnswer.of(found.head),
            "contact": ContactAnswer.of(found.contact),
            "data": _members_of(found.events),
            "next_cursor": next_cursor,
        }
    )


def written_user(found: PersonTimeline, next_cursor: str | None) -> bytes:
    """A `UserTimelineAnswer` as it travels."""
    return exact_json.dumps_stored(
        {
            "user": UserAnswer.of(found.head),
            "contact": ContactAnswer.of(found.contact),
            "devices": [DeviceAnswer.of(device) for device in found.devices],
            "data": _members_of(found.events),
            "next_cursor": next_cursor,
        }
    )


def _members_of(events: Sequence[Event]) -> list[dict[str, object]]:
    """The members of an `EventAnswer` for each; making that many models would take longer."""
    keys = {(event.stream_id, event.user_pseudo_id, event.ga_session_id) for event in events}
    names = {key: session_id_of(*key) for key in keys}
    return [
        {
            "event_at": event.event_at,
            "event_name": event.event_name,
            "session_id": names[event.stream_id, event.user_pseudo_id, event.ga_session_id],
            "user_pseudo_id": event.user_pseudo_id,
            "gap_seconds": None if event.gap is None else event.gap.total_seconds(),
            "details": event.details,
        }
        for event in events
    ]
