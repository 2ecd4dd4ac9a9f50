"""The schema is the export's: columns, order, paths, variants."""

import pyarrow as pa
import pyarrow.parquet as pq

from troupe_demo.ga4.schema import (
    DAILY_SCHEMA,
    INTRADAY_SCHEMA,
    LATEST_COLUMN,
    LEGACY_SCHEMA,
    field_paths,
)


def test_has_31_columns_and_217_paths() -> None:
    assert len(DAILY_SCHEMA) == 31
    paths = field_paths(DAILY_SCHEMA)
    assert len(paths) == len(set(paths)) == 217


def test_columns_stand_in_the_export_s_order() -> None:
    assert DAILY_SCHEMA.names[:4] == [
        "event_date",
        "event_timestamp",
        "event_name",
        "event_params",
    ]
    assert DAILY_SCHEMA.names[-3:] == [
        "session_traffic_source_last_click",
        "publisher",
        LATEST_COLUMN,
    ]


def test_nested_paths_have_their_types() -> None:
    param = DAILY_SCHEMA.field("event_params").type.value_type
    assert param.field("value").type.field("double_value").type == pa.float64()
    properties = DAILY_SCHEMA.field("user_properties").type.value_type
    assert properties.field("value").type.field("set_timestamp_micros").type == pa.int64()
    paths = field_paths(DAILY_SCHEMA)
    for path in (
        "device.web_info.hostname",
        "items.item_params.value.float_value",
        "session_traffic_source_last_click.cross_channel_campaign.default_channel_group",
        "session_traffic_source_last_click.dv360_campaign.partner_name",
        "ecommerce.refund_value_in_usd",
    ):
        assert path in paths


def test_variants_lack_what_the_export_lacks() -> None:
    assert set(DAILY_SCHEMA.names) - set(INTRADAY_SCHEMA.names) == {
        "traffic_source",
        "user_ltv",
        "is_active_user",
    }
    assert DAILY_SCHEMA.names[:-1] == LEGACY_SCHEMA.names


def test_files_have_the_schema_of_their_family_and_age(export, profile) -> None:
    days = list(export.calendar)
    for day in days:
        for which, family in enumerate(export.calendar.families(day)):
            written = pq.read_schema(export.path(profile, day, which))
            if family.value == "events_intraday_":
                assert written.equals(INTRADAY_SCHEMA)
            elif day in days[:10]:
                assert written.equals(LEGACY_SCHEMA)
            else:
                assert written.equals(DAILY_SCHEMA)
