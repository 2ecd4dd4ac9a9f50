"""What one event of the export is before it becomes columns.

A simulated visit makes `Hit`s. What stays the same over a visit (cookie, device, place, campaign)
is one shared `Scene`; what changes when somebody logs in or buys is one shared `Identity`. The
column builder recognises shared objects by identity and writes each of them once per day.
"""

from dataclasses import dataclass
from typing import Final, Literal

from troupe_demo.ga4.profiles import Geo, Product

Param = tuple[str, str | None, int | None, float | None]
"""Key, string value, integer value, double value: an entry of `event_params`."""

Property = tuple[str, str, int]
"""Key, string value, microseconds when it was set: an entry of `user_properties`."""


@dataclass(frozen=True, slots=True, eq=False)
class Device:
    """A kind of device and browser."""

    category: str
    brand: str
    model: str
    system: str
    system_version: str
    browser: str
    browser_version: str
    weight: float


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Where a visit comes from."""

    source: str
    medium: str
    campaign: str | None
    campaign_id: str | None
    channel: str | None
    """Default channel group; None as on those sessions for which the export leaves it out."""
    paid: bool
    """Clicked in Google Ads, so that the address carries a gclid."""
    weight: float
    referrer: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """All that is the same on every event of one visit."""

    cookie: str | None
    """`user_pseudo_id`; None where consent was denied."""
    first_touch: int | None
    device: Device
    geo: Geo
    first_source: Source
    source: Source
    consent: bool
    gclid: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """Who the shop says the visitor is, and what they have been worth so far."""

    user_id: str | None = None
    properties: tuple[Property, ...] = ()
    spent: int | None = None
    """Lifetime value in cents of the property's currency."""


ANONYMOUS: Final = Identity()


@dataclass(frozen=True, slots=True)
class Line:
    """A product in an event."""

    product: Product
    quantity: int | None = None
    list_name: str | None = None
    position: int | None = None
    kind: Literal["shown", "sold", "refunded"] = "shown"
    """A line that was sold has `item_revenue`, one that was refunded `item_refund`."""
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class Commerce:
    """The `ecommerce` record of an event; money in cents."""

    quantity: int | None = None
    unique_items: int | None = None
    transaction_id: str | None = "(not set)"
    revenue: int | None = None
    refund: int | None = None
    shipping: int | None = None
    tax: int | None = None
    currency: str = ""


@dataclass(slots=True)
class Hit:
    """One event."""

    timestamp: int
    """Microseconds since 1970, UTC."""
    name: str
    scene: Scene
    identity: Identity
    params: list[Param]
    page_id: int
    """Milliseconds when the page was opened: `batch_page_id`."""
    ordering: int
    """Which of the page's batches the event was sent in."""
    index: int
    """Place in the batch."""
    active: bool
    """Makes its visitor an active user of the day."""
    lines: tuple[Line, ...] = ()
    commerce: Commerce | None = None
    value_usd: float | None = None
    previous: int | None = None
    """Timestamp of the visit's event before this one."""
