"""Durable jobs on PostgreSQL.

The promise: *at-least-once execution; at most one attempt can commit through us; effects outside
carry an idempotency key.* Enqueue in a transaction of your own, handle with a `JobRunner`, look
through a `JobStore`.
"""

from troupe.platform.jobs._attempt import Handler, JobKind
from troupe.platform.jobs._claimed import ClaimedJob
from troupe.platform.jobs._enqueue import Enqueued, enqueue, enqueue_many
from troupe.platform.jobs._model import (
    DEFAULT_MAX_ATTEMPTS,
    Job,
    JobFailure,
    JobPage,
    JobState,
    JobValue,
    NewJob,
    Progress,
)
from troupe.platform.jobs._operations import (
    KindAtWork,
    kinds_at_work,
    pause_kind,
    resume_kind,
)
from troupe.platform.jobs._outcome import DEFAULT_RETRY
from troupe.platform.jobs._run import JobRun
from troupe.platform.jobs._runner import JobRunner, RunnerSettings
from troupe.platform.jobs._store import JobStore

__all__ = [
    "DEFAULT_MAX_ATTEMPTS",
    "DEFAULT_RETRY",
    "ClaimedJob",
    "Enqueued",
    "Handler",
    "Job",
    "JobFailure",
    "JobKind",
    "JobPage",
    "JobRun",
    "JobRunner",
    "JobState",
    "JobStore",
    "JobValue",
    "KindAtWork",
    "NewJob",
    "Progress",
    "RunnerSettings",
    "enqueue",
    "enqueue_many",
    "kinds_at_work",
    "pause_kind",
    "resume_kind",
]
