"""Names of export tables, and the query's fit to a table's columns."""

from datetime import date

import pytest
from google.cloud.bigquery import SchemaField

from troupe.actors.data.flattening import RANK, Family, flatten_query
from troupe.common.tenant_settings import TenantSettings

DAY = date(2026, 9, 1)


def column(name: str, *below: SchemaField) -> SchemaField:
    return SchemaField(name, "RECORD" if below else "STRING", fields=below)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("events_20260901", (Family.DAILY, DAY)),
        ("events_fresh_20260901", (Family.FRESH, DAY)),
        ("events_intraday_20260901", (Family.INTRADAY, DAY)),
        ("events_20260931", None),
        ("events_2026090", None),
        ("events_20260901_copy", None),
        ("pseudonymous_users_20260901", None),
        ("events_fresh_intraday_20260901", None),
        ("EVENTS_20260901", None),
    ],
)
def test_which_day_a_table_holds(name: str, expected: tuple[Family, date] | None) -> None:
    assert Family.of_table(name) == expected


def test_names_go_both_ways_and_daily_is_best() -> None:
    for family in Family:
        assert Family.of_table(family.table(DAY)) == (family, DAY)
    assert sorted(Family, key=RANK.__getitem__) == ["daily", "fresh", "intraday"]


def test_a_column_that_is_there_is_read_and_one_that_is_not_is_a_typed_null() -> None:
    schema = [column("user_id"), column("device", column("category"))]
    sql = flatten_query("events_20260901", schema, TenantSettings()).sql
    assert "    user_id AS user_id,\n" in sql
    assert "    device.category AS device_category,\n" in sql
    assert "    CAST(NULL AS STRING) AS language,\n" in sql
    assert "    CAST(NULL AS BOOL) AS is_active_user,\n" in sql
    assert "CAST(NULL AS ARRAY<STRUCT<item_id STRING" in sql
    assert "optional:" not in sql
    assert "FROM `events_20260901`" in sql


def test_the_fingerprint_is_of_how_not_of_which() -> None:
    schema = [column("user_id")]
    settings = TenantSettings()
    first = flatten_query("events_20260901", schema, settings).fingerprint
    assert flatten_query("events_20260902", schema, settings).fingerprint == first
    assert flatten_query("events_20260901", [], settings).fingerprint != first
    other = TenantSettings(branch_property="Filiale")
    assert flatten_query("events_20260901", schema, other).fingerprint != first


@pytest.mark.parametrize("name", ["events_*", "events_20260901` --", "other", ""])
def test_only_names_of_export_tables_reach_the_query(name: str) -> None:
    with pytest.raises(ValueError, match="not the name of an export table"):
        flatten_query(name, [], TenantSettings())
