"""What a shop is: everything about a tenant that the generator does not draw at random.

A profile holds a property's identity (project, dataset, stream, zone, currency), its branches and
customers, its catalogue, and the weights that shape its traffic. Two are built in, see
`troupe_demo.ga4.tool_shop` and `troupe_demo.ga4.harbor_shop`; a test may `dataclasses.replace` any
part of one.

Money is in cents, so that nothing is rounded before it is written. Mail addresses end in
``.example`` and telephone numbers come from the ranges set aside for fiction.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Branch:
    """One location of the company."""

    id: str
    name: str
    city: str
    email: str
    manager: str


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer of the ERP, with the person who orders for it."""

    erp_id: str
    web_user_id: str
    company: str
    contact: str
    email: str
    phone: str
    branch: str
    """Id of the branch that serves it."""
    city: str


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """One article; compared by identity, so that it is a cheap key of a basket."""

    id: str
    name: str
    brand: str
    category: str
    subcategory: str
    cents: int
    slug: str


@dataclass(frozen=True, slots=True, eq=False)
class Geo:
    """Where a visitor is, as the export says it."""

    city: str
    region: str
    country: str
    continent: str
    sub_continent: str
    weight: float


@dataclass(frozen=True, slots=True)
class Searches:
    """Terms that people type, spelt the way they type them."""

    found: tuple[str, ...]
    failed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wording:
    """Paths and titles of the shop's pages; `{}` stands for what the page is about."""

    site: str
    home: str
    category_path: str
    product_path: str
    search_path: str
    search_title: str
    cart_path: str
    cart_title: str
    checkout_path: str
    checkout_title: str
    thanks_path: str
    thanks_title: str
    branches_path: str
    branches_title: str
    login_path: str
    login_title: str
    articles: tuple[tuple[str, str], ...]
    """(path, title) of pages that sell nothing."""
    payments: tuple[str, ...]
    shippings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MasterFormat:
    """How a tenant's ERP writes its files; the maps go from our name to the file's header."""

    delimiter: str
    encoding: str
    customer_columns: Mapping[str, str]
    location_columns: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TenantProfile:
    """One property of Google Analytics and the shop behind it."""

    name: str
    project: str
    """Id of the Google Cloud project: first folder of the export."""
    property_id: str
    stream_id: str
    hostname: str
    zone: str
    """The property's time zone (IANA): `event_date` and the tables' names are in it."""
    currency: str
    foreign_currency: str
    """Currency of the few orders from abroad."""
    usd_rates: Mapping[str, float]
    """US dollars per unit, for the `…_in_usd` columns."""
    language: str
    tax_percent: int
    order_prefix: str
    share: float
    """Part of all events, relative to the other profiles of one run."""
    hours: tuple[float, ...]
    """Weight of each hour of the local day, 24 of them."""
    weekdays: tuple[float, ...]
    """Weight of Monday to Sunday."""
    growth: float
    """Growth of traffic in 30 days: 0.06 is six per cent."""
    branches: tuple[Branch, ...]
    customers: tuple[Customer, ...]
    products: tuple[Product, ...]
    places: tuple[Geo, ...]
    searches: Searches
    wording: Wording
    campaigns: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Names of the shop's campaigns: `search`, `shopping`, `social`, `newsletter`."""
    master: MasterFormat = field(
        default_factory=lambda: MasterFormat(
            delimiter=",",
            encoding="utf-8",
            customer_columns=CUSTOMER_COLUMNS,
            location_columns=LOCATION_COLUMNS,
        )
    )

    @property
    def dataset(self) -> str:
        """Name of the export's dataset."""
        return f"analytics_{self.property_id}"


CUSTOMER_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "customer_id": "customer_id",
        "company": "company",
        "contact": "contact_name",
        "email": "email",
        "phone": "phone",
        "location_id": "branch_id",
        "city": "city",
    }
)
LOCATION_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "location_id": "location_id",
        "name": "name",
        "city": "city",
        "email": "email",
        "manager": "manager",
    }
)


def slug(text: str) -> str:
    """A name as shops write it in an address: ``Bohrer-Set 13-tlg.`` → ``bohrer-set-13-tlg``."""
    table = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", '"': " zoll "})
    plain = text.lower().translate(table)
    kept = "".join(character if character.isalnum() else " " for character in plain)
    return "-".join(kept.encode("ascii", "ignore").decode().split())


def catalogue(
    prefix: str, rows: Iterable[tuple[str, str, str, str, int, Sequence[tuple[str, int]]]]
) -> tuple[Product, ...]:
    """Build products from (category, subcategory, brand, name, cents, [(variant, extra cents)]).

    Each variant is a product of its own; ids count up from 1001 behind `prefix`.
    """
    products: list[Product] = []
    for category, subcategory, brand, name, cents, variants in rows:
        for variant, extra in variants:
            title = f"{name} {variant}".strip()
            products.append(
                Product(
                    id=f"{prefix}{1001 + len(products)}",
                    name=title,
                    brand=brand,
                    category=category,
                    subcategory=subcategory,
                    cents=cents + extra,
                    slug=slug(title),
                )
            )
    return tuple(products)
