"""The schema of a Google Analytics 4 export table, exactly: 31 columns, 217 field paths.

The text below is what ``INFORMATION_SCHEMA.COLUMN_FIELD_PATHS`` of a live export says, column by
column and in its order, so that it can be compared with one by eye. Everything else is derived from
it: the Arrow schema that files are written with and the variants that a real property shows.

* Intraday tables lack ``traffic_source``, ``user_ltv`` and ``is_active_user``.
* ``event_original_occurrence_timestamp`` appeared in the summer of 2026: tables written before it
  end one column earlier, and a query over a range meets both.
"""

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

_VALUE: Final = (
    "STRUCT<string_value STRING, int_value INT64, float_value FLOAT64, double_value FLOAT64>"
)
_PROPERTY_VALUE: Final = (
    "STRUCT<string_value STRING, int_value INT64, float_value FLOAT64, double_value FLOAT64,"
    " set_timestamp_micros INT64>"
)
_PARAMETERS: Final = f"ARRAY<STRUCT<key STRING, value {_VALUE}>>"

_CAMPAIGN: Final = "campaign_id STRING, campaign_name STRING, source STRING, medium STRING"

COLUMNS: Final[tuple[tuple[str, str], ...]] = (
    ("event_date", "STRING"),
    ("event_timestamp", "INT64"),
    ("event_name", "STRING"),
    ("event_params", _PARAMETERS),
    ("event_previous_timestamp", "INT64"),
    ("event_value_in_usd", "FLOAT64"),
    ("event_bundle_sequence_id", "INT64"),
    ("event_server_timestamp_offset", "INT64"),
    ("user_id", "STRING"),
    ("user_pseudo_id", "STRING"),
    (
        "privacy_info",
        ("STRUCT<analytics_storage STRING, ads_storage STRING, uses_transient_token STRING>"),
    ),
    ("user_properties", f"ARRAY<STRUCT<key STRING, value {_PROPERTY_VALUE}>>"),
    ("user_first_touch_timestamp", "INT64"),
    ("user_ltv", "STRUCT<revenue FLOAT64, currency STRING>"),
    (
        "device",
        (
            "STRUCT<category STRING, mobile_brand_name STRING, mobile_model_name STRING,"
            " mobile_marketing_name STRING, mobile_os_hardware_model STRING,"
            " operating_system STRING,"
            " operating_system_version STRING, vendor_id STRING, advertising_id STRING,"
            " language STRING, is_limited_ad_tracking STRING, time_zone_offset_seconds INT64,"
            " browser STRING, browser_version STRING,"
            " web_info STRUCT<browser STRING, browser_version STRING, hostname STRING>>"
        ),
    ),
    (
        "geo",
        (
            "STRUCT<city STRING, country STRING, continent STRING, region STRING,"
            " sub_continent STRING, metro STRING>"
        ),
    ),
    (
        "app_info",
        (
            "STRUCT<id STRING, version STRING, install_store STRING, firebase_app_id STRING,"
            " install_source STRING>"
        ),
    ),
    ("traffic_source", "STRUCT<name STRING, medium STRING, source STRING>"),
    ("stream_id", "STRING"),
    ("platform", "STRING"),
    ("event_dimensions", "STRUCT<hostname STRING>"),
    (
        "ecommerce",
        (
            "STRUCT<total_item_quantity INT64, purchase_revenue_in_usd FLOAT64,"
            " purchase_revenue FLOAT64, refund_value_in_usd FLOAT64, refund_value FLOAT64,"
            " shipping_value_in_usd FLOAT64, shipping_value FLOAT64, tax_value_in_usd FLOAT64,"
            " tax_value FLOAT64, unique_items INT64, transaction_id STRING>"
        ),
    ),
    (
        "items",
        (
            "ARRAY<STRUCT<item_id STRING, item_name STRING, item_brand STRING, item_variant STRING,"
            " item_category STRING, item_category2 STRING, item_category3 STRING,"
            " item_category4 STRING, item_category5 STRING, price_in_usd FLOAT64, price FLOAT64,"
            " quantity INT64, item_revenue_in_usd FLOAT64, item_revenue FLOAT64,"
            " item_refund_in_usd FLOAT64, item_refund FLOAT64, coupon STRING, affiliation STRING,"
            " location_id STRING, item_list_id STRING, item_list_name STRING,"
            " item_list_index STRING,"
            " promotion_id STRING, promotion_name STRING, creative_name STRING,"
            " creative_slot STRING,"
            f" item_params {_PARAMETERS}>>"
        ),
    ),
    (
        "collected_traffic_source",
        (
            "STRUCT<manual_campaign_id STRING, manual_campaign_name STRING, manual_source STRING,"
            " manual_medium STRING, manual_term STRING, manual_content STRING,"
            " manual_source_platform STRING, manual_creative_format STRING,"
            " manual_marketing_tactic STRING, gclid STRING, dclid STRING, srsltid STRING>"
        ),
    ),
    ("is_active_user", "BOOL"),
    ("batch_event_index", "INT64"),
    ("batch_page_id", "INT64"),
    ("batch_ordering_id", "INT64"),
    (
        "session_traffic_source_last_click",
        (
            f"STRUCT<manual_campaign STRUCT<{_CAMPAIGN}, term STRING, content STRING,"
            " source_platform STRING, creative_format STRING, marketing_tactic STRING>,"
            " google_ads_campaign STRUCT<customer_id STRING, account_name STRING,"
            " campaign_id STRING,"
            " campaign_name STRING, ad_group_id STRING, ad_group_name STRING>,"
            f" cross_channel_campaign STRUCT<{_CAMPAIGN}, source_platform STRING,"
            " default_channel_group STRING, primary_channel_group STRING>,"
            f" sa360_campaign STRUCT<{_CAMPAIGN}, ad_group_id STRING, ad_group_name STRING,"
            " creative_format STRING, engine_account_name STRING, engine_account_type STRING,"
            " manager_account_name STRING>,"
            f" cm360_campaign STRUCT<{_CAMPAIGN}, account_id STRING, account_name STRING,"
            " advertiser_id STRING, advertiser_name STRING, creative_id STRING,"
            " creative_format STRING, creative_name STRING, creative_type STRING,"
            " creative_type_id STRING, creative_version STRING, placement_id STRING,"
            " placement_cost_structure STRING, placement_name STRING, rendering_id STRING,"
            " site_id STRING, site_name STRING>,"
            f" dv360_campaign STRUCT<{_CAMPAIGN}, advertiser_id STRING, advertiser_name STRING,"
            " creative_id STRING, creative_format STRING, creative_name STRING, exchange_id STRING,"
            " exchange_name STRING, insertion_order_id STRING, insertion_order_name STRING,"
            " line_item_id STRING, line_item_name STRING, partner_id STRING, partner_name STRING>>"
        ),
    ),
    (
        "publisher",
        (
            "STRUCT<ad_revenue_in_usd FLOAT64, ad_format STRING, ad_source_name STRING,"
            " ad_unit_id STRING>"
        ),
    ),
    ("event_original_occurrence_timestamp", "INT64"),
)

INTRADAY_LACKS: Final = ("traffic_source", "user_ltv", "is_active_user")
LATEST_COLUMN: Final = "event_original_occurrence_timestamp"

_SCALARS: Final = {
    "STRING": pa.string(),
    "INT64": pa.int64(),
    "FLOAT64": pa.float64(),
    "BOOL": pa.bool_(),
}


def _members(text: str) -> Iterator[tuple[str, str]]:
    """Split the inside of ``STRUCT<…>`` at the commas of its own level into (name, type)."""
    depth = 0
    start = 0
    for position, character in enumerate(text + ","):
        if character == "<":
            depth += 1
        elif character == ">":
            depth -= 1
        elif character == "," and depth == 0:
            name, _, kind = text[start:position].strip().partition(" ")
            yield name, kind
            start = position + 1


def arrow_type(kind: str) -> pa.DataType:
    """The Arrow type of a BigQuery type as it is spelt in `COLUMNS`."""
    if kind.startswith("ARRAY<"):
        return pa.list_(arrow_type(kind[len("ARRAY<") : -1]))
    if kind.startswith("STRUCT<"):
        inside = kind[len("STRUCT<") : -1]
        return pa.struct([(name, arrow_type(member)) for name, member in _members(inside)])
    return _SCALARS[kind]


def _without(schema: pa.Schema, *names: str) -> pa.Schema:
    return pa.schema([field for field in schema if field.name not in names])


DAILY_SCHEMA: Final = pa.schema([(name, arrow_type(kind)) for name, kind in COLUMNS])
"""``events_YYYYMMDD`` and ``events_fresh_YYYYMMDD`` as they are today."""

LEGACY_SCHEMA: Final = _without(DAILY_SCHEMA, LATEST_COLUMN)
"""A daily table from before the latest column."""

INTRADAY_SCHEMA: Final = _without(DAILY_SCHEMA, *INTRADAY_LACKS)
"""``events_intraday_YYYYMMDD``."""


def field_paths(schema: pa.Schema) -> list[str]:
    """Every field path as ``COLUMN_FIELD_PATHS`` lists them, such as ``device.web_info.browser``.

    A repeated record is one path, and so is each of its members (no step for the array itself).
    """

    def walk(prefix: str, kind: pa.DataType) -> Iterator[str]:
        yield prefix
        while pa.types.is_list(kind):
            kind = kind.value_type
        if pa.types.is_struct(kind):
            for field in kind:
                yield from walk(f"{prefix}.{field.name}", field.type)

    return [path for field in schema for path in walk(field.name, field.type)]
