"""Which of the data group's jobs a tenant may schedule, and with which arguments."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from troupe.actors.data.days import GROUP, INGEST
from troupe.actors.data.master_data import SCHEDULABLE_IMPORT
from troupe.actors.data.reconciliation import RECONCILE
from troupe.platform.schedules import SchedulableKind, SchedulableKinds

MOST_SCHEDULED_DAYS: Final = 92


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
