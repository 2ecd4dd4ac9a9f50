"""Reports in words: when a schedule is due, how far a run is, what became of a mail."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from troupe.actors.analytics.reports.outcomes import State
from troupe.actors.analytics.reports.records import ReportSchedule, Run

PERIOD_WORDS: Final[Mapping[str, str]] = {
    "day": "the day before",
    "week": "the week before",
    "month": "the month before",
}
STATE_WORDS: Final[Mapping[State, tuple[str, str, str]]] = {
    State.QUEUED: ("Waiting", "flat", "It waits for its turn."),
    State.SENDING: ("Being sent", "accent", "It is on its way to the mail server."),
    State.SENT: ("Sent", "good", "The mail server has taken it."),
    State.DEFERRED: ("Put off", "warn", "The mail server did not take it yet; it is tried again."),
    State.BOUNCED: ("Bounced", "bad", "The address does not take mail."),
    State.SUPPRESSED: ("Left out", "flat", "The address gets no mail: unsubscribed or bounced."),
    State.AMBIGUOUS: ("Not known", "warn", "It may have arrived. A person has to decide."),
    State.FAILED: ("Given up", "bad", "It could not be sent."),
    State.CANCELLED: ("Stopped", "flat", "Somebody has stopped it."),
}
"""What people call a state, its tone, and what it means."""

RUN_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "waiting": ("Waits for data", "warn"),
    "sending": ("Being sent", "accent"),
    "done": ("Done", "good"),
    "cancelled": ("Stopped", "flat"),
}
_OVER: Final = (State.SENT, State.BOUNCED, State.SUPPRESSED, State.FAILED, State.CANCELLED,
                State.AMBIGUOUS)  # fmt: skip
_WEEKDAYS: Final = ("Sundays", "Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays",
                    "Saturdays", "Sundays")  # fmt: skip
_PLAIN_LINE: Final = re.compile(r"(\d{1,2}) (\d{1,2}) (\*|\d{1,2}) \* (\*|[0-7]|1-5|1-6)")
_NAMES: Final = {"SUN": "0", "MON": "1", "TUE": "2", "WED": "3", "THU": "4", "FRI": "5", "SAT": "6"}


def due_in_words(cron: str) -> str:
    """When a line is due, if that can be said shortly; else the line.

    >>> due_in_words("0 8 * * *"), due_in_words("30 7 * * 1-5"), due_in_words("0 6 1 * *")
    ('every day at 08:00', 'Mondays to Fridays at 07:30', 'on day 1 of each month at 06:00')
    >>> due_in_words("15 8 * * MON"), due_in_words("0 8 * * mon-fri")
    ('Mondays at 08:15', 'Mondays to Fridays at 08:00')
    >>> due_in_words("*/5 * * * *")
    '*/5 * * * *'
    """
    line = " ".join(_NAMES.get(part.upper(), part) for part in cron.split())
    match = _PLAIN_LINE.fullmatch(line.upper().replace("MON-FRI", "1-5").replace("MON-SAT", "1-6"))
    if match is None:
        return cron
    minute, hour, day, weekday = match.groups()
    at = f"at {int(hour):02}:{int(minute):02}"
    if day != "*":
        return f"on day {day} of each month {at}" if weekday == "*" else cron
    match weekday:
        case "*":
            return f"every day {at}"
        case "1-5":
            return f"Mondays to Fridays {at}"
        case "1-6":
            return f"Mondays to Saturdays {at}"
        case _:
            return f"{_WEEKDAYS[int(weekday)]} {at}"


@dataclass(frozen=True, slots=True)
class RunShown:
    """A run as it is shown.

    Attributes:
        run: As it is stored.
        mails: Deliveries by state.
    """

    run: Run
    mails: Mapping[str, int]

    @property
    def total(self) -> int:
        """Mails of all states."""
        return sum(self.mails.values())

    @property
    def over(self) -> int:
        """Mails whose outcome is known."""
        return sum(self.mails.get(state.value, 0) for state in _OVER)

    @property
    def share(self) -> int:
        """Percent of the mails that are over."""
        return 100 * self.over // self.total if self.total else 0

    @property
    def is_live(self) -> bool:
        """Whether something may still happen."""
        return self.run.state in {"waiting", "sending"}

    @property
    def counts(self) -> list[tuple[int, str, str]]:
        """How many mails, in which state, with which tone; the states that occur."""
        return [
            (self.mails[state.value], words[0].lower(), words[1])
            for state, words in STATE_WORDS.items()
            if self.mails.get(state.value)
        ]


def schedule_in_words(schedule: ReportSchedule) -> str:
    """What a schedule does, in a sentence."""
    what = PERIOD_WORDS[schedule.period.value]
    due = due_in_words(schedule.cron)
    return f"Sums up {what}, {due} on each recipient’s clock."
