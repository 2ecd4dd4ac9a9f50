"""A German tool shop: eight branches, business customers, euros, cp1252 files with semicolons."""

from types import MappingProxyType
from typing import Final

from troupe_demo.ga4.profiles import (
    Branch,
    Customer,
    Geo,
    MasterFormat,
    Searches,
    TenantProfile,
    Wording,
    catalogue,
    slug,
)

_BRANCHES: Final = tuple(
    Branch(id=f"DE-{code}", name=name, city=city, email=f"{slug(city)}@nordwerk.example", manager=m)
    for code, name, city, m in (
        ("HAM", "Niederlassung Hamburg", "Hamburg", "Jörg Petersen"),
        ("BER", "Niederlassung Berlin", "Berlin", "Katrin Schäfer"),
        ("MUC", "Niederlassung München", "München", "Lorenz Gruber"),
        ("CGN", "Niederlassung Köln", "Köln", "Anja Küppers"),
        ("FRA", "Niederlassung Frankfurt", "Frankfurt am Main", "Mehmet Yildirim"),
        ("STR", "Niederlassung Stuttgart", "Stuttgart", "Uwe Häberle"),
        ("LEJ", "Niederlassung Leipzig", "Leipzig", "Ines Böhme"),
        ("DUS", "Niederlassung Düsseldorf", "Düsseldorf", "Stefan Groß"),
    )
)

_PLACES: Final = tuple(
    Geo(city, region, country, "Europe", "Western Europe", weight)
    for city, region, country, weight in (
        ("Hamburg", "Hamburg", "Germany", 13),
        ("Berlin", "Berlin", "Germany", 14),
        ("Munich", "Bavaria", "Germany", 11),
        ("Cologne", "North Rhine-Westphalia", "Germany", 9),
        ("Frankfurt", "Hesse", "Germany", 8),
        ("Stuttgart", "Baden-Wurttemberg", "Germany", 7),
        ("Leipzig", "Saxony", "Germany", 6),
        ("Dusseldorf", "North Rhine-Westphalia", "Germany", 6),
        ("Bremen", "Bremen", "Germany", 4),
        ("Hanover", "Lower Saxony", "Germany", 4),
        ("Nuremberg", "Bavaria", "Germany", 3),
        ("(not set)", "(not set)", "Germany", 6),
        ("Vienna", "Vienna", "Austria", 4),
        ("Zurich", "Zurich", "Switzerland", 3),
    )
)

_PRODUCTS: Final = catalogue(
    "NW-",
    (
        ("Elektrowerkzeuge", "Bohrschrauber", "Nordwerk", "Akku-Bohrschrauber 18 V",
         17_900, (("Solo", 0), ("2,0 Ah Set", 6_000), ("5,0 Ah Set", 12_000))),
        ("Elektrowerkzeuge", "Bohrschrauber", "Halder", "Akku-Schlagbohrschrauber 18 V",
         21_900, (("Solo", 0), ("5,0 Ah Set", 13_050))),
        ("Elektrowerkzeuge", "Bohrhämmer", "Halder", "Bohrhammer SDS-plus",
         18_995, (("2 kg", 0), ("3 kg", 5_500), ("4 kg", 11_000))),
        ("Elektrowerkzeuge", "Schleifer", "Nordwerk", "Winkelschleifer",
         8_990, (("115 mm", 0), ("125 mm", 1_200), ("230 mm", 5_900))),
        ("Elektrowerkzeuge", "Schleifer", "Kranich", "Exzenterschleifer",
         12_450, (("125 mm", 0), ("150 mm", 4_500))),
        ("Elektrowerkzeuge", "Sägen", "Kranich", "Handkreissäge",
         15_990, (("160 mm", 0), ("190 mm", 4_000))),
        ("Elektrowerkzeuge", "Sägen", "Nordwerk", "Pendelhub-Stichsäge", 11_900, (("", 0),)),
        ("Elektrowerkzeuge", "Sauger", "Kranich", "Nass-/Trockensauger",
         22_900, (("25 l Klasse L", 0), ("30 l Klasse M", 21_000))),
        ("Handwerkzeuge", "Schraubendreher", "Halder", "Schraubendreher-Satz",
         2_490, (("6-tlg.", 0), ("12-tlg.", 1_900), ("VDE 7-tlg.", 2_400))),
        ("Handwerkzeuge", "Schlüssel", "Halder", "Ringmaulschlüssel-Satz",
         4_995, (("8-tlg.", 0), ("12-tlg.", 2_500), ("26-tlg.", 8_400))),
        ("Handwerkzeuge", "Schlüssel", "Nordwerk", "Drehmomentschlüssel",
         7_990, (("20-100 Nm", 0), ("40-200 Nm", 2_000))),
        ("Handwerkzeuge", "Schlüssel", "Nordwerk", "Steckschlüsselsatz 1/4 und 1/2 Zoll",
         8_950, (("94-tlg.", 0), ("172-tlg.", 6_000))),
        ("Handwerkzeuge", "Zangen", "Halder", "Kombizange",
         1_895, (("160 mm", 0), ("180 mm", 250), ("200 mm", 450))),
        ("Handwerkzeuge", "Zangen", "Halder", "Seitenschneider", 2_190,
         (("140 mm", 0), ("180 mm", 500))),
        ("Handwerkzeuge", "Zangen", "Kranich", "Wasserpumpenzange", 2_390,
         (("250 mm", 0), ("300 mm", 700))),
        ("Handwerkzeuge", "Hämmer", "Kranich", "Schlosserhammer",
         1_290, (("300 g", 0), ("500 g", 200), ("1000 g", 700))),
        ("Messtechnik", "Laser", "Lotwin", "Kreuzlinienlaser", 14_900,
         (("rot", 0), ("grün", 8_000))),
        ("Messtechnik", "Laser", "Lotwin", "Laser-Entfernungsmesser", 6_990,
         (("40 m", 0), ("80 m", 5_500))),
        ("Messtechnik", "Wasserwaagen", "Lotwin", "Wasserwaage",
         1_990, (("60 cm", 0), ("100 cm", 900), ("180 cm", 2_600))),
        ("Messtechnik", "Messschieber", "Lotwin", "Messschieber digital 150 mm", 3_290, (("", 0),)),
        ("Verbrauchsmaterial", "Bohrer", "Nordwerk", "Spiralbohrer HSS-G",
         249, (("3 mm", 0), ("5 mm", 60), ("8 mm", 190), ("10 mm", 360))),
        ("Verbrauchsmaterial", "Bohrer", "Nordwerk", "Bohrer-Set", 2_295,
         (("13-tlg.", 0), ("25-tlg.", 2_700))),
        ("Verbrauchsmaterial", "Bohrer", "Halder", "Hammerbohrer SDS-plus",
         495, (("6 x 160 mm", 0), ("10 x 210 mm", 260), ("14 x 260 mm", 640))),
        ("Verbrauchsmaterial", "Trennscheiben", "Kranich", "Trennscheibe Inox",
         119, (("115 mm", 0), ("125 mm", 20), ("230 mm", 230))),
        ("Verbrauchsmaterial", "Trennscheiben", "Kranich", "Diamant-Trennscheibe",
         2_490, (("125 mm", 0), ("230 mm", 3_400))),
        ("Verbrauchsmaterial", "Schleifmittel", "Kranich", "Schleifscheiben 125 mm, 50 Stück",
         1_590, (("P80", 0), ("P120", 0), ("P240", 0))),
        ("Verbrauchsmaterial", "Bits", "Halder", "Bit-Box", 1_490,
         (("32-tlg.", 0), ("61-tlg.", 1_300))),
        ("Befestigung", "Schrauben", "Festa", "Holzbauschrauben TX",
         1_195, (("5 x 60, 200 St.", 0), ("6 x 120, 100 St.", 700), ("8 x 200, 50 St.", 1_500))),
        ("Befestigung", "Dübel", "Festa", "Universaldübel",
         490, (("6 mm, 100 St.", 0), ("8 mm, 100 St.", 200), ("10 mm, 50 St.", 260))),
        ("Befestigung", "Dübel", "Festa", "Schwerlastanker M10, 25 Stück", 3_450, (("", 0),)),
        ("Arbeitsschutz", "Handschuhe", "Wehr", "Montagehandschuh",
         390, (("Gr. 8", 0), ("Gr. 9", 0), ("Gr. 10", 0))),
        ("Arbeitsschutz", "Schuhe", "Wehr", "Sicherheitsschuh S3",
         7_995, (("Gr. 42", 0), ("Gr. 43", 0), ("Gr. 44", 0), ("Gr. 45", 0))),
        ("Arbeitsschutz", "Kopfschutz", "Wehr", "Schutzhelm mit Drehrad", 2_290,
         (("weiß", 0), ("gelb", 0))),
        ("Arbeitsschutz", "Kopfschutz", "Wehr", "Kapselgehörschützer 31 dB", 1_890, (("", 0),)),
        ("Werkstatt", "Koffer", "Nordwerk", "Werkzeugkoffer bestückt",
         14_990, (("108-tlg.", 0), ("159-tlg.", 7_000))),
        ("Werkstatt", "Leitern", "Steigauf", "Stehleiter Aluminium",
         8_990, (("5 Stufen", 0), ("8 Stufen", 4_500))),
        ("Werkstatt", "Licht", "Nordwerk", "LED-Baustrahler", 3_990,
         (("30 W", 0), ("50 W Akku", 6_500))),
        ("Werkstatt", "Kabel", "Nordwerk", "Kabeltrommel 230 V", 4_890,
         (("25 m", 0), ("50 m", 3_600))),
    ),
)  # fmt: skip

_FIRST_NAMES: Final = (
    "Andreas", "Birgit", "Christian", "Dörte", "Emre", "Franziska", "Günther", "Heike", "Ingo",
    "Jana", "Klaus", "Lena", "Matthias", "Nicole", "Oliver", "Petra", "Ralf", "Sabine", "Thomas",
    "Ulrike", "Volker", "Yvonne", "Zeynep",
)  # fmt: skip
_LAST_NAMES: Final = (
    "Albrecht", "Bäcker", "Claßen", "Dietrich", "Engel", "Förster", "Götz", "Hoffmann", "Jäger",
    "Köhler", "Lindner", "Möller", "Neumann", "Oßwald", "Peters", "Richter", "Schröder", "Thiele",
    "Vogt", "Weiß", "Zimmermann",
)  # fmt: skip
_TRADES: Final = (
    "Elektrotechnik", "Metallbau", "Haustechnik", "Zimmerei", "Tischlerei", "Bau GmbH & Co. KG",
    "Dachdeckerei", "Anlagenbau", "Maschinenbau", "Malerbetrieb", "Sanitär", "Fenster & Türen",
    "Gebäudetechnik",
)  # fmt: skip
# Ranges that the Bundesnetzagentur keeps free for films and books.
_FICTION_NUMBERS: Final = {
    "Hamburg": "+49 40 66969",
    "Berlin": "+49 30 23125",
    "München": "+49 89 99998",
    "Köln": "+49 221 4710",
    "Frankfurt am Main": "+49 69 90009",
}
_CUSTOMERS: Final = 240
# Longer than the list of branches: those at its beginning have twice as many customers.
_BRANCH_CYCLE: Final = 11


def _customers() -> tuple[Customer, ...]:
    customers: list[Customer] = []
    for number in range(_CUSTOMERS):
        # Steps that share no factor with the lengths walk through all combinations.
        first = _FIRST_NAMES[number * 5 % len(_FIRST_NAMES)]
        last = _LAST_NAMES[(number * 8 + number // len(_LAST_NAMES)) % len(_LAST_NAMES)]
        owner = _LAST_NAMES[(number * 4 + number // len(_TRADES)) % len(_LAST_NAMES)]
        trade = _TRADES[number * 7 % len(_TRADES)]
        branch = _BRANCHES[number * 5 % _BRANCH_CYCLE % len(_BRANCHES)]
        company = f"{owner} {trade}" if number % 5 else f'"{owner} & Söhne" {trade}; {branch.city}'
        area = _FICTION_NUMBERS.get(branch.city, "+49 30 23125")
        domain = f"{slug(owner)}-{slug(trade)}-{number}.example"
        customers.append(
            Customer(
                erp_id=str(104_200 + number * 7),
                web_user_id=f"W{50_001 + number * 3}",
                company=company,
                contact=f"{first} {last}",
                email=f"{slug(first)}.{slug(last)}@{domain}",
                phone=f"{area} {number:03d}",
                branch=branch.id,
                city=branch.city,
            )
        )
    return tuple(customers)


TOOL_SHOP: Final = TenantProfile(
    name="Nordwerk Werkzeughandel",
    project="nordwerk-werkzeughandel",
    property_id="312840571",
    stream_id="4417203956",
    hostname="shop.nordwerk.example",
    zone="Europe/Berlin",
    currency="EUR",
    foreign_currency="CHF",
    usd_rates=MappingProxyType({"EUR": 1.0843, "CHF": 1.1297}),
    language="de-de",
    tax_percent=19,
    order_prefix="NW",
    share=0.56,
    hours=(
        0.20, 0.12, 0.09, 0.09, 0.16, 0.60, 2.10, 4.60, 6.80, 7.70, 7.90, 7.20,
        5.20, 6.60, 7.10, 6.40, 5.10, 3.70, 3.20, 3.30, 3.20, 2.50, 1.40, 0.60,
    ),
    weekdays=(1.15, 1.20, 1.16, 1.12, 0.96, 0.48, 0.42),
    growth=0.07,
    branches=_BRANCHES,
    customers=_customers(),
    products=_PRODUCTS,
    places=_PLACES,
    searches=Searches(
        found=(
            "akkuschrauber", "Akkuschrauber 18V", "bohrer set", "Bohrer", " bohrer ", "BOHRER",
            "winkelschleifer", "trennscheibe 125", "dübel", "Dübel 8mm", "schrauben torx",
            "sicherheitsschuhe 43", "kreuzlinienlaser", "wasserwaage", "kombizange",
            "schraubendreher", "drehmomentschlüssel", "leiter", "kabeltrommel", "handschuhe",
            "bit  box", "sds plus", "handkreissäge",
        ),
        failed=(
            "schraubenziher", "Akuschrauber", "betonmischer mieten", "rasenmäher", "gutschein",
            "hochdruckreiniger 200 bar", "schweißgerät wig", "ersatzakku 10,8 V", "Kettensäge",
            "farbe weiß 10l",
        ),
    ),
    wording=Wording(
        site="Nordwerk",
        home="Werkzeug für Profis",
        category_path="/kategorie/{}",
        product_path="/produkt/{}",
        search_path="/suche?q={}",
        search_title="Suche",
        cart_path="/warenkorb",
        cart_title="Warenkorb",
        checkout_path="/kasse",
        checkout_title="Kasse",
        thanks_path="/bestellung/danke",
        thanks_title="Vielen Dank für Ihre Bestellung",
        branches_path="/niederlassungen",
        branches_title="Niederlassung wählen",
        login_path="/anmelden",
        login_title="Anmelden",
        articles=(
            ("/ratgeber/akku-pflege", "Ratgeber: Akkus richtig pflegen"),
            ("/ratgeber/bohrer-auswahl", "Ratgeber: Der richtige Bohrer"),
            ("/service/lieferung", "Lieferung und Abholung"),
            ("/service/retoure", "Rückgabe"),
            ("/katalog", "Katalog bestellen"),
            ("/kontakt", "Kontakt"),
        ),
        payments=("Rechnung", "PayPal", "Kreditkarte", "Vorkasse"),
        shippings=("Paket", "Spedition", "Abholung"),
    ),
    campaigns=MappingProxyType(
        {
            "search": "DE_Search_Marke",
            "shopping": "DE_Shopping_Sortiment",
            "social": "Profi-Wochen",
            "newsletter": "Newsletter Dienstag",
        }
    ),
    master=MasterFormat(
        delimiter=";",
        encoding="cp1252",
        customer_columns=MappingProxyType(
            {
                "customer_id": "Kundennummer",
                "company": "Firma",
                "contact": "Ansprechpartner",
                "email": "E-Mail",
                "phone": "Telefon",
                "location_id": "Niederlassung",
                "city": "Ort",
            }
        ),
        location_columns=MappingProxyType(
            {
                "location_id": "Nummer",
                "name": "Bezeichnung",
                "city": "Ort",
                "email": "E-Mail",
                "manager": "Leitung",
            }
        ),
    ),
)  # fmt: skip
