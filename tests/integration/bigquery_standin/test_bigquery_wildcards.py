"""Wildcards over tables that differ, and what a dataset says of itself."""

import pyarrow as pa
import pytest
from google.api_core import exceptions as api
from google.cloud import bigquery

from tests.integration.bigquery_standin.clients import DATASET, PROJECT
from tests.integration.bigquery_standin.shop import write_table
from troupe_demo.bigquery import StandIn

OLD = pa.schema([("n", pa.int64()), ("s", pa.struct([("a", pa.string())])), ("gone", pa.string())])
NEW = pa.schema(
    [
        ("s", pa.struct([("b", pa.int64()), ("a", pa.string())])),
        ("n", pa.int64()),
        ("l", pa.list_(pa.struct([("k", pa.string())]))),
    ]
)


def _rows(client: bigquery.Client, sql: str) -> list[tuple]:
    config = bigquery.QueryJobConfig(default_dataset=f"{PROJECT}.{DATASET}")
    return [row.values() for row in client.query_and_wait(sql, job_config=config)]


@pytest.fixture
def days(stand_in: StandIn) -> StandIn:
    old = [{"n": 1, "s": {"a": "x"}, "gone": "g"}, {"n": 2, "s": None, "gone": "g"}]
    new = [{"n": 3, "s": {"a": "y", "b": 5}, "l": [{"k": "v"}]}]
    write_table(stand_in.root, PROJECT, DATASET, "day_1", old, OLD)
    write_table(stand_in.root, PROJECT, DATASET, "day_2", new, NEW)
    return stand_in


def test_columns_are_those_of_the_newest_table(client: bigquery.Client, days: StandIn):
    assert _rows(client, "SELECT *, _TABLE_SUFFIX AS t FROM `day_*` ORDER BY n") == [
        ({"b": None, "a": "x"}, 1, [], "1"),
        (None, 2, [], "1"),
        ({"b": 5, "a": "y"}, 3, [{"k": "v"}], "2"),
    ]
    with pytest.raises(api.BadRequest, match="Unrecognized name: gone"):
        _rows(client, "SELECT gone FROM `day_*`")


def test_a_column_of_two_types_cannot_be_read(client: bigquery.Client, days: StandIn):
    texts = pa.schema([("n", pa.string()), ("m", pa.int64())])
    write_table(days.root, PROJECT, DATASET, "day_0", [{"n": "zero", "m": 1}], texts)
    message = r"Cannot read field 'n' of type INT64 as STRING in table day_2"
    with pytest.raises(api.BadRequest, match=message):
        _rows(client, "SELECT n FROM `day_*`")
    assert _rows(client, "SELECT COUNT(*), MAX(m) FROM `day_*`") == [(4, 1)]


def test_a_wildcard_also_matches_the_other_families(client: bigquery.Client):
    counted = "SELECT _TABLE_SUFFIX AS t, COUNT(*) AS n FROM `events_*` GROUP BY t ORDER BY t"
    assert _rows(client, counted) == [
        ("20260101", 40),
        ("20260102", 40),
        ("intraday_20260103", 15),
    ]
    intraday = "SELECT COUNT(*) FROM `events_*` WHERE STARTS_WITH(_TABLE_SUFFIX, 'intraday')"
    assert _rows(client, intraday) == [(15,)]


def test_constant_conditions_on_the_suffix_spare_tables(client: bigquery.Client):
    config = bigquery.QueryJobConfig(default_dataset=f"{PROJECT}.{DATASET}", dry_run=True)

    def tables(condition: str) -> list[str]:
        sql = f"SELECT event_name FROM `events_*` WHERE {condition}"
        job = client.query(sql, job_config=config)
        return [t.table_id.removeprefix("events_") for t in job.referenced_tables]

    everything = ["20260101", "20260102", "intraday_20260103"]
    assert tables("_TABLE_SUFFIX = '20260102'") == ["20260102"]
    assert tables("_TABLE_SUFFIX IN ('20260101', '20260102') AND event_name <> 'x'") == [
        "20260101",
        "20260102",
    ]
    assert tables("REGEXP_EXTRACT(_TABLE_SUFFIX, r'[0-9]+') >= '20260103'") == everything[2:]
    assert tables("_TABLE_SUFFIX = FORMAT_DATE('%Y%m%d', DATE '2026-01-01')") == ["20260101"]
    assert tables("_TABLE_SUFFIX = '20260101' OR event_name = 'x'") == everything
    assert tables("_TABLE_SUFFIX = 'nothing'") == []
    # A condition that fails for some suffix decides nothing beforehand.
    assert tables("CAST(_TABLE_SUFFIX AS INT64) > 0") == everything


def test_two_families_of_a_day_are_told_apart(client: bigquery.Client):
    sql = """
        SELECT COUNT(*) FROM `events_*` AS e JOIN `events_intraday_*` AS i
          ON e.event_timestamp = i.event_timestamp AND e._TABLE_SUFFIX LIKE 'intraday%'
        WHERE i._TABLE_SUFFIX = '20260103'
    """
    assert _rows(client, sql) == [(15,)]


def test_the_dataset_describes_its_tables(client: bigquery.Client):
    assert _rows(
        client,
        f"""SELECT table_id, row_count, size_bytes > 0, TIMESTAMP_MILLIS(last_modified_time)
              <= CURRENT_TIMESTAMP() FROM `{PROJECT}.{DATASET}.__TABLES__`
            WHERE table_id LIKE 'events%' ORDER BY table_id""",
    ) == [
        ("events_20260101", 40, True, True),
        ("events_20260102", 40, True, True),
        ("events_intraday_20260103", 15, True, True),
    ]
    assert _rows(
        client,
        f"""SELECT column_name, data_type, is_nullable
            FROM `{PROJECT}.{DATASET}.INFORMATION_SCHEMA.COLUMNS`
            WHERE table_name = 'events_20260101' AND ordinal_position < 4 ORDER BY 1""",
    ) == [
        ("event_date", "STRING", "YES"),
        ("event_name", "STRING", "YES"),
        ("event_timestamp", "INT64", "YES"),
    ]
    assert _rows(
        client,
        f"""SELECT COUNT(*) FROM {DATASET}.INFORMATION_SCHEMA.COLUMN_FIELD_PATHS
            WHERE table_name = 'events_20260101'""",
    ) == [(217,)]
    assert _rows(
        client,
        f"""SELECT t.table_name, p.total_rows FROM {DATASET}.INFORMATION_SCHEMA.TABLES AS t
            JOIN {DATASET}.INFORMATION_SCHEMA.PARTITIONS AS p USING (table_name)
            WHERE t.table_type = 'BASE TABLE' ORDER BY 1 LIMIT 1""",
    ) == [("events_20260101", 40)]
