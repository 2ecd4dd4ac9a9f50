"""The mechanics of one visit: a clock, a page, and the events a tag sends from it.

What people do is decided in `troupe_demo.ga4.browsing`; here is only how the tag of Google
Analytics reports it, with the oddities that a real export has:

* The first page's `first_visit`, `session_start` and `page_view` share one timestamp.
* `session_engaged` is a string on most rows and an integer on the others; before the visit is
  engaged it is ``"0"`` or missing.
* Whole amounts arrive as `int_value`, others as `double_value`.
* A login changes `user_id` and the user properties from that event on, not backwards.
* Without consent there is no cookie, no session id, and every page reports a first visit.
"""

from dataclasses import dataclass
from typing import Final

from troupe_demo.ga4.audience import BREAK, Visitor
from troupe_demo.ga4.clock import MINUTE, SECOND
from troupe_demo.ga4.dice import Dice
from troupe_demo.ga4.hits import (
    ANONYMOUS,
    Commerce,
    Hit,
    Identity,
    Line,
    Param,
    Property,
    Scene,
    Source,
)
from troupe_demo.ga4.profiles import Customer, TenantProfile

ENGAGED_AFTER: Final = 10_000
"""Milliseconds on the site that make a visit engaged."""
NEW_BATCH: Final = 5 * SECOND
"""Events closer together are sent in one batch."""

OLD_LOGIN_EVERY: Final = 8
"""Customers whose number this divides have a login from before the shop's relaunch."""

_ENGAGED_TEXT: Final[Param] = ("session_engaged", "1", None, None)
_ENGAGED_NUMBER: Final[Param] = ("session_engaged", None, 1, None)
_NOT_ENGAGED: Final[Param] = ("session_engaged", "0", None, None)
_ENGAGED_EVENT: Final[Param] = ("engaged_session_event", None, 1, None)
_ENTRANCE: Final[Param] = ("entrances", None, 1, None)


def text(key: str, value: str) -> Param:
    """A parameter that holds a string."""
    return (key, value, None, None)


def number(key: str, value: int) -> Param:
    """A parameter that holds an integer."""
    return (key, None, value, None)


def amount(key: str, cents: int) -> Param:
    """Money: an integer when it is whole, else a double, as the tag sends it."""
    if cents % 100 == 0:
        return (key, None, cents // 100, None)
    return (key, None, None, cents / 100)


def identity_of(customer: Customer, moment: int, spent: int) -> Identity:
    """What the shop tells Google Analytics about a customer who is logged in."""
    properties: list[Property] = [
        ("WebCustomerId", customer.erp_id, moment),
        ("DefaultBranchId", customer.branch, moment),
    ]
    # The old logins have a customer but no user of their own.
    if int("".join(filter(str.isdecimal, customer.erp_id))) % OLD_LOGIN_EVERY:
        properties.insert(0, ("WebUserId", customer.web_user_id, moment))
    return Identity(customer.web_user_id, tuple(properties), spent)


@dataclass(slots=True)
class Page:
    """The page that is open."""

    location: Param
    title: Param
    referrer: Param | None
    id: int
    ordering: int = 1
    index: int = 0


class Visit:
    """One session of one visitor; everything it does is appended to `hits`."""

    __slots__ = (
        "_engaged",
        "_engagement",
        "_identity",
        "_last",
        "_page",
        "_scene",
        "_session",
        "branch",
        "clock",
        "dice",
        "hits",
        "pages",
        "profile",
        "visitor",
    )

    def __init__(
        self,
        profile: TenantProfile,
        dice: Dice,
        visitor: Visitor,
        source: Source,
        start: int,
    ) -> None:
        self.profile = profile
        self.dice = dice
        self.hits: list[Hit] = []
        self.visitor = visitor
        self.clock = start
        self.pages = 0
        self.branch: str | None = None
        visitor.visits += 1
        self._session: tuple[Param, Param] = (
            number("ga_session_id", start // SECOND),
            number("ga_session_number", visitor.visits),
        )
        gclid = f"Cj0KCQ{start:x}" if source.paid else None
        self._scene = Scene(
            cookie=visitor.cookie,
            first_touch=visitor.first_touch,
            device=visitor.device,
            geo=visitor.geo,
            first_source=visitor.source,
            source=source,
            consent=True,
            gclid=gclid,
        )
        self._identity = Identity(spent=visitor.spent) if visitor.spent else ANONYMOUS
        self._page: Page | None = None
        self._engaged = False
        self._engagement = 0
        self._last: int | None = None

    @property
    def scene(self) -> Scene:
        """What all events of the visit share."""
        return self._scene

    @property
    def session(self) -> tuple[Param, Param]:
        """`ga_session_id` and `ga_session_number`."""
        return self._session

    @property
    def known(self) -> bool:
        """Whether the visitor has logged in."""
        return self._identity.user_id is not None

    def wait(self, mean: float) -> None:
        """Let some seconds pass, `mean` of them on average, at least a half, at most 25 minutes."""
        seconds = min(0.5 + self.dice.waiting(mean), 25 * 60.0)
        self.clock += int(seconds * SECOND)
        self._engagement += int(seconds * 700)

    def identify(self) -> None:
        """From here on events carry who the customer is."""
        customer = self.visitor.customer
        if customer is not None:
            self._identity = identity_of(customer, self.clock, self.visitor.spent)

    def credit(self, cents: int) -> None:
        """The visitor bought for so much: the lifetime value on later events."""
        self.visitor.spent += cents
        self._identity = Identity(
            self._identity.user_id, self._identity.properties, self.visitor.spent
        )

    def open(self, path: str, title: str) -> None:
        """Go to a page; the first one of the visit also starts the session."""
        before = self._page
        location = text("page_location", f"https://{self.profile.hostname}{path}")
        source = self._scene.source
        if before is not None:
            referrer: Param | None = text("page_referrer", before.location[1] or "")
        elif source.referrer is not None:
            referrer = text("page_referrer", source.referrer)
        else:
            referrer = None
        heading = text("page_title", f"{title} | {self.profile.wording.site}")
        self._page = Page(location, heading, referrer, self.clock // 1000)
        self.pages += 1
        if before is None:
            if self.visitor.visits == 1:
                self.hit("first_visit")
            self.hit("session_start")
            self.hit("page_view", _ENTRANCE, *_campaign(source))
        else:
            self._engaged = True
            self.hit("page_view", *self._time_spent())

    def linger(self, mean: float) -> None:
        """Read the page for some seconds, and perhaps scroll."""
        self.wait(mean)
        if self._engagement >= ENGAGED_AFTER:
            self._engaged = True
        if self.dice.chance(0.35):
            self.hit("scroll", number("percent_scrolled", 90), *self._time_spent())
        elif self.dice.chance(0.55):
            self.hit("user_engagement", *self._time_spent())

    def hit(
        self,
        name: str,
        *params: Param,
        lines: tuple[Line, ...] = (),
        commerce: Commerce | None = None,
        value_usd: float | None = None,
    ) -> None:
        """Send one event from the page that is open."""
        page = self._page
        if page is None:
            raise ValueError("a visit opens a page before it sends anything")
        every: list[Param] = [*self._session, page.location, page.title]
        if page.referrer is not None:
            every.append(page.referrer)
        draw = self.dice.random()
        if self._engaged:
            every.append(_ENGAGED_TEXT if draw < 0.88 else _ENGAGED_NUMBER)
            every.append(_ENGAGED_EVENT)
        elif draw < 0.7:
            every.append(_NOT_ENGAGED)
        # A page from a cache may still lack the branch that was chosen since.
        if self.branch is not None and draw > 0.06:
            every.append(text("branch_id", self.branch))
        every.extend(params)
        if self._last is not None and self.clock - self._last > NEW_BATCH:
            page.ordering += 1
            page.index = 0
        page.index += 1
        self.hits.append(
            Hit(
                timestamp=self.clock,
                name=name,
                scene=self._scene,
                identity=self._identity,
                params=every,
                page_id=page.id,
                ordering=page.ordering,
                index=page.index,
                active=self._engaged or name == "first_visit" or _spends_time(params),
                lines=lines,
                commerce=commerce,
                value_usd=value_usd,
                previous=self._last,
            )
        )
        self._last = self.clock

    def close(self) -> None:
        """End the visit; the visitor may come again after a break."""
        self.visitor.free_at = self.clock + BREAK

    def _time_spent(self) -> tuple[Param, ...]:
        """The time since it was last reported; it makes the event's visitor active."""
        if self._engagement <= 0:
            return ()
        spent = number("engagement_time_msec", self._engagement)
        self._engagement = 0
        self._engaged = self._engaged or (spent[2] or 0) >= ENGAGED_AFTER
        return (spent,)


def _spends_time(params: tuple[Param, ...]) -> bool:
    return bool(params) and params[-1][0] == "engagement_time_msec"


def _campaign(source: Source) -> tuple[Param, ...]:
    if source.medium == "(none)":
        return ()
    found = [text("source", source.source), text("medium", source.medium)]
    if source.campaign is not None:
        found.append(text("campaign", source.campaign))
    return tuple(found)


class ServerSide:
    """A shop's server that reports by itself: it knows the cookie, but no session and no page."""

    __slots__ = ("_at", "_scene", "hits")

    def __init__(self, scene: Scene, at: int) -> None:
        self.hits: list[Hit] = []
        self._scene = scene
        self._at = at

    def hit(
        self,
        name: str,
        *params: Param,
        lines: tuple[Line, ...] = (),
        commerce: Commerce | None = None,
        value_usd: float | None = None,
    ) -> None:
        """Send one event."""
        self.hits.append(
            Hit(
                timestamp=self._at,
                name=name,
                scene=self._scene,
                identity=ANONYMOUS,
                params=list(params),
                page_id=self._at // 1000,
                ordering=1,
                index=1,
                active=False,
                lines=lines,
                commerce=commerce,
                value_usd=value_usd,
            )
        )


class DeniedVisit:
    """A visit without consent: every page is a first visit of nobody.

    Nothing connects its events: no cookie, no session id, no user, no branch.
    """

    __slots__ = ("_scene", "clock", "dice", "hits", "profile")

    def __init__(self, profile: TenantProfile, dice: Dice, visitor: Visitor, start: int) -> None:
        self.profile = profile
        self.dice = dice
        self.hits: list[Hit] = []
        self.clock = start
        self._scene = Scene(
            cookie=None,
            first_touch=None,
            device=visitor.device,
            geo=visitor.geo,
            first_source=visitor.source,
            source=visitor.source,
            consent=False,
            gclid=None,
        )

    def open(self, path: str, title: str) -> None:
        """Load a page."""
        self.clock += self.dice.between(4 * SECOND, 2 * MINUTE)
        page = (
            text("page_location", f"https://{self.profile.hostname}{path}"),
            text("page_title", f"{title} | {self.profile.wording.site}"),
        )
        for name in ("first_visit", "session_start", "page_view"):
            self.hit(name, *page)

    def hit(
        self,
        name: str,
        *params: Param,
        lines: tuple[Line, ...] = (),
        commerce: Commerce | None = None,
        value_usd: float | None = None,
    ) -> None:
        """Send one event without any identifier."""
        self.hits.append(
            Hit(
                timestamp=self.clock,
                name=name,
                scene=self._scene,
                identity=ANONYMOUS,
                params=list(params),
                page_id=self.clock // 1000,
                ordering=1,
                index=1,
                active=False,
                lines=lines,
                commerce=commerce,
                value_usd=value_usd,
            )
        )
