"""The routes of BigQuery's REST API, version 2, as far as reading needs them.

Every route is a method that returns JSON; failures are raised as ``BigQueryError`` and shaped where
requests are answered (``rest``). Below ``/_stand-in/`` lies the control plane for tests.
"""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from troupe_demo.bigquery import jobs
from troupe_demo.bigquery.accounts import Accounts
from troupe_demo.bigquery.catalogue import LOCATION, Table, reference
from troupe_demo.bigquery.engine import Engine
from troupe_demo.bigquery.errors import BigQueryError
from troupe_demo.bigquery.faults import Fault, Faults
from troupe_demo.bigquery.jobs import Job, Jobs, anonymous_dataset
from troupe_demo.bigquery.pages import number, page
from troupe_demo.bigquery.results import Result, TableRows
from troupe_demo.bigquery.types import rest_schema

_PROJECT: Final = "/bigquery/v2/projects/(?P<project>[^/]+)"
_DATASET: Final = f"{_PROJECT}/datasets/(?P<dataset>[^/]+)"
_DEFAULT_WAIT: Final = 10_000  # ms that a request waits for its job
_LONGEST_WAIT: Final = 200_000


@dataclass(frozen=True, slots=True)
class Request:
    """What a route works on: names in the path, the query string, the body, and who asks."""

    path: dict[str, str]
    query: dict[str, str]
    body: dict[str, Any]
    caller: str = ""

    @property
    def project(self) -> str:
        """The project in the path."""
        return self.path["project"]


Route = Callable[["Api", Request], dict[str, Any] | bytes]
ROUTES: list[tuple[str, re.Pattern[str], str, Route]] = []


def _route(method: str, pattern: str, operation: str) -> Callable[[Route], Route]:
    def register(route: Route) -> Route:
        ROUTES.append((method, re.compile(pattern), operation, route))
        return route

    return register


@dataclass(slots=True)
class Api:
    """The routes and what they stand on."""

    engine: Engine
    jobs: Jobs
    faults: Faults
    accounts: Accounts
    base_url: str = ""

    # -- datasets and tables

    @_route("GET", f"{_PROJECT}/datasets", "datasets.list")
    def datasets_list(self, request: Request) -> dict[str, Any]:
        """List datasets."""
        names = self.engine.catalogue.datasets(request.project)
        found, after = _cut(names, request.query, 1000)
        return {
            "kind": "bigquery#datasetList",
            "etag": "datasets",
            "datasets": [
                {
                    "kind": "bigquery#dataset",
                    "id": f"{request.project}:{name}",
                    "datasetReference": {"projectId": request.project, "datasetId": name},
                    "location": LOCATION,
                }
                for name in found
            ],
            **after,
        }

    @_route("GET", _DATASET, "datasets.get")
    def datasets_get(self, request: Request) -> dict[str, Any]:
        """One dataset."""
        dataset = request.path["dataset"]
        changed = self.engine.catalogue.dataset(request.project, dataset).stat().st_mtime_ns
        return {
            "kind": "bigquery#dataset",
            "etag": str(changed),
            "id": f"{request.project}:{dataset}",
            "datasetReference": {"projectId": request.project, "datasetId": dataset},
            "location": LOCATION,
            "creationTime": str(changed // 1_000_000),
            "lastModifiedTime": str(changed // 1_000_000),
        }

    @_route("GET", f"{_DATASET}/tables", "tables.list")
    def tables_list(self, request: Request) -> dict[str, Any]:
        """List tables."""
        catalogue, dataset = self.engine.catalogue, request.path["dataset"]
        names = catalogue.tables(request.project, dataset)
        found, after = _cut(names, request.query, 50)
        tables = [catalogue.table(request.project, dataset, name) for name in found]
        return {
            "kind": "bigquery#tableList",
            "etag": "tables",
            "totalItems": len(names),
            "tables": [
                {
                    "kind": "bigquery#table",
                    "id": f"{request.project}:{dataset}.{table.name}",
                    "tableReference": reference(request.project, dataset, table.name),
                    "type": "TABLE",
                    "creationTime": str(table.created),
                }
                for table in tables
            ],
            **after,
        }

    @_route("GET", f"{_DATASET}/tables/(?P<table>[^/]+)", "tables.get")
    def tables_get(self, request: Request) -> dict[str, Any]:
        """One table, or a query's result."""
        project, dataset, name = (request.path[k] for k in ("project", "dataset", "table"))
        if dataset == anonymous_dataset(project):
            return _result_table(self.jobs.holding(project, name))
        with self.engine.snapshot(project) as snapshot:
            return _table(snapshot.table(project, dataset, name))

    @_route("GET", f"{_DATASET}/tables/(?P<table>[^/]+)/data", "tabledata.list")
    def tabledata_list(self, request: Request) -> bytes:
        """Rows of a table, or of a query's result."""
        project, dataset, name = (request.path[k] for k in ("project", "dataset", "table"))
        envelope = {"kind": "bigquery#tableDataList", "etag": "rows"}
        if dataset == anonymous_dataset(project):
            result = self.jobs.holding(project, name).result
            return page(self.engine, _present(result), request.query, envelope)
        with self.engine.snapshot(project) as snapshot:
            rows = TableRows(snapshot.table(project, dataset, name))
            envelope["etag"] = rows.table.stored.etag
            return page(self.engine, rows, request.query, envelope)

    # -- jobs

    @_route("POST", f"{_PROJECT}/jobs", "jobs.insert")
    def jobs_insert(self, request: Request) -> dict[str, Any]:
        """Start a job, or estimate it."""
        configuration = request.body.get("configuration") or {}
        if not isinstance(configuration.get("query"), dict):
            raise BigQueryError.invalid("The stand-in supports query jobs only")
        asked = request.body.get("jobReference") or {}
        if configuration.get("dryRun"):
            return self._dry_run(request.project, configuration, asked.get("jobId"))
        email = f"{request.caller}@stand-in"
        job = self.jobs.submit(request.project, email, configuration, asked.get("jobId"))
        return jobs.resource(job)

    @_route("GET", f"{_PROJECT}/jobs", "jobs.list")
    def jobs_list(self, request: Request) -> dict[str, Any]:
        """List jobs, newest first."""
        known = self.jobs.of_project(request.project)
        found, after = _cut(known, request.query, 50)
        listed = []
        for job in found:
            shown = jobs.resource(job)
            shown["state"] = shown["status"]["state"]
            listed.append(shown)
        return {"kind": "bigquery#jobList", "etag": "jobs", "jobs": listed, **after}

    @_route("GET", f"{_PROJECT}/jobs/(?P<job>[^/]+)", "jobs.get")
    def jobs_get(self, request: Request) -> dict[str, Any]:
        """One job."""
        return jobs.resource(self.jobs.get(request.project, request.path["job"]))

    @_route("POST", f"{_PROJECT}/jobs/(?P<job>[^/]+)/cancel", "jobs.cancel")
    def jobs_cancel(self, request: Request) -> dict[str, Any]:
        """Stop a job."""
        job = self.jobs.get(request.project, request.path["job"])
        self.jobs.cancel(job)
        return {"kind": "bigquery#jobCancelResponse", "job": jobs.resource(job)}

    @_route("POST", f"{_PROJECT}/queries", "jobs.query")
    def jobs_query(self, request: Request) -> dict[str, Any] | bytes:
        """Run a query and give the first page of its result."""
        body = request.body
        outer = ("labels", "jobTimeoutMs", "dryRun", "jobCreationMode", "location", "kind")
        paging = ("maxResults", "timeoutMs", "formatOptions", "requestId", "jobTimeoutMs")
        inner = {k: v for k, v in body.items() if k not in (*outer, *paging)}
        configuration = {"query": inner} | {k: body[k] for k in outer[:2] if k in body}
        if body.get("dryRun"):
            estimate = self._dry_run(request.project, configuration, None)
            statistics = estimate["statistics"]
            return {
                "kind": "bigquery#queryResponse",
                "schema": statistics["query"]["schema"],
                "jobReference": estimate["jobReference"],
                "totalBytesProcessed": statistics["totalBytesProcessed"],
                "jobComplete": True,
                "cacheHit": False,
            }
        email = f"{request.caller}@stand-in"
        job = self.jobs.submit(
            request.project, email, configuration, None, str(body.get("requestId") or "")
        )
        options = body.get("formatOptions") or {}
        query: dict[str, Any] = {k: body[k] for k in paging[:2] if body.get(k) is not None}
        query["formatOptions.useInt64Timestamp"] = options.get("useInt64Timestamp", "")
        return self._results(job, query, "bigquery#queryResponse")

    @_route("GET", f"{_PROJECT}/queries/(?P<job>[^/]+)", "jobs.getQueryResults")
    def jobs_get_query_results(self, request: Request) -> dict[str, Any] | bytes:
        """A page of a query's result, once there is one."""
        job = self.jobs.get(request.project, request.path["job"])
        return self._results(job, request.query, "bigquery#getQueryResultsResponse")

    def _results(self, job: Job, query: dict[str, Any], kind: str) -> dict[str, Any] | bytes:
        wait = min(number(query, "timeoutMs", _DEFAULT_WAIT), _LONGEST_WAIT)
        envelope: dict[str, Any] = {"kind": kind, "etag": job.id_digest[:24]}
        envelope["jobReference"] = job.reference()
        if not job.done.wait(wait / 1000):
            return {**envelope, "jobComplete": False}
        if job.error is not None:
            code = max(job.error.code, 400)
            raise BigQueryError(code, job.error.reason, job.error.message, job.error.location)
        result = _present(job.result)
        envelope |= {
            "jobComplete": True,
            "cacheHit": False,
            "schema": rest_schema(list(result.columns)),
            "totalBytesProcessed": str(job.bytes),
            "totalBytesBilled": str(jobs.billed(job)),
        }
        return page(self.engine, result, query, envelope)

    def _dry_run(
        self, project: str, configuration: dict[str, Any], job_id: str | None
    ) -> dict[str, Any]:
        program, size = self.jobs.estimate(project, configuration)
        tables = [table for referenced in program.references for table in referenced.read()]
        return {
            "kind": "bigquery#job",
            "id": f"{project}:{LOCATION}.{job_id or ''}",
            "jobReference": {"projectId": project, "jobId": job_id or "", "location": LOCATION},
            "configuration": {**configuration, "jobType": "QUERY", "dryRun": True},
            "status": {"state": "DONE"},
            "statistics": {
                "creationTime": "0",
                "totalBytesProcessed": str(size),
                "query": {
                    "statementType": "SELECT",
                    "totalBytesProcessed": str(size),
                    "totalBytesBilled": "0",
                    "cacheHit": False,
                    "totalBytesProcessedAccuracy": "PRECISE",
                    "schema": rest_schema(list(program.columns)),
                    "referencedTables": [reference(t.project, t.dataset, t.name) for t in tables],
                },
            },
        }

    # -- the control plane

    @_route("POST", "/_stand-in/faults", "")
    def faults_replace(self, request: Request) -> dict[str, Any]:
        """Put faults in force instead of those before."""
        try:
            faults = [Fault(**described) for described in request.body["faults"]]
        except (TypeError, KeyError) as error:
            raise BigQueryError.invalid(f"Not a list of faults: {error}") from None
        self.faults.replace(faults)
        return {"faults": self.faults.pending()}

    @_route("GET", "/_stand-in/faults", "")
    def faults_pending(self, _request: Request) -> dict[str, Any]:
        """The faults in force."""
        return {"faults": self.faults.pending()}

    @_route("GET", "/_stand-in/log", "")
    def log(self, _request: Request) -> dict[str, Any]:
        """The latest requests."""
        return {"requests": [asdict(asked) for asked in self.faults.log()]}

    @_route("DELETE", "/_stand-in/log", "")
    def forget(self, _request: Request) -> dict[str, Any]:
        """Empty the log."""
        self.faults.forget()
        return {"requests": []}

    def admit(self, request: Request, authorization: str | None) -> Request:
        """The request with its caller.

        Raises:
            BigQueryError: Nobody, or somebody of another project.
        """
        caller = self.accounts.project_of(authorization)
        self.engine.catalogue.project(request.project)
        if caller != request.project:
            raise _denied(request)
        return Request(request.path, request.query, request.body, caller)


def _denied(request: Request) -> BigQueryError:
    project, dataset = request.project, request.path.get("dataset")
    table = request.path.get("table")
    if table is not None:
        what, permission = f"Table {project}:{dataset}.{table}", "bigquery.tables.get"
    elif dataset is not None:
        what, permission = f"Dataset {project}:{dataset}", "bigquery.datasets.get"
    else:
        what, permission = f"Project {project}", "bigquery.jobs.create"
    thing = what[0].lower() + what[1:]
    why = f"Permission {permission} denied on {thing} (or it may not exist)."
    return BigQueryError.access_denied(what, why)


def _present(result: Result | None) -> Result:
    if result is None:
        raise BigQueryError(500, "internalError", "The job has no result")
    return result


def _cut(names: list[Any], query: dict[str, str], default: int) -> tuple[list[Any], dict[str, str]]:
    """A page of a list, and the token of the next one."""
    start, limit = number(query, "pageToken", 0), number(query, "maxResults", default)
    limit = min(limit or default, 1000)
    more = {"nextPageToken": str(start + limit)} if start + limit < len(names) else {}
    return names[start : start + limit], more


def _table(table: Table) -> dict[str, Any]:
    size = str(table.size)
    return {
        "kind": "bigquery#table",
        "etag": table.stored.etag,
        "id": f"{table.project}:{table.dataset}.{table.name}",
        "tableReference": reference(table.project, table.dataset, table.name),
        "schema": rest_schema(list(table.columns)),
        "numRows": str(table.rows),
        "numBytes": size,
        "numTotalLogicalBytes": size,
        "numLongTermBytes": "0",
        "creationTime": str(table.created),
        "lastModifiedTime": str(table.modified),
        "type": "TABLE",
        "location": LOCATION,
    }


def _result_table(job: Job) -> dict[str, Any]:
    result = _present(job.result)
    return {
        "kind": "bigquery#table",
        "etag": job.id_digest[:24],
        "id": f"{job.project}:{job.destination['datasetId']}.{job.destination['tableId']}",
        "tableReference": job.destination,
        "schema": rest_schema(list(result.columns)),
        "numRows": str(len(result)),
        "creationTime": str(job.created),
        "lastModifiedTime": str(job.ended or job.created),
        "type": "TABLE",
        "location": LOCATION,
    }
