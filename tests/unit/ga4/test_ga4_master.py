"""Master data files, as each shop's ERP writes them."""

import csv

from troupe_demo.ga4 import DEMO_PROFILES, HARBOR_SHOP, TOOL_SHOP, write_master_data


def read(path, profile):
    with path.open(encoding=profile.master.encoding, newline="") as file:
        return list(csv.DictReader(file, delimiter=profile.master.delimiter))


def test_the_german_shop_writes_cp1252_with_semicolons(tmp_path) -> None:
    customers, locations = write_master_data(TOOL_SHOP, tmp_path)
    assert customers.read_bytes().startswith(
        b"Kundennummer;Firma;Ansprechpartner;E-Mail;Telefon;Niederlassung;Ort\r\n"
    )
    assert b"M\xfcnchen" in locations.read_bytes()
    assert len(read(locations, TOOL_SHOP)) == 8


def test_the_american_shop_writes_utf8_with_commas(tmp_path) -> None:
    customers, locations = write_master_data(HARBOR_SHOP, tmp_path)
    assert customers.read_bytes().startswith(b"customer_id,company,contact_name,")
    assert "Renée" in locations.read_text("utf-8")
    assert len(read(locations, HARBOR_SHOP)) == 5


def test_files_hold_every_customer_and_branch(tmp_path) -> None:
    for profile in DEMO_PROFILES:
        customers, locations = write_master_data(profile, tmp_path / profile.project)
        header = profile.master.customer_columns
        rows = {row[header["customer_id"]]: row for row in read(customers, profile)}
        assert rows.keys() == {customer.erp_id for customer in profile.customers}
        branches = {
            row[profile.master.location_columns["location_id"]] for row in read(locations, profile)
        }
        assert branches == {branch.id for branch in profile.branches}
        for customer in profile.customers:
            row = rows[customer.erp_id]
            assert row[header["company"]] == customer.company
            assert row[header["location_id"]] == customer.branch in branches
        # Delimiters and quotes inside of values.
        assert any(profile.master.delimiter in row[header["company"]] for row in rows.values())


def test_addresses_and_numbers_are_fictitious() -> None:
    for profile in DEMO_PROFILES:
        for customer in profile.customers:
            assert customer.email.endswith(".example")
            assert customer.email.isascii()
        assert len({customer.email for customer in profile.customers}) == len(profile.customers)
