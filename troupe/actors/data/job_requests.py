"""What others ask of the data group: its jobs, as they are enqueued and scheduled.

Nothing here runs a job. Whoever asks for one need not load the clients of BigQuery and SFTP.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Annotated, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field

from troupe.common.dates import DateRange
from troupe.platform.jobs import JobValue, NewJob
from troupe.platform.schedules import SLOT_ARGUMENT, SchedulableKind, SchedulableKinds

GROUP: Final = "data"
"""The group whose processes run the jobs."""
INGEST: Final = "ingest"
"""The kind that loads days of the export."""
IMPORT_MASTER_DATA: Final = "import_master_data"
"""The kind that loads customers and locations."""
RECONCILE: Final = "reconcile"
"""The kind that counts days at their source."""
MOST_SCHEDULED_DAYS: Final = 92


def ingest_job(first: date, last: date) -> NewJob:
    """A job that loads the source days `first` to `last`, both included.

    While one for the same days waits or runs, enqueueing it gives that one back.
    """
    if last < first:
        raise ValueError(f"{last} is before {first}")
    arguments = {"start_date": first.isoformat(), "end_date": last.isoformat()}
    return NewJob(group=GROUP, kind=INGEST, arguments=arguments, unique_key=f"{first}/{last}")


def ingest_days_job(days: Sequence[date]) -> NewJob:
    """A job that loads just these source days: the gaps of a range.

    While one for the same days waits or runs, enqueueing it gives that one back.
    """
    named = [day.isoformat() for day in sorted(set(days))]
    if not named:
        raise ValueError("there are no days to load")
    key = hashlib.sha256(" ".join(named).encode()).hexdigest()
    return NewJob(group=GROUP, kind=INGEST, arguments={"days": named}, unique_key=f"days/{key}")


def days_of(
    arguments: Mapping[str, JobValue], *, zone: str = "UTC", enqueued: datetime | None = None
) -> list[date]:
    """The days that an ``ingest`` job was asked for, in order.

    Args:
        arguments: The job's: a range, just some days, or the last ones before it was due.
        zone: The property's, whose days they are.
        enqueued: When the job was made; counts where no slot says when it was due.
    """
    if "days" in arguments:
        return [date.fromisoformat(day) for day in arguments["days"]]
    if "last_days" in arguments:
        slot = arguments.get(SLOT_ARGUMENT)
        due = datetime.fromisoformat(slot) if slot else enqueued
        if due is None:
            raise ValueError("the last days before when?")
        last = due.astimezone(ZoneInfo(zone)).date()
        if not arguments.get("include_today"):
            last -= timedelta(days=1)
        first = last - timedelta(days=int(arguments["last_days"]) - 1)
    else:
        first = date.fromisoformat(arguments["start_date"])
        last = date.fromisoformat(arguments["end_date"])
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


class ScheduledImport(BaseModel):
    """An import of master data."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )

    again: bool = False
    """Read the files also if they look unchanged."""


SCHEDULABLE_IMPORT: Final = SchedulableKind(
    GROUP, IMPORT_MASTER_DATA, ScheduledImport, "Import customers and locations"
)
"""What a schedule may say to an import: what `import_job` takes, without an upload."""


def import_job(*, again: bool = False) -> NewJob:
    """What to enqueue; while one waits or runs for a tenant, that one is given back.

    Args:
        again: Read the files also if they look unchanged.
    """
    return NewJob(
        group=GROUP, kind=IMPORT_MASTER_DATA, arguments={"again": again}, unique_key="sftp"
    )


def upload_job(upload: UUID) -> NewJob:
    """What to enqueue, in the transaction that holds an upload."""
    return NewJob(
        group=GROUP,
        kind=IMPORT_MASTER_DATA,
        arguments={"upload": str(upload)},
        unique_key=f"upload {upload}",
    )


def reconcile_job(days: DateRange) -> NewJob:
    """What to enqueue; while one for the same days waits or runs, that one is given back."""
    arguments = {"start_date": days.start.isoformat(), "end_date": days.end.isoformat()}
    return NewJob(
        group=GROUP,
        kind=RECONCILE,
        arguments=arguments,
        unique_key=f"{days.start}/{days.end}",
    )


class LastDays(BaseModel):
    """Days of the export that end before the schedule's slot, in the property's zone."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    last_days: Annotated[int, Field(ge=1, le=MOST_SCHEDULED_DAYS)] = 4
    """How many. Google rewrites a day for up to 72 hours, so fewer than 4 miss late events."""
    include_today: bool = False
    """Whether the day of the slot is the last of them, instead of the one before."""


SCHEDULABLE: Final[SchedulableKinds] = {
    kind.kind: kind
    for kind in (
        SchedulableKind(GROUP, INGEST, LastDays, "Load the last days of the export"),
        SCHEDULABLE_IMPORT,
        SchedulableKind(GROUP, RECONCILE, LastDays, "Count the last days at the source"),
    )
}
