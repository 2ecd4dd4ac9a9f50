"""What somebody did in the shop, in words: events, gaps, and what became of a task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID
from zoneinfo import ZoneInfo

from troupe.actors.analytics.metrics import Unit
from troupe.actors.analytics.timelines import Event
from troupe.http.dashboard import formats

LONG_GAP: Final = timedelta(minutes=30)
"""After so long nobody is still reading; the timeline shows the pause."""
MOST_ITEMS: Final = 3
"""Named of an event; the others are counted."""

_TONES: Final[Mapping[str, str]] = {
    "purchase": "good",
    "refund": "bad",
    "no_search_results": "bad",
    "add_to_cart": "accent",
    "remove_from_cart": "warn",
    "begin_checkout": "accent",
    "session_start": "start",
    "first_visit": "start",
    "scroll": "quiet-event",
    "user_engagement": "quiet-event",
    "view_item_list": "quiet-event",
    "select_item": "quiet-event",
}
_PLAIN: Final[Mapping[str, str]] = {
    "session_start": "Came to the shop",
    "first_visit": "Was here for the first time",
    "first_open": "Opened the app for the first time",
    "user_engagement": "Stayed on the page",
    "scroll": "Read to the end of the page",
    "begin_checkout": "Went to the checkout",
    "add_shipping_info": "Told where to deliver",
    "add_payment_info": "Told how to pay",
    "view_cart": "Looked into the cart",
    "login": "Logged in",
    "sign_up": "Registered",
    "form_start": "Began to fill in a form",
    "form_submit": "Sent a form",
    "file_download": "Downloaded a file",
    "click": "Followed a link out of the shop",
}
_WITH_ITEMS: Final[Mapping[str, str]] = {
    "view_item": "Looked at",
    "view_item_list": "Looked at a list with",
    "select_item": "Chose",
    "add_to_cart": "Put into the cart:",
    "remove_from_cart": "Took out of the cart:",
    "add_to_wishlist": "Remembered",
    "view_promotion": "Saw a promotion of",
    "select_promotion": "Followed a promotion of",
}


@dataclass(frozen=True, slots=True)
class Moment:
    """One event of a timeline as it is shown.

    Attributes:
        at: When.
        text: What happened, in words.
        more: Details, each in a few words.
        tone: ``good``, ``bad``, ``warn``, ``accent``, ``start``, ``quiet-event`` or
            ``flat``.
        pause: The gap before it in words, where it is long; else empty.
        name: Of the event.
        device: Letter of the device, where there are several.
        session_id: For the session's page.
        is_new_day: Whether it is the first of its day that is shown.
    """

    at: datetime
    text: str
    more: tuple[str, ...]
    tone: str
    pause: str
    name: str
    device: str
    session_id: str | None
    is_new_day: bool


def moments_of(
    events: Sequence[Event],
    zone: ZoneInfo,
    sessions: Sequence[str | None],
    devices: Mapping[str, str] | None = None,
) -> list[Moment]:
    """Events as they are shown.

    Args:
        events: In the order of the page.
        zone: Whose days begin anew.
        sessions: The name of each event's session.
        devices: Letters of visitors, where there are several.
    """
    shown: list[Moment] = []
    day = None
    for event, session in zip(events, sessions, strict=True):
        today = event.event_at.astimezone(zone).date()
        shown.append(
            Moment(
                event.event_at,
                describe(event),
                details_of(event),
                _TONES.get(event.event_name, "flat"),
                pause(event.gap) if event.gap is not None and event.gap >= LONG_GAP else "",
                event.event_name,
                (devices or {}).get(event.user_pseudo_id, ""),
                session,
                is_new_day=today != day,
            )
        )
        day = today
    return shown


def describe(event: Event) -> str:
    """What happened, in words."""
    name, details = event.event_name, event.details
    if name in _WITH_ITEMS:
        return f"{_WITH_ITEMS[name]} {_items(details) or 'something'}"
    special = _SPECIAL.get(name)
    if special is not None:
        return special(details)
    return _PLAIN.get(name) or name.replace("_", " ").capitalize()


def details_of(event: Event) -> tuple[str, ...]:
    """What else an event says, each in a few words."""
    details, told = event.details, []
    if event.event_name == "purchase":
        if details.get("transaction_id"):
            told.append(f"Order {details['transaction_id']}")
        if named := _items(details):
            told.append(named)
    if event.event_name in {"session_start", "first_visit"}:
        told += [
            str(details[name])
            for name in ("device_category", "operating_system", "browser", "city", "country")
            if details.get(name)
        ]
        source = " / ".join(str(details[n]) for n in ("source", "medium") if details.get(n))
        if source:
            told.append(f"from {source}")
    if event.event_name == "user_engagement" and details.get("engagement_ms"):
        told.append(span(timedelta(milliseconds=details["engagement_ms"])))
    if event.event_name != "page_view" and event.event_name in _WITH_ITEMS:
        amount = _money(details.get("event_value"), details.get("currency"))
        if amount:
            told.append(amount)
    return tuple(told)


def _viewed(details: Mapping[str, Any]) -> str:
    title = details.get("page_title")
    path = urlsplit(str(details.get("page_location") or "")).path
    return f"Viewed {title or path or 'a page'}"


def _bought(details: Mapping[str, Any]) -> str:
    amount = _money(details.get("purchase_revenue"), details.get("currency"))
    return f"Bought for {amount}" if amount else "Bought"


def _returned(details: Mapping[str, Any]) -> str:
    amount = _money(details.get("refund_value"), details.get("currency"))
    return f"Got {amount} back" if amount else "Got money back"


def _searched(details: Mapping[str, Any]) -> str:
    return f"Searched for “{details.get('search_term') or '…'}”"


def _missed(details: Mapping[str, Any]) -> str:
    return f"Found nothing for “{details.get('search_term') or '…'}”"


_SPECIAL: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "page_view": _viewed,
    "purchase": _bought,
    "refund": _returned,
    "search": _searched,
    "view_search_results": _searched,
    "no_search_results": _missed,
}


def _items(details: Mapping[str, Any]) -> str:
    items = details.get("items")
    if not isinstance(items, list) or not items:
        return ""
    named = []
    for item in items[:MOST_ITEMS]:
        quantity = item.get("quantity") or 1
        name = item.get("name") or item.get("id") or "something"
        named.append(f"{quantity} × {name}" if quantity != 1 else str(name))
    left = len(items) - len(named)
    return ", ".join(named) + (f" and {left} more" if left > 0 else "")


def _money(value: object, currency: object) -> str:
    if not isinstance(value, int | float | Decimal) or not value:
        return ""
    code = str(currency or "")
    exact = Decimal(str(value))
    return formats.figure(exact, Unit.MONEY, code) if code else f"{exact:,.2f}"


_UNITS: Final = (
    (timedelta(days=365), "year"),
    (timedelta(days=30), "month"),
    (timedelta(days=1), "day"),
    (timedelta(hours=1), "hour"),
    (timedelta(minutes=1), "minute"),
    (timedelta(seconds=1), "second"),
)


def span(length: timedelta) -> str:
    """How long something took, in its largest unit.

    >>> span(timedelta(hours=49)), span(timedelta(seconds=61)), span(timedelta(milliseconds=5))
    ('2 days', '1 minute', 'a moment')
    """
    for size, unit in _UNITS:
        count = length // size
        if count >= 1:
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return "a moment"


def pause(gap: timedelta) -> str:
    """A gap between two events.

    >>> pause(timedelta(days=3))
    '3 days without anything'
    """
    return f"{span(gap)} without anything"


# --- what became of a task ------------------------------------------------------------------------

STATUS_WORDS: Final[Mapping[str, str]] = {
    "open": "Open",
    "in_progress": "In progress",
    "done": "Done",
    "dismissed": "Dismissed",
    "settled": "Settled by itself",
}


def change_in_words(
    changes: Mapping[str, Any], people: Mapping[UUID, str], zone: ZoneInfo
) -> list[str]:
    """One entry of a task's history: what was changed, each in a few words."""
    told = []
    for field, change in changes.items():
        value = change.get("to") if isinstance(change, dict) else None
        match field:
            case "status":
                told.append(f"Status: {STATUS_WORDS.get(value or '', value)}")
            case "assignee_id":
                told.append(f"Given to {_named(value, people)}" if value else "Given to nobody")
            case "note":
                told.append("Note changed" if value else "Note removed")
            case "snoozed_until":
                if value:
                    until = datetime.fromisoformat(value)
                    told.append(f"Snoozed until {formats.moment(until, zone)}")
                else:
                    told.append("Not snoozed any more")
            case _:
                told.append(field.replace("_", " ").capitalize())
    return told


def _named(value: object, people: Mapping[UUID, str]) -> str:
    try:
        return people.get(UUID(str(value)), "somebody who has left")
    except ValueError:
        return "somebody who has left"


def snoozes(now: datetime, zone: ZoneInfo) -> list[tuple[str, str]]:
    """Until when a task may rest: instants and what people call them, eight in the morning each."""
    local = now.astimezone(zone)
    morning = local.replace(hour=8, minute=0, second=0, microsecond=0)
    choices = ((1, "Tomorrow"), (3, "In 3 days"), (7, "In a week"), (14, "In 2 weeks"),
               (30, "In a month"))  # fmt: skip
    return [
        ((morning + timedelta(days=days)).astimezone(UTC).isoformat().replace("+00:00", "Z"), text)
        for days, text in choices
    ]
