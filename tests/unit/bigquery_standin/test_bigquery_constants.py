"""Literals and parameters read as Python values."""

from datetime import date, datetime
from decimal import Decimal

import pytest

from troupe_demo.bigquery.sql.constants import python_value
from troupe_demo.bigquery.types import (
    BOOL,
    DATE,
    DATETIME,
    FLOAT64,
    INT64,
    NUMERIC,
    TIMESTAMP,
    Type,
)


@pytest.mark.parametrize(
    ("text", "type_", "value"),
    [
        ("9223372036854775807", INT64, 9223372036854775807),
        ("1e3", FLOAT64, 1000.0),
        ("TRUE", BOOL, True),
        ("2026-1-5", DATE, date(2026, 1, 5)),
        ("2026-01-05 10:11:12.5", DATETIME, datetime.fromisoformat("2026-01-05T10:11:12.500000")),
        ("2026-01-05T10:11:12", DATETIME, datetime.fromisoformat("2026-01-05T10:11:12")),
        ("2026-01-05", TIMESTAMP, datetime.fromisoformat("2026-01-05T00:00:00")),
        ("2026-01-05 10:11:12+02", TIMESTAMP, datetime.fromisoformat("2026-01-05T08:11:12")),
        ("2026-01-05 10:11:12-02:30", TIMESTAMP, datetime.fromisoformat("2026-01-05T12:41:12")),
        ("2026-01-05 10:11:12 UTC", TIMESTAMP, datetime.fromisoformat("2026-01-05T10:11:12")),
        (
            "2026-01-05T10:11:12.000001Z",
            TIMESTAMP,
            datetime.fromisoformat("2026-01-05T10:11:12.000001"),
        ),
        ("1.0000000005", NUMERIC, Decimal("1.000000001")),
        ("-1.0000000005", NUMERIC, Decimal("-1.000000001")),
    ],
)
def test_canonical_spellings_are_read(text: str, type_: Type, value: object):
    assert python_value(text, type_) == value


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("9223372036854775808", INT64),
        ("1.5", INT64),
        ("yes", BOOL),
        ("20260105", DATE),
        ("2026-02-30", DATE),
        ("2026-01-05 10:11", TIMESTAMP),
        ("2026-01-05 10:11:12+02", DATETIME),
        ("2026-01-05 10:11:12 Europe/Vienna", TIMESTAMP),
        ("1e40", NUMERIC),
        ("NaN", NUMERIC),
    ],
)
def test_all_others_are_no_values(text: str, type_: Type):
    with pytest.raises((ValueError, ArithmeticError)):
        python_value(text, type_)
