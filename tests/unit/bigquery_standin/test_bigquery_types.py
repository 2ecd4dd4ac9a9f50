"""BigQuery's types in Arrow, in REST schemas and in GoogleSQL."""

import pyarrow as pa
import pytest

from troupe_demo.bigquery.errors import BigQueryError
from troupe_demo.bigquery.types import (
    INT64,
    STRING,
    Field,
    array_of,
    arrow_schema,
    arrow_type,
    rest_field,
    struct_of,
    type_of_arrow,
)
from troupe_demo.ga4.schema import DAILY_SCHEMA


def _paths(fields: list[dict]) -> int:
    return sum(1 + _paths(field.get("fields", [])) for field in fields)


def test_the_export_schema_survives_the_way_through_all_spellings():
    columns = [Field(f.name, type_of_arrow(f.type)) for f in DAILY_SCHEMA]
    rest = [rest_field(column) for column in columns]
    assert (len(rest), _paths(rest)) == (31, 217)
    assert arrow_schema(columns).names == DAILY_SCHEMA.names
    assert [type_of_arrow(f.type) for f in arrow_schema(columns)] == [c.type for c in columns]


def test_a_repeated_record_is_named_as_in_rest():
    pair = struct_of([Field("key", STRING), Field("n", INT64)])
    assert rest_field(Field("pairs", array_of(pair))) == {
        "name": "pairs",
        "type": "RECORD",
        "mode": "REPEATED",
        "fields": [
            {"name": "key", "type": "STRING", "mode": "NULLABLE"},
            {"name": "n", "type": "INTEGER", "mode": "NULLABLE"},
        ],
    }
    assert str(array_of(pair)) == "ARRAY<STRUCT<key STRING, n INT64>>"


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        (pa.int32(), "INT64"),
        (pa.float32(), "FLOAT64"),
        (pa.large_string(), "STRING"),
        (pa.dictionary(pa.int32(), pa.string()), "STRING"),
        (pa.timestamp("ns", tz="UTC"), "TIMESTAMP"),
        (pa.timestamp("ms"), "DATETIME"),
        (pa.decimal128(20, 2), "NUMERIC"),
        (pa.list_(pa.struct([("a", pa.bool_())])), "ARRAY<STRUCT<a BOOL>>"),
    ],
)
def test_stored_types_become_bigquerys(stored: pa.DataType, name: str):
    assert str(type_of_arrow(stored)) == name


def test_what_bigquery_cannot_hold_is_refused():
    with pytest.raises(BigQueryError, match="unknown to BigQuery"):
        type_of_arrow(pa.month_day_nano_interval())


def test_anonymous_fields_are_named_by_their_place():
    assert arrow_type(struct_of([Field("", INT64), Field("b", STRING)])) == pa.struct(
        [("_field_1", pa.int64()), ("b", pa.string())]
    )
