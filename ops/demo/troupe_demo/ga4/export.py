"""The files of an export: which families of tables a day has, and how one is put in its place.

For most days there is a daily table alone. Towards the end it is as in a property that also
streams:

    older quarter     events_ without the latest column (LEGACY_SCHEMA)
    …                 events_
    last day − 2      events_, and left over from before it: events_fresh_ and events_intraday_
    last day − 1      events_fresh_ and events_intraday_; the daily table is not there yet
    last day          events_intraday_, until the middle of the day

A left-over table is not a copy. It lacks rows that arrived late, and it has rows of a robot that
the daily processing removes, so a reader that takes the wrong family, or that lets ``events_*``
match all three, gets other figures.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from troupe_demo.ga4.clock import ONE_DAY
from troupe_demo.ga4.profiles import TenantProfile
from troupe_demo.ga4.schema import INTRADAY_LACKS, LATEST_COLUMN

ROBOT: Final = "1000000001.1000000001"
"""`user_pseudo_id` of the robot that only left-over tables know."""
ROBOT_ROWS: Final = 40


class Family(StrEnum):
    """A family of export tables; the value is what its names begin with."""

    DAILY = "events_"
    FRESH = "events_fresh_"
    INTRADAY = "events_intraday_"

    def table(self, day: date) -> str:
        """The table's name."""
        return f"{self.value}{day:%Y%m%d}"


@dataclass(frozen=True, slots=True)
class Calendar:
    """The days of an export."""

    last_day: date
    days: int

    def __iter__(self) -> Iterator[date]:
        return (self.last_day - ONE_DAY * back for back in range(self.days - 1, -1, -1))

    def families(self, day: date) -> tuple[Family, ...]:
        """The families that `day` has, the best first."""
        match (self.last_day - day).days:
            case 0:
                return (Family.INTRADAY,)
            case 1:
                return (Family.FRESH, Family.INTRADAY)
            case 2:
                return (Family.DAILY, Family.FRESH, Family.INTRADAY)
            case _:
                return (Family.DAILY,)

    def is_legacy(self, day: date) -> bool:
        """Whether `day` was exported before the latest column appeared."""
        age = (self.last_day - day).days
        return age > 2 and self.days - age <= self.days // 4


def folder(root: Path, profile: TenantProfile) -> Path:
    """Where the tables of one property are."""
    return root / profile.project / profile.dataset


def table_path(root: Path, profile: TenantProfile, family: Family, day: date) -> Path:
    """The file of one table."""
    return folder(root, profile) / f"{family.table(day)}.parquet"


def write_table(path: Path, table: pa.Table) -> None:
    """Write `table`; a reader sees the file that was there before, or the new one, complete."""
    partial = path.with_name(f".{path.name}.partial")
    pq.write_table(table, partial, compression="zstd")
    partial.replace(path)


def write_day(
    root: Path, profile: TenantProfile, calendar: Calendar, day: date, table: pa.Table
) -> dict[str, int]:
    """Write every table that `day` has; `table` has all columns and rows.

    Returns:
        The number of rows by the table's name, the best family first.
    """
    written: dict[str, int] = {}
    for place, family in enumerate(calendar.families(day)):
        rows = table if place == 0 else _left_over(table, family)
        if family is Family.INTRADAY:
            rows = rows.drop_columns(list(INTRADAY_LACKS))
        elif calendar.is_legacy(day):
            rows = rows.drop_columns([LATEST_COLUMN])
        write_table(table_path(root, profile, family, day), rows)
        written[family.table(day)] = rows.num_rows
    return written


def _left_over(table: pa.Table, family: Family) -> pa.Table:
    """An earlier state of the day: without the rows that came late, with those of the robot."""
    gap = 29 if family is Family.FRESH else 7
    kept = [row for row in range(table.num_rows) if row % gap]
    robot = table.slice(0, min(ROBOT_ROWS, table.num_rows))
    column = table.schema.get_field_index("user_pseudo_id")
    field = table.schema.field(column)
    names = pa.repeat(pa.scalar(ROBOT, field.type), robot.num_rows)
    return pa.concat_tables([table.take(kept), robot.set_column(column, field, names)])
