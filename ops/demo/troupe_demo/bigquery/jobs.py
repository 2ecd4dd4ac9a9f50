"""Query jobs: what was asked, how it stands, and where its result is.

A job runs in one of a few threads; requests wait for it on its event. Results are kept until there
are too many or they grow too large, the oldest going first, as BigQuery forgets anonymous results
after a day.
"""

import hashlib
import queue
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Final

from troupe.common.units import GiB, MiB
from troupe_demo.bigquery.catalogue import LOCATION, reference
from troupe_demo.bigquery.engine import Engine, QueryRequest, Running
from troupe_demo.bigquery.errors import BigQueryError
from troupe_demo.bigquery.faults import Faults
from troupe_demo.bigquery.results import Result
from troupe_demo.bigquery.sql import Program
from troupe_demo.bigquery.types import rest_schema

_WORKERS: Final = 3
_KEPT_JOBS: Final = 1_000
_KEPT_BYTES: Final = 4 * GiB
_MAX_PENDING: Final = 300
_LEAST_BILLED: Final = 10 * MiB
_KNOWN_KEYS: Final = frozenset(
    {"query", "useLegacySql", "defaultDataset", "priority", "useQueryCache", "maximumBytesBilled"}
    | {"parameterMode", "queryParameters", "createDisposition", "writeDisposition"}
    | {"allowLargeResults", "flattenResults"}
)


@dataclass(eq=False)
class Job:
    """One query job.

    Attributes:
        configuration: The ``JobConfiguration`` as it was sent.
        error: Why it failed, once done.
        program: What runs, once compiled.
        result: Its rows, once done.
    """

    id: str
    project: str
    email: str
    configuration: dict[str, Any]
    created: int
    running: Running = field(default_factory=Running)
    done: threading.Event = field(default_factory=threading.Event)
    started: int | None = None
    ended: int | None = None
    program: Program | None = None
    bytes: int = 0
    result: Result | None = None
    error: BigQueryError | None = None

    @property
    def query(self) -> dict[str, Any]:
        """The ``JobConfigurationQuery``."""
        query: dict[str, Any] = self.configuration["query"]
        return query

    @property
    def destination(self) -> dict[str, Any]:
        """The anonymous table that holds the result."""
        return reference(self.project, anonymous_dataset(self.project), f"anon{self.id_digest}")

    @property
    def id_digest(self) -> str:
        """A table name's worth of the id."""
        return hashlib.sha256(f"{self.project}:{self.id}".encode()).hexdigest()

    def reference(self) -> dict[str, Any]:
        """A ``JobReference``."""
        return {"projectId": self.project, "jobId": self.id, "location": LOCATION}

    def state(self) -> str:
        """PENDING, RUNNING or DONE."""
        if self.done.is_set():
            return "DONE"
        return "PENDING" if self.started is None else "RUNNING"


def anonymous_dataset(project: str) -> str:
    """The hidden dataset of a project's query results."""
    return "_" + hashlib.sha256(project.encode()).hexdigest()[:40]


class Jobs:
    """All jobs, and the threads that run them."""

    def __init__(self, engine: Engine, faults: Faults) -> None:
        self._engine = engine
        self._faults = faults
        self._jobs: dict[tuple[str, str], Job] = {}
        self._requests: dict[tuple[str, str], Job] = {}
        self._lock = threading.Lock()
        self._waiting: queue.Queue[Job | None] = queue.Queue(_MAX_PENDING + _WORKERS)
        # Daemons: one that DuckDB does not give back in time must not hold up the process's end.
        self._workers = [
            threading.Thread(target=self._work, name=f"bigquery-job-{n}", daemon=True)
            for n in range(_WORKERS)
        ]
        for worker in self._workers:
            worker.start()

    def close(self, deadline: float) -> None:
        """Stop what runs, and wait for it for ``deadline`` seconds."""
        stopped = BigQueryError(503, "backendError", "The stand-in is ending")
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            job.running.stop(stopped)
        for _ in self._workers:
            self._waiting.put(None)
        end = time.monotonic() + deadline
        for worker in self._workers:
            worker.join(max(0.0, end - time.monotonic()))

    def estimate(self, project: str, configuration: dict[str, Any]) -> tuple[Program, int]:
        """Compile without running: a dry run.

        Raises:
            BigQueryError: The query cannot be run.
        """
        with self._engine.snapshot(project) as snapshot:
            program = self._engine.prepare(_request(project, configuration["query"]), snapshot)
            return program, program.bytes_read()

    def submit(
        self,
        project: str,
        email: str,
        configuration: dict[str, Any],
        job_id: str | None,
        request_id: str | None = None,
    ) -> Job:
        """Start a job; ``request_id`` makes a repeated request find the first one's job.

        Raises:
            BigQueryError: ``duplicate``, ``quotaExceeded`` or ``invalid``.
        """
        _request(project, configuration["query"])
        job = Job(job_id or f"job_{uuid.uuid4().hex}", project, email, configuration, _now())
        with self._lock:
            if request_id and (project, request_id) in self._requests:
                return self._requests[project, request_id]
            if (project, job.id) in self._jobs:
                message = f"Already Exists: Job {project}:{LOCATION}.{job.id}"
                raise BigQueryError(409, "duplicate", message)
            if sum(not known.done.is_set() for known in self._jobs.values()) >= _MAX_PENDING:
                raise BigQueryError.for_reason(
                    "quotaExceeded",
                    "Quota exceeded: Your project exceeded quota for concurrent queries.",
                )
            self._jobs[project, job.id] = job
            if request_id:
                self._requests[project, request_id] = job
            self._forget_old()
        self._waiting.put(job)
        return job

    def get(self, project: str, job_id: str) -> Job:
        """A job of the project.

        Raises:
            BigQueryError: ``notFound``.
        """
        with self._lock:
            job = self._jobs.get((project, job_id))
        if job is None:
            raise BigQueryError.not_found(f"Job {project}:{job_id}")
        return job

    def of_project(self, project: str) -> list[Job]:
        """The project's jobs, newest first."""
        with self._lock:
            return [job for job in reversed(self._jobs.values()) if job.project == project]

    def holding(self, project: str, table: str) -> Job:
        """The finished job whose result is in an anonymous table.

        Raises:
            BigQueryError: ``notFound``.
        """
        for job in self.of_project(project):
            if job.destination["tableId"] == table and job.result is not None:
                return job
        dataset = anonymous_dataset(project)
        raise BigQueryError.not_found(f"Table {project}:{dataset}.{table}")

    def cancel(self, job: Job) -> None:
        """Stop a job, if it still runs."""
        message = "Job execution was cancelled: User requested cancellation"
        job.running.stop(BigQueryError.for_reason("stopped", message))

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            self._run(job)

    def _run(self, job: Job) -> None:
        job.started = _now()
        timeout = job.configuration.get("jobTimeoutMs")
        timer = None
        if timeout:
            late = BigQueryError.for_reason(
                "stopped", f"Job execution was cancelled: Job timed out after {timeout} ms"
            )
            timer = threading.Timer(int(timeout) / 1000, job.running.stop, [late])
            timer.daemon = True
            timer.start()
        try:
            self._faults.strike("job.run")
            job.running.check()
            self._execute(job)
        except BigQueryError as error:
            job.error = error
        except Exception as error:  # noqa: BLE001 - whatever fails, the client must be told
            job.error = BigQueryError(500, "internalError", f"{type(error).__name__}: {error}")
        finally:
            if timer is not None:
                timer.cancel()
            job.ended = _now()
            job.done.set()

    def _execute(self, job: Job) -> None:
        with self._engine.snapshot(job.project) as snapshot:
            request = _request(job.project, job.query)
            job.program = self._engine.prepare(request, snapshot, check=False)
            job.bytes = job.program.bytes_read()
            allowed = job.query.get("maximumBytesBilled")
            if allowed is not None and billed(job) > int(allowed):
                raise BigQueryError.for_reason(
                    "bytesBilledLimitExceeded",
                    f"Query exceeded limit for bytes billed: {allowed}. "
                    f"{billed(job)} or higher required.",
                )
            job.result = self._engine.run(job.program, job.running)

    def _forget_old(self) -> None:
        """Keep jobs and results within bounds; the lock is held."""
        finished = [key for key, job in self._jobs.items() if job.done.is_set()]
        size = sum(job.result.size for job in self._jobs.values() if job.result is not None)
        for key in finished:
            if len(self._jobs) <= _KEPT_JOBS and size <= _KEPT_BYTES:
                return
            job = self._jobs.pop(key)
            if job.result is not None:
                size -= job.result.size
                job.result.discard()
            for request, known in list(self._requests.items()):
                if known is job:
                    del self._requests[request]


def _now() -> int:
    return int(time.time() * 1000)


def _request(project: str, query: dict[str, Any]) -> QueryRequest:
    """What to compile.

    Raises:
        BigQueryError: ``invalid``: the job asks for what the stand-in does not offer.
    """
    if query.get("useLegacySql", True):
        raise BigQueryError.invalid("The stand-in does not support legacy SQL")
    unknown = sorted(key for key, value in query.items() if value and key not in _KNOWN_KEYS)
    if unknown:
        raise BigQueryError.invalid(f"The stand-in does not support {unknown[0]} of a query job")
    if not query.get("query"):
        raise BigQueryError.invalid("Required parameter is missing: query")
    dataset = query.get("defaultDataset") or {}
    if dataset.get("projectId", project) != project:
        raise BigQueryError.invalid("The stand-in does not support another project by default")
    return QueryRequest(
        project, query["query"], dataset.get("datasetId"), query.get("queryParameters") or []
    )


def billed(job: Job) -> int:
    """Bytes billed: whole MiB, and ten of them at least for a query that reads."""
    if not job.bytes:
        return 0
    return max(_LEAST_BILLED, -(-job.bytes // MiB) * MiB)


def resource(job: Job) -> dict[str, Any]:
    """A ``Job`` of the REST API."""
    configuration = dict(job.configuration)
    configuration["jobType"] = "QUERY"
    configuration["query"] = {**job.query, "destinationTable": job.destination}
    status: dict[str, Any] = {"state": job.state()}
    if job.error is not None and job.done.is_set():
        status |= {"errorResult": job.error.proto(), "errors": [job.error.proto()]}
    return {
        "kind": "bigquery#job",
        "etag": job.id_digest[:24],
        "id": f"{job.project}:{LOCATION}.{job.id}",
        "jobReference": job.reference(),
        "configuration": configuration,
        "status": status,
        "statistics": _statistics(job),
        "user_email": job.email,
    }


def _statistics(job: Job) -> dict[str, Any]:
    statistics: dict[str, Any] = {"creationTime": str(job.created)}
    query: dict[str, Any] = {"statementType": "SELECT", "cacheHit": False}
    if job.started is not None:
        statistics["startTime"] = str(job.started)
    if job.program is not None:
        statistics["totalBytesProcessed"] = str(job.bytes)
        query |= {
            "totalBytesProcessed": str(job.bytes),
            "totalBytesBilled": str(billed(job)),
            "billingTier": 1,
            "schema": rest_schema(list(job.program.columns)),
            "referencedTables": [
                reference(table.project, table.dataset, table.name)
                for referenced in job.program.references
                for table in referenced.read()
            ],
        }
    if job.ended is not None and job.done.is_set():
        elapsed = job.ended - (job.started or job.ended)
        statistics |= {"endTime": str(job.ended), "totalSlotMs": str(elapsed)}
        statistics["finalExecutionDurationMs"] = str(elapsed)
        query["totalSlotMs"] = str(elapsed)
    return {**statistics, "query": query}
