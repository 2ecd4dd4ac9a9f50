"""What people do in the shop: look around, search, fill a cart, lose interest, buy."""

from typing import Final

from troupe_demo.ga4.dice import Dice, Wheel
from troupe_demo.ga4.hits import Commerce, Line
from troupe_demo.ga4.orders import Errand, OrderBook
from troupe_demo.ga4.profiles import Product, TenantProfile, slug
from troupe_demo.ga4.visit import DeniedVisit, Visit, amount, text

BOUNCE_SHARE: Final = 0.33
BRANCH_SHARE: Final = 0.5
LOGGED_IN_SHARE: Final = 0.6
STEPS: Final = 4.0
MOST_STEPS: Final = 40
LIST_LENGTH: Final = 8
BULK_BELOW: Final = 1_500
"""Articles cheaper than this many cents are bought by the dozen."""

_ACTIONS: Final = Wheel(
    (
        ("category", 30.0),
        ("product", 38.0),
        ("search", 13.0),
        ("article", 8.0),
        ("home", 4.0),
        ("basket", 7.0),
    )
)
_ENTRANCES: Final = Wheel(
    (("home", 30.0), ("category", 26.0), ("product", 34.0), ("article", 10.0))
)


class Shopper:
    """The behaviour of a shop's visitors, one visit at a time."""

    def __init__(self, profile: TenantProfile, dice: Dice, orders: OrderBook) -> None:
        self._profile = profile
        self._dice = dice
        self._orders = orders
        self._popular = Wheel(
            # A shuffled catalogue with few best-sellers and a long tail.
            (product, 1.0 / (4 + (rank * 37) % len(profile.products)))
            for rank, product in enumerate(profile.products)
        )
        # Branches are listed by size.
        self._branches = Wheel(
            (branch.id, 1.0 / (rank + 3)) for rank, branch in enumerate(profile.branches)
        )
        self._categories: dict[str, list[Product]] = {}
        for product in profile.products:
            self._categories.setdefault(product.category, []).append(product)
        self._names = sorted(self._categories)

    def shop(self, visit: Visit, *, patient: bool = False) -> None:
        """A whole visit; a patient visitor never leaves after one page."""
        dice = self._dice
        customer = visit.visitor.customer
        wants_branch = customer is None and dice.chance(BRANCH_SHARE)
        bounces = not patient and dice.chance(BOUNCE_SHARE)
        if customer is not None and dice.chance(LOGGED_IN_SHARE):
            visit.identify()
        if wants_branch:
            if visit.visitor.branch is None and bounces:
                visit.visitor.branch = dice.spin(self._branches)
            visit.branch = visit.visitor.branch
        self._land(visit)
        if bounces:
            if dice.chance(0.5):
                visit.linger(5.0)
            return
        visit.linger(14.0)
        if wants_branch and (visit.branch is None or dice.chance(0.04)):
            self._choose_branch(visit)
        if customer is not None and not visit.known and dice.chance(0.6):
            self._login(visit)
        steps = 2 + int(dice.waiting(STEPS)) if not patient else 8
        for _ in range(min(steps, MOST_STEPS)):
            self._act(visit, dice.spin(_ACTIONS))
        if visit.visitor.basket and dice.chance(0.58 if customer else 0.46):
            self._check_out(visit)

    def shop_denied(self, visit: DeniedVisit, *, buys: bool) -> None:
        """A short visit without consent."""
        wording = self._profile.wording
        product = self._dice.spin(self._popular)
        visit.open("/", wording.home)
        for _ in range(self._dice.below(3)):
            visit.open(wording.product_path.format(product.slug), product.name)
            visit.hit("view_item", text("currency", self._profile.currency), lines=(Line(product),))
        if buys:
            visit.hit("add_to_cart", lines=(Line(product, 1),), commerce=Commerce(quantity=1))
            self._orders.place_denied(visit, {product: 1 + self._dice.below(3)})

    def run(self, errand: Errand, visit: Visit) -> None:
        """What an order of an earlier day leads to, in a visit of its own."""
        wording = self._profile.wording
        if errand.kind == "refund_in_visit":
            if visit.visitor.customer is not None:
                visit.identify()
            visit.branch = errand.origin.branch
            visit.open(*self._profile.wording.articles[-1])
            visit.linger(20.0)
            errand.order.refund(visit, whole=errand.whole)
        else:
            if errand.kind == "reload" and errand.origin.known:
                visit.identify()
            visit.open(wording.thanks_path, wording.thanks_title)
            errand.order.report(visit)
        visit.linger(20.0)

    def _land(self, visit: Visit) -> None:
        match self._dice.spin(_ENTRANCES):
            case "home":
                visit.open("/", self._profile.wording.home)
            case "category":
                self._list_category(visit)
            case "article":
                visit.open(*self._dice.pick(self._profile.wording.articles))
            case _:
                self._view(visit, self._dice.spin(self._popular))

    def _act(self, visit: Visit, action: str) -> None:
        dice = self._dice
        wording = self._profile.wording
        visit.wait(9.0)
        match action:
            case "category":
                listed = self._list_category(visit)
                visit.linger(12.0)
                if dice.chance(0.5):
                    self._select(visit, dice.pick(listed), listed[0].category)
            case "search":
                self._search(visit)
            case "article":
                visit.open(*dice.pick(wording.articles))
                visit.linger(30.0)
            case "home":
                visit.open("/", wording.home)
                visit.linger(8.0)
            case "basket" if visit.visitor.basket:
                self._look_into_basket(visit)
            case _:
                self._study(visit, dice.spin(self._popular))

    def _list_category(self, visit: Visit) -> list[Product]:
        dice = self._dice
        name = dice.pick(self._names)
        products = self._categories[name]
        start = dice.below(max(1, len(products) - LIST_LENGTH))
        listed = products[start : start + LIST_LENGTH]
        visit.open(self._profile.wording.category_path.format(slug(name)), name)
        visit.hit(
            "view_item_list",
            text("item_list_name", name),
            lines=tuple(
                Line(product, list_name=name, position=place)
                for place, product in enumerate(listed, 1)
            ),
            commerce=Commerce(unique_items=len(listed)),
        )
        return listed

    def _select(self, visit: Visit, product: Product, listed_as: str) -> None:
        visit.hit(
            "select_item",
            text("item_list_name", listed_as),
            lines=(Line(product, list_name=listed_as),),
        )
        visit.wait(2.0)
        self._study(visit, product)

    def _view(self, visit: Visit, product: Product) -> None:
        visit.open(self._profile.wording.product_path.format(product.slug), product.name)
        visit.hit(
            "view_item",
            text("currency", self._profile.currency),
            amount("value", product.cents),
            lines=(Line(product),),
            commerce=Commerce(unique_items=1),
            value_usd=self._usd(product.cents),
        )

    def _study(self, visit: Visit, product: Product) -> None:
        """Read about a product, and perhaps put it into the cart."""
        dice = self._dice
        self._view(visit, product)
        visit.linger(22.0)
        if not dice.chance(0.2 if visit.visitor.customer else 0.085):
            return
        quantity = (
            dice.pick((1, 5, 10, 10, 20, 25, 50))
            if product.cents < BULK_BELOW
            else dice.pick((1, 1, 1, 2, 2, 4))
        )
        self._cart_event(visit, "add_to_cart", product, quantity)
        basket = visit.visitor.basket
        basket[product] = basket.get(product, 0) + quantity

    def _cart_event(self, visit: Visit, name: str, product: Product, quantity: int) -> None:
        visit.hit(
            name,
            text("currency", self._profile.currency),
            amount("value", product.cents * quantity),
            lines=(Line(product, quantity),),
            commerce=Commerce(quantity=quantity, unique_items=1),
            value_usd=self._usd(product.cents * quantity),
        )

    def _look_into_basket(self, visit: Visit) -> None:
        wording = self._profile.wording
        visit.open(wording.cart_path, wording.cart_title)
        self._basket_event(visit, "view_cart")
        visit.linger(15.0)
        basket = visit.visitor.basket
        if self._dice.chance(0.18):
            product = self._dice.pick(list(basket))
            quantity = basket[product]
            removed = quantity if self._dice.chance(0.6) else 1 + self._dice.below(quantity)
            self._cart_event(visit, "remove_from_cart", product, removed)
            if removed == quantity:
                del basket[product]
            else:
                basket[product] = quantity - removed

    def _basket_event(self, visit: Visit, name: str, *more: tuple[str, str]) -> None:
        basket = visit.visitor.basket
        cents = sum(product.cents * quantity for product, quantity in basket.items())
        visit.hit(
            name,
            text("currency", self._profile.currency),
            amount("value", cents),
            *(text(key, value) for key, value in more),
            lines=tuple(Line(product, quantity) for product, quantity in basket.items()),
            commerce=Commerce(quantity=sum(basket.values()), unique_items=len(basket)),
            value_usd=self._usd(cents),
        )

    def _check_out(self, visit: Visit) -> None:
        dice = self._dice
        wording = self._profile.wording
        visit.wait(6.0)
        self._look_into_basket(visit)
        basket = visit.visitor.basket
        if not basket or not dice.chance(0.8):
            return
        if visit.visitor.customer is not None and not visit.known:
            self._login(visit)
        visit.open(wording.checkout_path, wording.checkout_title)
        self._basket_event(visit, "begin_checkout")
        for name, key, choices in (
            ("add_shipping_info", "shipping_tier", wording.shippings),
            ("add_payment_info", "payment_type", wording.payments),
        ):
            visit.wait(35.0)
            if dice.chance(0.11):
                return
            self._basket_event(visit, name, (key, dice.pick(choices)))
        visit.wait(30.0)
        if dice.chance(0.88):
            self._orders.place(visit, basket)
            visit.linger(15.0)

    def _search(self, visit: Visit) -> None:
        dice = self._dice
        searches = self._profile.searches
        wording = self._profile.wording
        fails = dice.chance(0.22)
        term = dice.pick(searches.failed if fails else searches.found)
        visit.open(
            wording.search_path.format("+".join(term.split())), f"{wording.search_title}: {term}"
        )
        if fails:
            visit.hit("no_search_results", text("no_search_results_term", term))
            visit.linger(6.0)
            return
        visit.hit("view_search_results", text("search_term", term))
        visit.linger(10.0)
        if dice.chance(0.55):
            self._select(visit, dice.spin(self._popular), wording.search_title)

    def _choose_branch(self, visit: Visit) -> None:
        wording = self._profile.wording
        visit.wait(4.0)
        visit.open(wording.branches_path, wording.branches_title)
        visit.wait(8.0)
        branch = self._dice.spin(self._branches)
        visit.visitor.branch = branch
        visit.branch = branch
        visit.hit("select_branch")

    def _login(self, visit: Visit) -> None:
        wording = self._profile.wording
        visit.wait(3.0)
        visit.open(wording.login_path, wording.login_title)
        visit.wait(12.0)
        visit.identify()
        visit.hit("login", text("method", "password"))

    def _usd(self, cents: int) -> float:
        return round(cents / 100 * self._profile.usd_rates[self._profile.currency], 6)
