"""Schedules: cron lines with a time zone that write jobs, every slot exactly once.

Make and change them through a `ScheduleStore`; a `Scheduler` in some group's supervisor does the
rest.
"""

from troupe.platform.schedules._cron import CronTimetable, Timetable, read_timetable, upcoming
from troupe.platform.schedules._kinds import (
    SHORTEST_INTERVAL,
    SchedulableKind,
    SchedulableKinds,
    check_interval,
    schedulable,
)
from troupe.platform.schedules._model import (
    SLOT_ARGUMENT,
    NewSchedule,
    Page,
    Schedule,
    ScheduleChange,
    Slot,
)
from troupe.platform.schedules._policy import Outcome, Policy
from troupe.platform.schedules._scheduler import Scheduler, SchedulerSettings
from troupe.platform.schedules._store import ScheduleStore

__all__ = [
    "SHORTEST_INTERVAL",
    "SLOT_ARGUMENT",
    "CronTimetable",
    "NewSchedule",
    "Outcome",
    "Page",
    "Policy",
    "SchedulableKind",
    "SchedulableKinds",
    "Schedule",
    "ScheduleChange",
    "ScheduleStore",
    "Scheduler",
    "SchedulerSettings",
    "Slot",
    "Timetable",
    "check_interval",
    "read_timetable",
    "schedulable",
    "upcoming",
]
