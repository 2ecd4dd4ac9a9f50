"""What a tenant may set about itself, as a form: name, calendar, what its data is called."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from zoneinfo import available_timezones

from babel.numbers import get_currency_name

from troupe.actors.auth.tenants import Tenant
from troupe.common.tenant_settings import TenantSettings
from troupe.http.dashboard.fields import Field, FieldGroup, Words, fields_of
from troupe.http.dashboard.formats import LOCALE

_NO_NAME: Final = "Begin with a letter; letters, digits and underscores only."

SETTING_WORDS: Final[Mapping[str, Words]] = {
    "branch_parameter": Words("Chosen branch", wrong=_NO_NAME),
    "branch_property": Words("Customer's branch", wrong=_NO_NAME),
    "web_user_property": Words("Login id", wrong=_NO_NAME),
    "web_customer_property": Words("Customer number", wrong=_NO_NAME),
    "failed_search_event": Words("Event of a failed search", wrong=_NO_NAME),
    "failed_search_parameter": Words("Its search term", wrong=_NO_NAME),
    "repeat_visit_sessions": Words("Visits", "engaged sessions"),
    "repeat_visit_days": Words("Within", "days"),
    "scan_budget_gib": Words("Scan budget", "GiB a day"),
    "retention_days": Words("Keep data for", "days"),
    "cart_idle_hours": Words("Abandoned after", "hours"),
    "cart_cooldown_days": Words("No second task for", "days"),
}
"""What people call each setting; a test sees that none is missing."""

_SECTIONS: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    (
        "Abandoned carts",
        "When a cart that was left becomes a task.",
        ("cart_idle_hours", "cart_cooldown_days"),
    ),
    (
        "Repeat visitors",
        "Who counts as coming again and again without buying.",
        ("repeat_visit_sessions", "repeat_visit_days"),
    ),
    (
        "Names in your Google Analytics",
        "Shops call the same thing differently. Other names hold for days loaded from then on.",
        (
            "web_user_property",
            "web_customer_property",
            "branch_parameter",
            "branch_property",
            "failed_search_event",
            "failed_search_parameter",
        ),
    ),
    (
        "Storage and cost",
        "How long data is kept, and how much BigQuery may read for it.",
        ("retention_days", "scan_budget_gib"),
    ),
)
WEEKDAYS: Final = (
    ("1", "Monday"),
    ("2", "Tuesday"),
    ("3", "Wednesday"),
    ("4", "Thursday"),
    ("5", "Friday"),
    ("6", "Saturday"),
    ("7", "Sunday"),
)
_CURRENCIES: Final = (
    "EUR", "USD", "GBP", "CHF", "PLN", "CZK", "DKK", "NOK", "SEK", "HUF", "RON", "BGN", "TRY",
    "CAD", "AUD", "NZD", "JPY", "CNY", "INR", "BRL", "MXN", "ZAR",
)  # fmt: skip
"""Suggested; any other code may be typed."""


@dataclass(frozen=True, slots=True)
class Section:
    """Some fields under a heading."""

    title: str
    help: str
    fields: tuple[Field | FieldGroup, ...]


def sections_of(tenant: Tenant) -> tuple[Section, ...]:
    """Everything that a tenant may set, section by section."""
    values = tenant.settings.model_dump(mode="json")
    company = Section(
        "Company",
        "How it is called, and whose days and money its figures are told in.",
        (
            Field(
                "name", Words("Name"), "For people.", value=tenant.name, longest=200, required=True
            ),
            Field(
                "reporting_time_zone",
                Words("Time zone", wrong="Choose one from the list, such as Europe/Berlin."),
                "Days of a report are days there.",
                value=tenant.reporting_time_zone,
                longest=100,
                required=True,
                suggestions="zones",
            ),
            Field(
                "reporting_currency",
                Words("Currency", wrong="A code of three capital letters, such as EUR."),
                "Money in other currencies is listed beside it, never added.",
                value=tenant.reporting_currency,
                longest=3,
                required=True,
                suggestions="currencies",
            ),
            Field(
                "week_start",
                Words("Week begins on"),
                "For weeks in charts and reports.",
                kind="choice",
                value=str(tenant.week_start),
                choices=WEEKDAYS,
                step="1",
            ),
        ),
    )
    return (
        company,
        *(
            Section(
                title,
                note,
                fields_of(TenantSettings, values, SETTING_WORDS, path="settings", only=names),
            )
            for title, note, names in _SECTIONS
        ),
    )


def zones() -> list[str]:
    """Every time zone that a tenant may choose."""
    return sorted(
        zone
        for zone in available_timezones()
        if ("/" in zone and not zone.startswith(("posix/", "right/", "Etc/", "SystemV/")))
        or zone == "UTC"
    )


def currencies() -> list[tuple[str, str]]:
    """Codes and names of the currencies that are suggested."""
    return [(code, get_currency_name(code, locale=LOCALE)) for code in _CURRENCIES]
