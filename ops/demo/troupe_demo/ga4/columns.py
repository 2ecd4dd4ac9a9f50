"""From a day's hits to one Arrow table.

The problem: a row of the export has 217 field paths and a dozen parameters. Handing rows to Arrow
as nested dictionaries costs about a millisecond each, most of it for fields that are null.

The choice: nearly all nested values of a day repeat. There are some hundred distinct devices,
places and campaigns, some thousand distinct parameters, and every parameter of a page or session
occurs on all its events. So a column is written as the *pool* of its distinct values, which Arrow
converts once, and a list of positions in the pool; `take` then lays the values out in C++. Lists
(parameters, items, user properties) are the same with offsets.

What it costs: one dictionary look-up per parameter and row, about a tenth of a microsecond, and
that values must be hashable: tuples and frozen objects. Objects shared between rows are hashed by
identity.

Rejected: numpy and pandas (one more dependency for a demonstration), dictionary-encoded Arrow
columns (readers would see another schema than the export's), appending to builders field by field
(217 calls per row).
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import date
from typing import Any, Generic, TypeVar

import pyarrow as pa

from troupe_demo.ga4.hits import Commerce, Device, Hit, Line, Param, Property, Scene, Source
from troupe_demo.ga4.profiles import TenantProfile
from troupe_demo.ga4.schema import DAILY_SCHEMA

T = TypeVar("T", bound=Hashable)

_GOOGLE_ADS_CUSTOMER = "493-201-7784"


class Pool(Generic[T]):
    """The distinct values of a column, in the order first seen."""

    __slots__ = ("_places",)

    def __init__(self) -> None:
        self._places: dict[T, int] = {}

    def place(self, value: T) -> int:
        """Where `value` is in the pool; put there if it is new."""
        return self._places.setdefault(value, len(self._places))

    def records(self, record: Callable[[T], Any], kind: pa.DataType) -> pa.Array:
        """The pool as an array of `kind`."""
        return pa.array([record(value) for value in self._places], kind)

    def values(self) -> list[T]:
        """The pool as it is."""
        return list(self._places)


def day_table(hits: Sequence[Hit], profile: TenantProfile, day: date) -> pa.Table:
    """All columns of a daily table for `hits`, in their order."""
    active = {hit.scene.cookie for hit in hits if hit.active}
    active.discard(None)
    rows = len(hits)
    rates = profile.usd_rates

    def repeated(column: str, value: str) -> pa.Array:
        return pa.repeat(pa.scalar(value, DAILY_SCHEMA.field(column).type), rows)

    def plain(column: str, values: Iterable[Any]) -> pa.Array:
        return pa.array(values, DAILY_SCHEMA.field(column).type)

    def pooled(column: str, values: Iterable[T], record: Callable[[T], Any]) -> pa.Array:
        pool: Pool[T] = Pool()
        places = pa.array([pool.place(value) for value in values], pa.int32())
        return pool.records(record, DAILY_SCHEMA.field(column).type).take(places)

    columns: dict[str, pa.Array] = {
        "event_date": repeated("event_date", f"{day:%Y%m%d}"),
        "event_timestamp": plain("event_timestamp", (hit.timestamp for hit in hits)),
        "event_name": plain("event_name", (hit.name for hit in hits)),
        "event_params": _parameters([hit.params for hit in hits]),
        "event_previous_timestamp": plain(
            "event_previous_timestamp", (hit.previous for hit in hits)
        ),
        "event_value_in_usd": plain("event_value_in_usd", (hit.value_usd for hit in hits)),
        "event_bundle_sequence_id": plain(
            "event_bundle_sequence_id", (hit.page_id * 31 + hit.ordering for hit in hits)
        ),
        "user_id": plain("user_id", (hit.identity.user_id for hit in hits)),
        "user_pseudo_id": plain("user_pseudo_id", (hit.scene.cookie for hit in hits)),
        "privacy_info": pooled("privacy_info", (hit.scene.consent for hit in hits), _privacy),
        "user_properties": _user_properties([hit.identity.properties for hit in hits]),
        "user_first_touch_timestamp": plain(
            "user_first_touch_timestamp", (hit.scene.first_touch for hit in hits)
        ),
        "user_ltv": pooled(
            "user_ltv",
            (hit.identity.spent for hit in hits),
            lambda spent: _lifetime_value(spent, profile.currency),
        ),
        "device": pooled(
            "device", (hit.scene.device for hit in hits), lambda device: _device(device, profile)
        ),
        "geo": pooled(
            "geo",
            (hit.scene.geo for hit in hits),
            lambda geo: {
                "city": geo.city,
                "country": geo.country,
                "continent": geo.continent,
                "region": geo.region,
                "sub_continent": geo.sub_continent,
                "metro": "(not set)",
            },
        ),
        "traffic_source": pooled(
            "traffic_source", (hit.scene.first_source for hit in hits), _first_source
        ),
        "stream_id": repeated("stream_id", profile.stream_id),
        "platform": repeated("platform", "WEB"),
        "ecommerce": pooled(
            "ecommerce",
            (hit.commerce for hit in hits),
            lambda commerce: _ecommerce(commerce, rates),
        ),
        "items": _items([hit.lines for hit in hits], profile),
        "collected_traffic_source": pooled(
            "collected_traffic_source",
            (_collected_key(hit) for hit in hits),
            _collected_source,
        ),
        "is_active_user": plain("is_active_user", (hit.scene.cookie in active for hit in hits)),
        "batch_event_index": plain("batch_event_index", (hit.index for hit in hits)),
        "batch_page_id": plain("batch_page_id", (hit.page_id for hit in hits)),
        "batch_ordering_id": plain("batch_ordering_id", (hit.ordering for hit in hits)),
        "session_traffic_source_last_click": pooled(
            "session_traffic_source_last_click", (hit.scene.source for hit in hits), _last_click
        ),
    }
    return pa.Table.from_arrays(
        [
            columns[field.name] if field.name in columns else pa.nulls(rows, field.type)
            for field in DAILY_SCHEMA
        ],
        schema=DAILY_SCHEMA,
    )


def _listed(rows: Sequence[Sequence[T]], values: Callable[[Pool[T]], pa.Array]) -> pa.ListArray:
    """A column of lists; `values` turns the pool of all their members into an array."""
    pool: Pool[T] = Pool()
    place = pool.place
    places: list[int] = []
    offsets = [0]
    for row in rows:
        places.extend([place(member) for member in row])
        offsets.append(len(places))
    members = values(pool).take(pa.array(places, pa.int32()))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), members)


def _parameters(rows: Sequence[Sequence[Param]]) -> pa.Array:
    kind = DAILY_SCHEMA.field("event_params").type.value_type

    def values(pool: Pool[Param]) -> pa.Array:
        entries = pool.values()
        value = pa.StructArray.from_arrays(
            [
                pa.array([entry[1] for entry in entries], pa.string()),
                pa.array([entry[2] for entry in entries], pa.int64()),
                pa.nulls(len(entries), pa.float64()),
                pa.array([entry[3] for entry in entries], pa.float64()),
            ],
            fields=list(kind.field("value").type),
        )
        keys = pa.array([entry[0] for entry in entries], pa.string())
        return pa.StructArray.from_arrays([keys, value], fields=list(kind))

    return _listed(rows, values)


def _user_properties(rows: Sequence[Sequence[Property]]) -> pa.Array:
    kind = DAILY_SCHEMA.field("user_properties").type.value_type

    def record(entry: Property) -> dict[str, Any]:
        key, value, moment = entry
        return {"key": key, "value": {"string_value": value, "set_timestamp_micros": moment}}

    return _listed(rows, lambda pool: pool.records(record, kind))


def _items(rows: Sequence[Sequence[Line]], profile: TenantProfile) -> pa.Array:
    kind = DAILY_SCHEMA.field("items").type.value_type

    def record(line: Line) -> dict[str, Any]:
        product = line.product
        rate = profile.usd_rates[line.currency or profile.currency]
        cents = product.cents * (line.quantity or 0)
        revenue = cents / 100 if line.kind == "sold" else None
        refund = cents / 100 if line.kind == "refunded" else None
        return {
            "item_id": product.id,
            "item_name": product.name,
            "item_brand": product.brand,
            "item_variant": "(not set)",
            "item_category": product.category,
            "item_category2": product.subcategory,
            "price_in_usd": _in_usd(product.cents / 100, rate),
            "price": product.cents / 100,
            "quantity": line.quantity,
            "item_revenue_in_usd": _in_usd(revenue, rate),
            "item_revenue": revenue,
            "item_refund_in_usd": _in_usd(refund, rate),
            "item_refund": refund,
            "coupon": "(not set)",
            "affiliation": "(not set)",
            "location_id": "(not set)",
            "item_list_id": "(not set)",
            "item_list_name": line.list_name or "(not set)",
            "item_list_index": "(not set)" if line.position is None else str(line.position),
            "promotion_id": "(not set)",
            "promotion_name": "(not set)",
            "creative_name": "(not set)",
            "creative_slot": "(not set)",
            "item_params": [],
        }

    return _listed(rows, lambda pool: pool.records(record, kind))


def _in_usd(value: float | None, rate: float) -> float | None:
    return None if value is None else round(value * rate, 6)


def _privacy(consent: object) -> dict[str, str]:
    answer = "Yes" if consent else "No"
    return {"analytics_storage": answer, "ads_storage": answer, "uses_transient_token": "No"}


def _lifetime_value(spent: int | None, currency: str) -> dict[str, Any] | None:
    return None if spent is None else {"revenue": spent / 100, "currency": currency}


def _device(device: Device, profile: TenantProfile) -> dict[str, Any]:
    return {
        "category": device.category,
        "mobile_brand_name": device.brand,
        "mobile_model_name": device.model,
        "mobile_marketing_name": "(not set)",
        "operating_system": device.system,
        "operating_system_version": device.system_version,
        "language": profile.language,
        "is_limited_ad_tracking": "No",
        "web_info": {
            "browser": device.browser,
            "browser_version": device.browser_version,
            "hostname": profile.hostname,
        },
    }


def _first_source(source: Source) -> dict[str, Any]:
    return {"name": source.campaign, "medium": source.medium, "source": source.source}


def _ecommerce(commerce: Commerce | None, rates: Any) -> dict[str, Any] | None:
    if commerce is None:
        return None
    rate = rates.get(commerce.currency, 0.0)

    def money(name: str, cents: int | None) -> dict[str, float | None]:
        value = None if cents is None else cents / 100
        return {name: value, f"{name}_in_usd": _in_usd(value, rate)}

    return {
        "total_item_quantity": commerce.quantity,
        **money("purchase_revenue", commerce.revenue),
        **money("refund_value", commerce.refund),
        **money("shipping_value", commerce.shipping),
        **money("tax_value", commerce.tax),
        "unique_items": commerce.unique_items,
        "transaction_id": commerce.transaction_id,
    }


def _collected_key(hit: Hit) -> Scene | None:
    """Only the first event of a visit says what its address carried."""
    return hit.scene if hit.previous is None and hit.scene.source.medium != "(none)" else None


def _collected_source(scene: Scene | None) -> dict[str, Any] | None:
    if scene is None:
        return None
    source = scene.source
    return {
        "manual_campaign_id": source.campaign_id,
        "manual_campaign_name": source.campaign,
        "manual_source": source.source,
        "manual_medium": source.medium,
        "gclid": scene.gclid,
    }


def _last_click(source: Source) -> dict[str, Any]:
    campaign = {
        "campaign_id": source.campaign_id or "(not set)",
        "campaign_name": source.campaign or "(not set)",
        "source": source.source,
        "medium": source.medium,
    }
    ads = {
        "customer_id": _GOOGLE_ADS_CUSTOMER,
        "account_name": "Shop",
        "campaign_id": source.campaign_id,
        "campaign_name": source.campaign,
        "ad_group_id": "(not set)",
        "ad_group_name": "(not set)",
    }
    cross_channel = campaign | {
        "default_channel_group": source.channel,
        "primary_channel_group": source.channel,
    }
    return {
        "manual_campaign": campaign,
        "google_ads_campaign": ads if source.paid else None,
        "cross_channel_campaign": cross_channel,
    }
