"""Orders, and all that goes wrong with them.

Real exports count an order twice when the thank-you page is loaded again, lose its id, refund it
days later without a session, or report a `value` that is not the revenue. Each oddity happens to
every n-th order instead of by chance, so that even a small export has all of them:

    every 23rd  is refunded: at once, days later without a session, or days later in a visit
    every 29th  is reported again in the same visit
    every 31st  is reported again by the same cookie, one or two days later
    every 37th  is reported with a value that includes tax and shipping
    every 41st  is in the foreign currency
    every 53rd  has the transaction id ``(not set)``, every second of these twice
    every 61st  is reported by a second cookie too (a confirmation opened on another device)
    every 71st  has no transaction id, every 89th an empty one
"""

from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from troupe_demo.ga4.audience import Visitor
from troupe_demo.ga4.dice import Dice
from troupe_demo.ga4.hits import Commerce, Line, Param
from troupe_demo.ga4.profiles import Product, TenantProfile
from troupe_demo.ga4.visit import DeniedVisit, Visit, amount, text

ErrandKind = Literal["reload", "other_cookie", "refund_in_visit", "refund_without_session"]

NOT_SET: Final = "(not set)"


@dataclass(frozen=True, slots=True)
class Oddity:
    """Happens to the orders number `first`, `first + every` and so on."""

    every: int
    first: int

    def strikes(self, order: int) -> bool:
        """Whether it happens to this order."""
        return order % self.every == self.first

    def turn(self, order: int) -> int:
        """How often it has happened before."""
        return order // self.every


REFUNDED: Final = Oddity(23, 3)
RELOADED: Final = Oddity(29, 5)
RELOADED_LATER: Final = Oddity(31, 9)
OTHER_VALUE: Final = Oddity(37, 8)
FOREIGN: Final = Oddity(41, 6)
UNNAMED: Final = Oddity(53, 7)
OTHER_COOKIE: Final = Oddity(61, 13)
WITHOUT_ID: Final = Oddity(71, 11)
EMPTY_ID: Final = Oddity(89, 10)


class Sender(Protocol):
    """Whatever sends events: a visit with consent or one without."""

    def hit(
        self,
        name: str,
        *params: Param,
        lines: tuple[Line, ...] = (),
        commerce: Commerce | None = None,
        value_usd: float | None = None,
    ) -> None:
        """Send one event."""


@dataclass(frozen=True, slots=True)
class Order:
    """What was bought, as every report of it says; money in cents."""

    transaction_id: str | None
    lines: tuple[Line, ...]
    currency: str
    revenue: int
    shipping: int
    tax: int
    value: int
    usd_rate: float

    def report(self, sender: Sender) -> None:
        """Send the `purchase` event."""
        params = [text("currency", self.currency), amount("value", self.value)]
        if self.transaction_id is not None:
            params.append(text("transaction_id", self.transaction_id))
        params.append(amount("shipping", self.shipping))
        params.append(amount("tax", self.tax))
        sender.hit(
            "purchase",
            *params,
            lines=self.lines,
            commerce=Commerce(
                quantity=sum(line.quantity or 0 for line in self.lines),
                unique_items=len(self.lines),
                transaction_id=self.transaction_id,
                revenue=self.revenue,
                shipping=self.shipping,
                tax=self.tax,
                currency=self.currency,
            ),
            value_usd=round(self.value / 100 * self.usd_rate, 6),
        )

    def refund(self, sender: Sender, *, whole: bool) -> None:
        """Send the `refund` event, for the whole order or for its first line."""
        lines = self.lines if whole else self.lines[:1]
        returned = tuple(
            Line(line.product, line.quantity, kind="refunded", currency=self.currency)
            for line in lines
        )
        cents = sum(line.product.cents * (line.quantity or 0) for line in lines)
        params = [text("currency", self.currency), amount("value", cents)]
        if self.transaction_id is not None:
            params.append(text("transaction_id", self.transaction_id))
        sender.hit(
            "refund",
            *params,
            lines=returned,
            commerce=Commerce(
                quantity=sum(line.quantity or 0 for line in returned),
                unique_items=len(returned),
                transaction_id=self.transaction_id,
                refund=cents,
                currency=self.currency,
            ),
        )


@dataclass(frozen=True, slots=True)
class Errand:
    """Something that an order leads to on a later day."""

    kind: ErrandKind
    order: Order
    visitor: Visitor
    origin: Visit
    whole: bool = True


@dataclass(slots=True)
class OrderBook:
    """Takes the orders of one shop and remembers what they lead to."""

    profile: TenantProfile
    dice: Dice
    year: int
    taken: int = 0
    errands: dict[int, list[Errand]] = field(default_factory=dict)
    """By the number of days after tomorrow; `due` moves them up."""

    def place(self, visit: Visit, basket: dict[Product, int]) -> None:
        """Buy all that is in the basket, report it, and whatever this order's number brings."""
        number = self.taken
        order = self._take(basket)
        basket.clear()
        wording = self.profile.wording
        visit.open(wording.thanks_path, wording.thanks_title)
        order.report(visit)
        if order.currency == self.profile.currency:
            visit.credit(order.revenue)
        if RELOADED.strikes(number) or (UNNAMED.strikes(number) and UNNAMED.turn(number) % 2 == 0):
            visit.wait(90.0)
            visit.open(wording.thanks_path, wording.thanks_title)
            order.report(visit)
        if RELOADED_LATER.strikes(number):
            self._later(self.dice.between(1, 3), Errand("reload", order, visit.visitor, visit))
        if OTHER_COOKIE.strikes(number):
            self._later(1, Errand("other_cookie", order, visit.visitor, visit))
        if REFUNDED.strikes(number):
            self._refund(number, order, visit)

    def place_denied(self, visit: DeniedVisit, basket: dict[Product, int]) -> None:
        """Buy without consent: the order is reported, once, by nobody."""
        order = self._take(basket)
        wording = self.profile.wording
        visit.open(wording.thanks_path, wording.thanks_title)
        order.report(visit)

    def due(self) -> list[Errand]:
        """What is to be done today; from now on tomorrow is one day nearer."""
        today = self.errands.pop(0, [])
        self.errands = {days - 1: errands for days, errands in self.errands.items()}
        return today

    def _take(self, basket: dict[Product, int]) -> Order:
        number = self.taken
        self.taken += 1
        profile = self.profile
        currency = profile.foreign_currency if FOREIGN.strikes(number) else profile.currency
        revenue = sum(product.cents * quantity for product, quantity in basket.items())
        shipping = 0 if revenue > 15_000 else 690
        tax = (revenue + shipping) * profile.tax_percent // 100
        value = revenue + shipping + tax if OTHER_VALUE.strikes(number) else revenue
        return Order(
            transaction_id=self._transaction_id(number),
            lines=tuple(
                Line(product, quantity, kind="sold", currency=currency)
                for product, quantity in basket.items()
            ),
            currency=currency,
            revenue=revenue,
            shipping=shipping,
            tax=tax,
            value=value,
            usd_rate=profile.usd_rates[currency],
        )

    def _transaction_id(self, number: int) -> str | None:
        if UNNAMED.strikes(number):
            return NOT_SET
        if WITHOUT_ID.strikes(number):
            return None
        if EMPTY_ID.strikes(number):
            return ""
        return f"{self.profile.order_prefix}{self.year}-{100_001 + number}"

    def _refund(self, number: int, order: Order, visit: Visit) -> None:
        turn = REFUNDED.turn(number)
        whole = turn % 2 == 0
        if turn % 3 == 0:
            visit.wait(300.0)
            order.refund(visit, whole=whole)
        else:
            kind: ErrandKind = "refund_without_session" if turn % 3 == 1 else "refund_in_visit"
            later = Errand(kind, order, visit.visitor, visit, whole)
            self._later(self.dice.between(1, 7), later)

    def _later(self, days: int, errand: Errand) -> None:
        # `due` was called for today already, so that tomorrow is number 0.
        self.errands.setdefault(days - 1, []).append(errand)
