"""A harbor supply shop on the American east coast: five branches, dollars, UTF-8 with commas."""

from types import MappingProxyType
from typing import Final

from troupe_demo.ga4.profiles import (
    Branch,
    Customer,
    Geo,
    Searches,
    TenantProfile,
    Wording,
    catalogue,
    slug,
)

_BRANCHES: Final = tuple(
    Branch(id=f"US-{code}", name=f"{city} {kind}", city=city, email=mail, manager=manager)
    for code, city, kind, mail, manager in (
        ("BAL", "Baltimore", "Harbor Store", "baltimore@chesapeake-supply.example", "Renée Walker"),
        ("NFK", "Norfolk", "Dockyard Store", "norfolk@chesapeake-supply.example", "Luis Ortega"),
        ("BOS", "Boston", "Harbor Store", "boston@chesapeake-supply.example", "Maeve O'Neill"),
        ("SAV", "Savannah", "River Store", "savannah@chesapeake-supply.example", "Curtis Boone"),
        ("MIA", "Miami", "Marina Store", "miami@chesapeake-supply.example", "Yolanda Peña"),
    )
)

_PLACES: Final = tuple(
    Geo(city, region, country, "Americas", "Northern America", weight)
    for city, region, country, weight in (
        ("Baltimore", "Maryland", "United States", 13),
        ("Annapolis", "Maryland", "United States", 7),
        ("Norfolk", "Virginia", "United States", 10),
        ("Boston", "Massachusetts", "United States", 12),
        ("Portland", "Maine", "United States", 4),
        ("New York", "New York", "United States", 13),
        ("Charleston", "South Carolina", "United States", 6),
        ("Savannah", "Georgia", "United States", 7),
        ("Miami", "Florida", "United States", 11),
        ("Tampa", "Florida", "United States", 5),
        ("(not set)", "(not set)", "United States", 5),
        ("Halifax", "Nova Scotia", "Canada", 4),
        ("Toronto", "Ontario", "Canada", 3),
    )
)

_PRODUCTS: Final = catalogue(
    "CHS",
    (
        ("Rope & Rigging", "Dock Lines", "Tidewater", "Double Braid Dock Line",
         2_499, (("3/8 in x 15 ft", 0), ("1/2 in x 25 ft", 1_600), ("5/8 in x 35 ft", 4_200))),
        ("Rope & Rigging", "Anchor Lines", "Tidewater", "Three Strand Anchor Line",
         4_999, (("3/8 in x 100 ft", 0), ("1/2 in x 150 ft", 5_500))),
        ("Rope & Rigging", "Hardware", "Fairlead", "Stainless Shackle",
         849, (("1/4 in", 0), ("3/8 in", 650), ("1/2 in", 1_500))),
        ("Rope & Rigging", "Hardware", "Fairlead", "Ratchet Block 57 mm", 7_995, (("", 0),)),
        ("Anchoring & Docking", "Anchors", "Holdfast", "Galvanized Fluke Anchor",
         5_499, (("8 lb", 0), ("14 lb", 3_000), ("22 lb", 7_500))),
        ("Anchoring & Docking", "Anchors", "Holdfast", "Plow Anchor", 21_999,
         (("22 lb", 0), ("33 lb", 9_000))),
        ("Anchoring & Docking", "Fenders", "Buoyant", "Ribbed Fender",
         1_999, (("5 x 20 in", 0), ("8 x 26 in", 2_000), ("10 x 30 in", 4_400))),
        ("Anchoring & Docking", "Chain", "Holdfast", "Proof Coil Chain, per foot",
         389, (("1/4 in", 0), ("5/16 in", 160), ("3/8 in", 310))),
        ("Safety", "Life Jackets", "Windward", "Offshore Life Jacket",
         8_999, (("Adult S/M", 0), ("Adult L/XL", 0), ("Child", -3_000))),
        ("Safety", "Life Jackets", "Windward", "Inflatable Vest 35 lb", 17_995,
         (("Manual", 0), ("Automatic", 4_500))),
        ("Safety", "Signals", "Windward", "Electronic Distress Flare", 9_999, (("", 0),)),
        ("Safety", "Signals", "Windward", "Air Horn 3.5 oz", 1_899, (("", 0), ("Refill", -700))),
        ("Safety", "Fire", "Windward", "Marine Fire Extinguisher", 3_499,
         (("5-B:C", 0), ("10-B:C", 2_200))),
        ("Electronics", "Radios", "Seaspeak", "Handheld VHF Radio", 14_999,
         (("Floating", 0), ("Floating, GPS", 8_000))),
        ("Electronics", "Radios", "Seaspeak", "Fixed Mount VHF Radio", 19_999,
         (("", 0), ("with AIS", 21_000))),
        ("Electronics", "Navigation", "Seaspeak", "Chartplotter", 44_999,
         (("7 in", 0), ("9 in", 30_000))),
        ("Electronics", "Navigation", "Seaspeak", "Depth Finder", 12_900, (("", 0),)),
        ("Electrical", "Batteries", "Keelson", "AGM Marine Battery", 24_999,
         (("Group 24", 0), ("Group 31", 9_000))),
        ("Electrical", "Batteries", "Keelson", "Onboard Charger", 13_999,
         (("10 A", 0), ("20 A", 9_000))),
        ("Electrical", "Lights", "Keelson", "LED Navigation Light", 3_999,
         (("Bow", 0), ("Stern", -500), ("All-Round", 900))),
        ("Electrical", "Wiring", "Keelson", "Tinned Marine Wire, per foot",
         69, (("16 AWG", 0), ("12 AWG", 60), ("8 AWG", 180))),
        ("Maintenance", "Paint", "Barnacle", "Ablative Bottom Paint, gallon",
         18_999, (("Blue", 0), ("Black", 0), ("Red", 0))),
        ("Maintenance", "Paint", "Barnacle", "Topside Enamel, quart", 4_499,
         (("White", 0), ("Gray", 0))),
        ("Maintenance", "Cleaning", "Barnacle", "Boat Soap", 1_299,
         (("32 oz", 0), ("1 gal", 2_000))),
        ("Maintenance", "Sealants", "Barnacle", "Marine Sealant 10 oz", 1_799,
         (("White", 0), ("Black", 0))),
        ("Maintenance", "Engine", "Gudgeon", "Outboard Impeller Kit", 4_250,
         (("40-60 hp", 0), ("75-115 hp", 1_500))),
        ("Maintenance", "Engine", "Gudgeon", "Fuel Water Separator", 2_799,
         (("", 0), ("Element", -1_100))),
        ("Maintenance", "Engine", "Gudgeon", "Marine Engine Oil 25W-40", 3_499,
         (("1 gal", 0), ("5 gal", 11_000))),
        ("Plumbing", "Pumps", "Bilgeworks", "Bilge Pump", 2_999,
         (("500 GPH", 0), ("1100 GPH", 2_400), ("2000 GPH", 8_200))),
        ("Plumbing", "Pumps", "Bilgeworks", "Float Switch", 2_499, (("", 0),)),
        ("Plumbing", "Hose", "Bilgeworks", "Bilge Hose, per foot", 199,
         (("3/4 in", 0), ("1-1/8 in", 130))),
        ("Apparel", "Foul Weather", "Windward", "Foul Weather Jacket",
         15_900, (("M", 0), ("L", 0), ("XL", 0))),
        ("Apparel", "Footwear", "Windward", "Deck Boot", 8_900, (("9", 0), ("10", 0), ("11", 0))),
        ("Apparel", "Gloves", "Windward", "Sailing Gloves", 2_900, (("M", 0), ("L", 0))),
    ),
)  # fmt: skip

_FIRST_NAMES: Final = (
    "Alice", "Brandon", "Carla", "Derek", "Elena", "Frank", "Grace", "Hector", "Irene", "James",
    "Kayla", "Liam", "Monique", "Nathan", "Olivia", "Patrick", "Rosa",
)  # fmt: skip
_LAST_NAMES: Final = (
    "Abbott", "Barnes", "Cole", "D'Angelo", "Eaton", "Fischer", "Graves", "Hughes", "Ibarra",
    "Jennings", "Kowalski", "Lopez", "McKay", "Núñez", "O'Brien", "Price", "Quinn", "Ramsey",
    "Sawyer",
)  # fmt: skip
_TRADES: Final = (
    "Boatyard", "Charters", "Marina", "Fishing Co.", "Marine Towing", "Yacht Services, Inc.",
    "Sailing School", "Shipwrights", "Harbor Pilots", "Seafood, LLC", "Dredging",
)  # fmt: skip
# 555-0100 to 555-0199 are kept free for fiction.
_AREA_CODES: Final = {
    "Baltimore": "410",
    "Norfolk": "757",
    "Boston": "617",
    "Savannah": "912",
    "Miami": "305",
}
_CUSTOMERS: Final = 160
# Longer than the list of branches: those at its beginning have twice as many customers.
_BRANCH_CYCLE: Final = 7


def _customers() -> tuple[Customer, ...]:
    customers: list[Customer] = []
    for number in range(_CUSTOMERS):
        first = _FIRST_NAMES[number * 5 % len(_FIRST_NAMES)]
        last = _LAST_NAMES[(number * 8 + number // len(_LAST_NAMES)) % len(_LAST_NAMES)]
        owner = _LAST_NAMES[(number * 7 + number // 11) % len(_LAST_NAMES)]
        trade = _TRADES[number * 3 % len(_TRADES)]
        branch = _BRANCHES[number * 5 % _BRANCH_CYCLE % len(_BRANCHES)]
        domain = f"{slug(owner)}-{slug(trade)}-{number}.example"
        customers.append(
            Customer(
                erp_id=f"C{20_010 + number * 3}",
                web_user_id=f"usr_{7_001 + number}",
                company=f"{owner} {trade}" if number % 4 else f"{owner} & Sons, {trade}",
                contact=f"{first} {last}",
                email=f"{slug(first)}.{slug(last)}@{domain}",
                phone=f"+1 {_AREA_CODES[branch.city]} 555 01{number % 100:02d}",
                branch=branch.id,
                city=branch.city,
            )
        )
    return tuple(customers)


HARBOR_SHOP: Final = TenantProfile(
    name="Chesapeake Harbor Supply",
    project="chesapeake-harbor-supply",
    property_id="298417730",
    stream_id="3902218475",
    hostname="www.chesapeake-supply.example",
    zone="America/New_York",
    currency="USD",
    foreign_currency="CAD",
    usd_rates=MappingProxyType({"USD": 1.0, "CAD": 0.7316}),
    language="en-us",
    tax_percent=6,
    order_prefix="CHS",
    share=0.44,
    hours=(
        0.90, 0.50, 0.30, 0.25, 0.40, 1.10, 2.40, 3.70, 5.00, 5.90, 6.30, 6.40,
        6.20, 6.00, 5.80, 5.60, 5.30, 5.20, 5.40, 6.10, 6.60, 6.00, 4.20, 2.20,
    ),
    weekdays=(0.98, 0.96, 0.97, 1.02, 1.10, 1.12, 0.96),
    growth=0.04,
    branches=_BRANCHES,
    customers=_customers(),
    products=_PRODUCTS,
    places=_PLACES,
    searches=Searches(
        found=(
            "dock line", "Dock Lines", "fender", "fenders ", "anchor", "ANCHOR", "bilge pump",
            "vhf radio", "life jacket", "life  vest", "bottom paint", "battery group 31",
            "nav light", "shackle", "chartplotter", "impeller", "fuel filter", "marine wire",
            "deck boots",
        ),
        failed=(
            "kayak", "ancor", "trailer tires", "coast guard manual", "gift card", "fishing license",
            "propellor 13x19", "diesel heater", "starlink mount",
        ),
    ),
    wording=Wording(
        site="Chesapeake Harbor Supply",
        home="Everything between dock and deck",
        category_path="/c/{}",
        product_path="/p/{}",
        search_path="/search?q={}",
        search_title="Search results",
        cart_path="/cart",
        cart_title="Your cart",
        checkout_path="/checkout",
        checkout_title="Checkout",
        thanks_path="/checkout/thank-you",
        thanks_title="Thank you for your order",
        branches_path="/stores",
        branches_title="Choose your store",
        login_path="/login",
        login_title="Sign in",
        articles=(
            ("/guides/anchoring", "Guide: how much anchor line"),
            ("/guides/winterizing", "Guide: winterizing your boat"),
            ("/help/shipping", "Shipping and pickup"),
            ("/help/returns", "Returns"),
            ("/pro", "Trade accounts"),
        ),
        payments=("Credit Card", "PayPal", "Trade Account"),
        shippings=("Ground", "Freight", "Store Pickup"),
    ),
    campaigns=MappingProxyType(
        {
            "search": "US_Search_Brand",
            "shopping": "US_Shopping_All",
            "social": "Spring Launch",
            "newsletter": "Tuesday Tides",
        }
    ),
)  # fmt: skip
