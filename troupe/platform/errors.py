"""Errors of the actor platform.

They say that our own runtime could not do what was asked, whoever asked::

    TroupeError
    └── PlatformError
        ├── SupervisionError            the tree of children
        │   ├── UnknownChild            no child of that name here
        │   ├── ChildFailedToStart      ended, or ran out of time, before it was ready
        │   ├── RestartsExhausted       failed more often than its supervisor tolerates
        │   └── ProcessError            a child that is a process
        │       ├── ProcessEnded        it ended, by itself or by a signal of somebody else
        │       ├── ProcessStuck        its loop did not turn for too long; it was killed
        │       ├── MemoryExceeded      it used more memory than it may; it was killed
        │       └── ProtocolBroken      it, or its supervisor, said what cannot be understood
        ├── Overloaded                  a bound was reached; worth a retry a little later
        │   ├── MailboxFull             an actor's mailbox takes no more
        │   └── PoolSaturated           the group's task pool takes no more
        ├── ActorUnavailable            the actor is restarting or has stopped
        │   └── ActorCrashed            it failed while it handled this very message
        ├── AskDeadlineExceeded         no answer within the asker's deadline
        ├── ResourceUnavailable         a group's resource is not open at the moment
        ├── TaskCancelled               somebody cancelled the task by its key
        └── JobError                    durable jobs
            ├── LeaseLost               this attempt no longer holds the job; it must stop
            ├── PermanentJobError       the job's handler says that no retry will help
            ├── JobInterrupted          the handler leaves early because its process stops
            └── JobTimedOut             the attempt took longer than its kind allows

`summarise` turns any exception into the one line that a status page, a job row or a log may show.
"""

import traceback
from collections.abc import Iterator
from pathlib import PurePath
from typing import Final

from troupe.common.errors import TroupeError

SUMMARY_LENGTH: Final = 300


class PlatformError(TroupeError):
    """The actor runtime could not do what was asked."""


class SupervisionError(PlatformError):
    """The tree of children does not allow it."""


class UnknownChild(SupervisionError):
    """The supervisor has no child of that name."""


class ChildFailedToStart(SupervisionError):
    """A child ended, or ran out of time, before it said that it was ready."""


class RestartsExhausted(SupervisionError):
    """Children failed more often than the restart intensity allows; the supervisor gave up."""


class ProcessError(SupervisionError):
    """A child that is a process failed."""


class ProcessEnded(ProcessError):
    """The process ended, by itself or by a signal of somebody else."""


class ProcessStuck(ProcessError):
    """The process's loop did not turn for longer than it may; it was killed."""


class MemoryExceeded(ProcessError):
    """The process used more memory than it may; it was killed."""


class ProtocolBroken(ProcessError):
    """One end of a control channel said something that the other cannot understand, or nothing."""


class Overloaded(PlatformError):
    """A bound was reached; the same request may succeed a little later."""


class MailboxFull(Overloaded):
    """The actor's mailbox takes no more messages."""


class PoolSaturated(Overloaded):
    """The task pool takes no more work, or did not get to it within the caller's deadline."""


class ActorUnavailable(PlatformError):
    """The actor is not running: it was never started, is restarting, or has stopped."""


class ActorCrashed(ActorUnavailable):
    """The actor failed while it handled this very message; whether it took effect is unknown."""


class AskDeadlineExceeded(PlatformError):
    """No answer came within the asker's deadline; whether the message took effect is unknown."""


class ResourceUnavailable(PlatformError):
    """The resource is not open at the moment: not yet, not any more, or it is being restarted."""


class TaskCancelled(PlatformError):
    """Somebody cancelled the task by its key."""


class JobError(PlatformError):
    """A durable job could not go on."""


class LeaseLost(JobError):
    """This attempt no longer holds the job: nothing that it does from here on can be committed."""


class PermanentJobError(JobError):
    """Raised by a job's handler: the job cannot succeed, however often it is tried."""


class JobInterrupted(JobError):
    """Raised by a job's handler that leaves early after `JobRun.stopping` was set."""


class JobTimedOut(JobError):
    """The attempt took longer than its kind allows."""


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions inside an exception group, however deep; of anything else, itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def unexpected(error: BaseException) -> BaseException | None:
    """The exception, if a log should show its traceback; None if all of it was foreseen."""
    return None if all(isinstance(leaf, TroupeError) for leaf in leaves(error)) else error


def summarise(error: BaseException) -> str:
    """One line about an exception, fit for a status page.

    Messages of our own errors are written for people and free of secrets. Messages of all others
    may quote anything (a row, a URL with a password), so that only their type and the place that
    raised them are told; the log has the traceback.
    """
    first, *others = leaves(error)
    if isinstance(first, TroupeError):
        lines = str(first).splitlines()
        text = lines[0] if lines else type(first).__name__
    else:
        text = type(first).__name__
        frames = traceback.extract_tb(first.__traceback__, limit=-1)
        if frames:
            module = PurePath(frames[-1].filename).stem
            text = f"{text} in {module}.{frames[-1].name}, line {frames[-1].lineno}"
    if others:
        text = f"{text} (and {len(others)} more)"
    return text[:SUMMARY_LENGTH]
