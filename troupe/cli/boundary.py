"""Where errors become one line and an exit code; a person never sees a traceback for these.

| code | meaning |
|---|---|
| 0 | done |
| 1 | an error in Troupe itself (with a traceback: please report it) |
| 2 | the command line cannot be understood |
| 3 | the configuration cannot be used |
| 4 | what was asked for cannot be done (unknown tenant, backwards range, …) |
| 5 | another system refused or did not answer (BigQuery, SFTP, identity provider) |
| 6 | the database is not reachable, took too long, or has no space left |
| 7 | the job that was waited for did not succeed |
| 8 | the new configuration did not start; the old one is still in force |
| 9 | `troupe doctor` found something that does not work |
| 130 | interrupted by ^C; a job that was waited for goes on |
"""

import functools
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

import click

from troupe.common.errors import (
    CallerError,
    ConfigurationError,
    DatabaseError,
    PeerError,
    TroupeError,
)
from troupe.platform.errors import SupervisionError, leaves
from troupe.reload import NotApplied

if TYPE_CHECKING:
    from troupe.platform.jobs import Job

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED: Final = 130


class JobNotDone(TroupeError):
    """The job that a command waited for ended otherwise than done."""


class NotWell(TroupeError):
    """A check of ``troupe doctor`` failed."""


class LeftRunning(TroupeError):
    """Whoever waited for a job has left, and the job goes on.

    Args:
        message: How to come back to it.
        job: As it was last seen.
    """

    def __init__(self, message: str, job: "Job") -> None:
        super().__init__(message)
        self.job = job


_EXIT_CODES: Final[tuple[tuple[type[TroupeError], int], ...]] = (
    (ConfigurationError, 3),
    (CallerError, 4),
    (PeerError, 5),
    (DatabaseError, 6),
    (JobNotDone, 7),
    (NotApplied, 8),
    (NotWell, 9),
    (LeftRunning, INTERRUPTED),
)


def causes(error: BaseException) -> Iterator[BaseException]:
    """What really happened: inside exception groups, and behind a supervisor that gave up."""
    for leaf in leaves(error):
        if isinstance(leaf, SupervisionError) and leaf.__cause__ is not None:
            yield from causes(leaf.__cause__)
        else:
            yield leaf


def exit_code(error: BaseException) -> int | None:
    """The code for an expected error; None for one that deserves its traceback."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), None)


def reported(command: Callable[P, R]) -> Callable[P, R]:
    """Let a command end with one line per expected error instead of a traceback."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except BaseException as error:
            inner = list(causes(error))
            codes = [exit_code(leaf) for leaf in inner]
            if None in codes:
                raise
            for leaf in dict.fromkeys(
                str(e) for e in inner if not isinstance(e, KeyboardInterrupt)
            ):
                click.echo(f"troupe: {leaf}", err=True)
            sys.exit(next(code for code in codes if code is not None))

    return wrapper
