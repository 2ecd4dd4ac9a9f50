"""Every number that METRICS leaves to a tenant is a setting, validated, and documented as it is."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from troupe.common.tenant_settings import TenantSettings

GUIDE = Path(__file__).parents[3] / "docs" / "tenants.md"


def bounds(schema: dict[str, Any]) -> str:
    options = schema.get("anyOf", [schema])
    if "minimum" in options[0]:
        return f"{options[0]['minimum']:g} to {options[0]['maximum']:.0f}"
    return "a name"


def test_the_guide_has_every_setting() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| `([^`]*)` \| ([^|]*) \| (.*) \|$",
        GUIDE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    schema = TenantSettings.model_json_schema()["properties"]
    expected = [
        (name, str(told["default"]), bounds(told), told["description"])
        for name, told in schema.items()
    ]
    assert rows == [
        (name, default, bound, description.replace("\n", " "))
        for name, default, bound, description in expected
    ]


@pytest.mark.parametrize(
    ("name", "default", "low", "high"),
    [
        ("cart_idle_hours", 24, 0, 721),
        ("cart_cooldown_days", 7, -1, 366),
        ("repeat_visit_sessions", 3, 1, 101),
        ("repeat_visit_days", 30, 0, 366),
        ("retention_days", 790, 0, 3661),
    ],
)
def test_numbers_have_their_defaults_and_bounds(
    name: str, default: int, low: int, high: int
) -> None:
    assert getattr(TenantSettings(), name) == default
    for value in (low, high, "many", 1.5, None):
        with pytest.raises(ValidationError):
            TenantSettings.model_validate({name: value})


@pytest.mark.parametrize("text", ["", "1st", "a b", "x" * 101, "drop'table", "Ä"])
def test_names_are_names(text: str) -> None:
    with pytest.raises(ValidationError):
        TenantSettings.model_validate({"branch_parameter": text})
