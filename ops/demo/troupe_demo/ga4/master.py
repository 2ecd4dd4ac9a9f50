"""Master data as a shop's ERP exports it: one file of customers, one of branches."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from troupe_demo.ga4.profiles import MasterFormat, TenantProfile

CUSTOMERS_FILE = "customers.csv"
LOCATIONS_FILE = "locations.csv"


def write_master_data(profile: TenantProfile, directory: Path) -> tuple[Path, Path]:
    """Write the customers' and the branches' file of `profile` into `directory`.

    Delimiter, encoding and headers are those of ``profile.master``; lines end in CR LF.

    Returns:
        The paths of the customers' and of the branches' file.
    """
    directory.mkdir(parents=True, exist_ok=True)
    customers = directory / CUSTOMERS_FILE
    locations = directory / LOCATIONS_FILE
    form = profile.master
    _write(
        customers,
        form,
        form.customer_columns,
        (
            {
                "customer_id": customer.erp_id,
                "company": customer.company,
                "contact": customer.contact,
                "email": customer.email,
                "phone": customer.phone,
                "location_id": customer.branch,
                "city": customer.city,
            }
            for customer in profile.customers
        ),
    )
    _write(
        locations,
        form,
        form.location_columns,
        (
            {
                "location_id": branch.id,
                "name": branch.name,
                "city": branch.city,
                "email": branch.email,
                "manager": branch.manager,
            }
            for branch in profile.branches
        ),
    )
    return customers, locations


def _write(
    path: Path, form: MasterFormat, columns: Mapping[str, str], rows: Iterable[Mapping[str, str]]
) -> None:
    with path.open("w", encoding=form.encoding, newline="") as file:
        writer = csv.writer(file, delimiter=form.delimiter)
        writer.writerow(columns.values())
        writer.writerows([row[name] for name in columns] for row in rows)
