"""What a tenant's people may schedule: kinds of jobs, with arguments that are checked.

The runtime schedules any job. People choose among those that a group offers, and what they give as
arguments is validated like any other input: it reaches a handler weeks later, when nobody is there
to read an error.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pydantic import BaseModel, ValidationError

from troupe.common.errors import InvalidInput
from troupe.platform.jobs import JobValue
from troupe.platform.schedules._cron import CronTimetable, upcoming

SHORTEST_INTERVAL: Final = timedelta(minutes=5)
"""Between two slots of a schedule that people make."""
_LOOKED_AHEAD: Final = 50


@dataclass(frozen=True, slots=True)
class SchedulableKind:
    """A kind of job that people may schedule.

    Attributes:
        group: The actor group that runs it.
        kind: Names its handler.
        arguments: What it takes.
        summary: One line for people.
    """

    group: str
    kind: str
    arguments: type[BaseModel]
    summary: str

    def checked(self, given: Mapping[str, JobValue]) -> dict[str, JobValue]:
        """The arguments, with defaults filled in.

        Raises:
            InvalidInput: They are not valid; each pointer begins with ``/arguments``.
        """
        try:
            return self.arguments.model_validate(dict(given)).model_dump(mode="json")
        except ValidationError as error:
            problems = [
                (
                    "/".join(("/arguments", *map(str, finding["loc"]))),
                    "is not known here"
                    if finding["type"] == "extra_forbidden"
                    else finding["msg"][:1].lower() + finding["msg"][1:],
                )
                for finding in error.errors(include_url=False, include_input=False)
            ]
            raise InvalidInput("The schedule's arguments are not valid.", problems) from None


SchedulableKinds = Mapping[str, SchedulableKind]


def schedulable(kinds: SchedulableKinds, name: str) -> SchedulableKind:
    """The kind of this name.

    Raises:
        InvalidInput: There is none that may be scheduled.
    """
    if name not in kinds:
        known = ", ".join(sorted(kinds))
        raise InvalidInput(
            "This kind of job cannot be scheduled.", [("/kind", f"must be one of {known}")]
        )
    return kinds[name]


def check_interval(cron: str, zone: str, now: datetime) -> None:
    """Refuse a line that is due too often.

    Raises:
        InvalidInput: It is, or the line or the zone cannot be read.
    """
    due = upcoming(CronTimetable(cron, zone), now, _LOOKED_AHEAD)
    if any(later - earlier < SHORTEST_INTERVAL for earlier, later in itertools.pairwise(due)):
        minutes = SHORTEST_INTERVAL // timedelta(minutes=1)
        problem = ("/cron", f"must not be due more often than every {minutes} minutes")
        raise InvalidInput("The schedule would run too often.", [problem])
