"""Who visits: customers with several devices, strangers who return or do not, and their sources.

The number of visitors kept for a return is bounded: a stranger not seen among the last
`REMEMBERED` is forgotten, so memory does not grow with the length of the export.
"""

from dataclasses import dataclass, field
from typing import Final

from troupe_demo.ga4.clock import HOUR, SECOND
from troupe_demo.ga4.dice import Dice, Wheel
from troupe_demo.ga4.hits import Device, Source
from troupe_demo.ga4.profiles import Customer, Geo, Product, TenantProfile

REMEMBERED: Final = 5_000
KNOWN_BEFORE: Final = 300
"""Strangers who already have a cookie when the export begins."""
CUSTOMER_SHARE: Final = 0.20
RETURNING_SHARE: Final = 0.30
BREAK: Final = HOUR
"""A visitor who is back within this long would continue the same session: not simulated."""
DAYS_BEFORE: Final = 60

DEVICES: Final = (
    Device("desktop", "Microsoft", "(not set)", "Windows", "Windows 11", "Chrome", "148.0.0.0", 30),
    Device("desktop", "Microsoft", "(not set)", "Windows", "Windows 10", "Edge", "147.0.0.0", 14),
    Device("desktop", "Microsoft", "(not set)", "Windows", "Windows 11", "Firefox", "151.0", 6),
    Device("desktop", "Apple", "(not set)", "Macintosh", "macOS 15.5", "Safari", "18.5", 7),
    Device("mobile", "Apple", "iPhone", "iOS", "iOS 18.5", "Safari", "18.5", 18),
    Device("mobile", "Samsung", "SM-S921B", "Android", "Android 15", "Chrome", "148.0.0.0", 9),
    Device("mobile", "Samsung", "SM-A556B", "Android", "Android 14", "Samsung Internet", "28.0", 5),
    Device("mobile", "Google", "Pixel 9", "Android", "Android 16", "Chrome", "148.0.0.0", 4),
    Device("tablet", "Apple", "iPad", "iPadOS", "iPadOS 18.5", "Safari", "18.5", 5),
    Device("tablet", "Samsung", "SM-X716B", "Android", "Android 15", "Chrome", "147.0.0.0", 2),
)


def sources(profile: TenantProfile) -> tuple[Source, ...]:
    """The shop's campaigns and channels; a few of them lack their channel group."""
    names = profile.campaigns
    search, shopping = names.get("search", "Search"), names.get("shopping", "Shopping")
    social, newsletter = names.get("social", "Social"), names.get("newsletter", "Newsletter")
    google = "https://www.google.com/"
    return (
        Source("google", "organic", "(organic)", None, "Organic Search", False, 30, google),
        Source("google", "organic", "(organic)", None, None, False, 2, google),
        Source("bing", "organic", "(organic)", None, "Organic Search", False, 4, "https://www.bing.com/"),
        Source("(direct)", "(none)", "(direct)", None, "Direct", False, 21, None),
        Source("(direct)", "(none)", None, None, None, False, 2, None),
        Source("google", "cpc", search, "21084410001", "Paid Search", True, 12, google),
        Source("google", "cpc", shopping, "21084410002", "Paid Shopping", True, 9, google),
        Source("google", "cpc", search, "21084410001", None, True, 1, google),
        Source("newsletter", "email", newsletter, "nl-weekly", "Email", False, 7, None),
        Source("facebook", "paid_social", social, "so-2", "Paid Social", False, 4, "https://m.facebook.com/"),
        Source("instagram.com", "referral", "(referral)", None, "Organic Social", False, 3, "https://l.instagram.com/"),
        Source("trade-guild.example", "referral", "(referral)", None, "Referral", False, 4, "https://trade-guild.example/"),
    )  # fmt: skip


@dataclass(slots=True, eq=False)
class Visitor:
    """One cookie on one device."""

    cookie: str
    first_touch: int
    device: Device
    geo: Geo
    source: Source
    """The first one, which `traffic_source` keeps for ever."""
    customer: Customer | None
    basket: dict[Product, int]
    """What lies in the cart; a customer's devices share one."""
    visits: int = 0
    free_at: int = 0
    """Not before this instant can the next visit begin."""
    spent: int = 0
    branch: str | None = None
    """The branch a stranger chose the last time."""
    seen_before: bool = False
    """The first visit lies before the export."""


@dataclass(slots=True)
class Audience:
    """All visitors of one shop."""

    profile: TenantProfile
    dice: Dice
    begin: int
    """First instant of the export."""
    _sources: Wheel[Source] = field(init=False)
    direct: Source = field(init=False)
    """Typed the address."""
    _places: Wheel[Geo] = field(init=False)
    _devices: Wheel[Device] = field(init=False)
    _customers: Wheel[int] = field(init=False)
    _cookies: dict[tuple[int, int], Visitor] = field(init=False, default_factory=dict)
    _baskets: dict[int, dict[Product, int]] = field(init=False, default_factory=dict)
    _strangers: list[Visitor] = field(init=False, default_factory=list)
    _oldest: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        known = sources(self.profile)
        self._sources = Wheel((source, source.weight) for source in known)
        self.direct = next(source for source in known if source.channel == "Direct")
        self._places = Wheel((place, place.weight) for place in self.profile.places)
        self._devices = Wheel((device, device.weight) for device in DEVICES)
        # A few customers order every day, most now and then.
        self._customers = Wheel(
            (index, 1.0 / (index + 6)) for index in range(len(self.profile.customers))
        )
        for _ in range(KNOWN_BEFORE):
            self._remember(self._stranger(self._earlier(), seen_before=True))

    def arrive(self, moment: int) -> Visitor:
        """Who comes at `moment`: a customer, a stranger seen before, or somebody new."""
        draw = self.dice.random()
        if draw < CUSTOMER_SHARE and self.profile.customers:
            visitor = self._customer(moment)
        elif draw < CUSTOMER_SHARE + RETURNING_SHARE:
            visitor = self.dice.pick(self._strangers)
        else:
            return self.newcomer(moment)
        return visitor if visitor.free_at <= moment else self.newcomer(moment)

    def newcomer(self, moment: int) -> Visitor:
        """A stranger who is here for the first time."""
        visitor = self._stranger(moment, seen_before=False)
        self._remember(visitor)
        return visitor

    def passer_by(self, moment: int) -> Visitor:
        """Somebody of whom nothing will be remembered."""
        return self._stranger(moment, seen_before=False)

    def source_of(self, visitor: Visitor) -> Source:
        """Where this visit of theirs comes from; who knows the shop often types its name."""
        if visitor.visits == 0:
            return visitor.source
        familiar = 0.5 if visitor.customer else 0.25
        return self.direct if self.dice.chance(familiar) else self.dice.spin(self._sources)

    def _customer(self, moment: int) -> Visitor:
        index = self.dice.spin(self._customers)
        owned = 1 + index % 3
        device = min(self.dice.below(4), owned - 1)
        visitor = self._cookies.get((index, device))
        if visitor is None:
            known = self.dice.chance(0.6)
            visitor = self._stranger(self._earlier() if known else moment, seen_before=known)
            visitor.customer = self.profile.customers[index]
            visitor.basket = self._baskets.setdefault(index, visitor.basket)
            self._cookies[index, device] = visitor
        return visitor

    def _stranger(self, moment: int, *, seen_before: bool) -> Visitor:
        dice = self.dice
        second = moment // SECOND
        return Visitor(
            cookie=f"{dice.between(10_000_000, 2_147_483_647)}.{second}",
            first_touch=moment,
            device=dice.spin(self._devices),
            geo=dice.spin(self._places),
            source=dice.spin(self._sources),
            customer=None,
            basket={},
            visits=dice.between(1, 6) if seen_before else 0,
            seen_before=seen_before,
        )

    def _earlier(self) -> int:
        return self.begin - self.dice.between(1, DAYS_BEFORE * 24) * HOUR - self.dice.below(HOUR)

    def _remember(self, visitor: Visitor) -> None:
        if len(self._strangers) < REMEMBERED:
            self._strangers.append(visitor)
        else:
            self._strangers[self._oldest] = visitor
            self._oldest = (self._oldest + 1) % REMEMBERED
