"""Late hits: a past day's table, written again with more rows in it.

Google rewrites a daily table for up to three days, because phones and shops report hours after the
fact. `late` does the same to a table on disk. It needs no simulation: it copies events that are
there, moves them to another time of the same day, and gives copied orders an id of their own, so
that sessions grow and revenue changes.
"""

from datetime import date
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from troupe_demo.ga4.clock import MINUTE, ONE_DAY, midnight
from troupe_demo.ga4.dice import Dice
from troupe_demo.ga4.export import Family, table_path, write_table
from troupe_demo.ga4.profiles import TenantProfile
from troupe_demo.ga4.schema import LATEST_COLUMN

LATEST: Final = 20 * MINUTE
"""A copied event happens up to this much after the one it is a copy of."""


def late(
    root: Path,
    profile: TenantProfile,
    *,
    day: date,
    hits: int,
    seed: int,
    family: Family = Family.DAILY,
) -> int:
    """Add `hits` late events to `day`, among them an order if the day has any.

    Args:
        root: What `generate` was given.
        profile: The property.
        day: A day whose table exists.
        hits: How many, at least 1.
        seed: The same arguments on the same table add the same rows.
        family: Which table of the day is written again.

    Returns:
        The table's number of rows afterwards.

    Raises:
        FileNotFoundError: The day has no table of that family.
        ValueError: `hits` is not positive, or the table has no row to copy.
    """
    path = table_path(root, profile, family, day)
    table = pq.read_table(path)
    if hits < 1 or table.num_rows == 0:
        raise ValueError("late hits are copies: at least one is needed, and a row to copy")
    dice = Dice(f"late/{seed}/{profile.project}/{day:%Y%m%d}/{table.num_rows}")
    names = table.column("event_name").to_pylist()
    # A second first visit or session start would contradict the first one.
    plain = [row for row, name in enumerate(names) if name in {"page_view", "scroll", "view_item"}]
    orders = [row for row, name in enumerate(names) if name == "purchase"]
    rows = [dice.pick(plain or range(table.num_rows)) for _ in range(hits)]
    if orders:
        rows[0] = dice.pick(orders)
    end = midnight(day + ONE_DAY, ZoneInfo(profile.zone))
    copies = table.take(rows)
    copies = _moved(copies, dice, end)
    if orders:
        copies = _renamed(copies, f"{profile.order_prefix}L{seed}-{table.num_rows}")
    write_table(path, pa.concat_tables([table, copies]))
    return len(names) + hits


def _moved(copies: pa.Table, dice: Dice, end: int) -> pa.Table:
    """The copies at later times of the same day; the newest column keeps the original's time."""
    times = copies.column("event_timestamp").to_pylist()
    moved = [min(time + 1 + dice.below(LATEST), end - 1) for time in times]
    column = copies.schema.get_field_index("event_timestamp")
    result = copies.set_column(column, copies.schema.field(column), pa.array(moved, pa.int64()))
    if LATEST_COLUMN in result.schema.names:
        column = result.schema.get_field_index(LATEST_COLUMN)
        result = result.set_column(column, result.schema.field(column), pa.array(moved, pa.int64()))
    return result


def _renamed(copies: pa.Table, transaction_id: str) -> pa.Table:
    """The copies with one transaction id on all that have revenue."""
    column = copies.schema.get_field_index("ecommerce")
    field = copies.schema.field(column)
    records = copies.column(column).to_pylist()
    for record in records:
        if record is not None and record["purchase_revenue"] is not None:
            record["transaction_id"] = transaction_id
    return copies.set_column(column, field, pa.array(records, field.type))
