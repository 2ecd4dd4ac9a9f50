"""Errors as the clients see them: codes, reasons, messages; real ones and injected ones."""

import json
import urllib.error
import urllib.request

import pytest
from google.api_core import exceptions as api
from google.api_core.retry import Retry
from google.cloud import bigquery

from tests.integration.bigquery_standin.clients import DATASET, PROJECT
from tests.integration.bigquery_standin.shop import day_rows, write_table
from troupe_demo.bigquery import Fault, StandIn
from troupe_demo.ga4.schema import DAILY_SCHEMA

TABLE = f"{DATASET}.events_20260101"


def _reason(error: api.GoogleAPICallError) -> str:
    return error.errors[0]["reason"]


def _failure(client: bigquery.Client, sql: str) -> api.GoogleAPICallError:
    with pytest.raises(api.GoogleAPICallError) as caught:
        client.query(sql).result(retry=None, job_retry=None)
    return caught.value


def test_what_is_not_there_is_not_found(client: bigquery.Client):
    with pytest.raises(api.NotFound, match=r"Not found: Table tool-shop:analytics_1.nothing") as e:
        client.get_table(f"{DATASET}.nothing")
    assert _reason(e.value) == "notFound"
    with pytest.raises(api.NotFound, match="Not found: Dataset tool-shop:nowhere"):
        list(client.list_tables("nowhere"))
    with pytest.raises(api.NotFound, match="Not found: Project no-such-project"):
        client.get_table("no-such-project.d.t")
    with pytest.raises(api.NotFound, match="Not found: Job tool-shop:unknown"):
        client.get_job("unknown")


def test_a_query_of_what_is_not_there_fails_as_a_job(client: bigquery.Client):
    error = _failure(client, f"SELECT 1 FROM `{DATASET}.nothing`")
    assert isinstance(error, api.NotFound)
    assert _reason(error) == "notFound"
    assert isinstance(_failure(client, "SELECT 1 FROM `nowhere.t`"), api.NotFound)


def test_another_projects_tables_are_out_of_reach(client: bigquery.Client, stand_in: StandIn):
    write_table(stand_in.root, "other-shop", "d", "t", day_rows("20260101", 1), DAILY_SCHEMA)
    for call in (
        lambda: client.get_table("other-shop.d.t"),
        lambda: client.get_dataset("other-shop.d"),
        lambda: list(client.list_tables("other-shop.d")),
        lambda: list(client.list_rows("other-shop.d.t", selected_fields=[])),
        lambda: client.query("SELECT 1", project="other-shop"),
        lambda: client.query("SELECT 1 FROM `other-shop.d.t`").result(retry=None, job_retry=None),
        lambda: client.query("SELECT 1 FROM `other-shop.d.*`").result(retry=None, job_retry=None),
        lambda: client.query("SELECT 1 FROM `other-shop.d.__TABLES__`").result(
            retry=None, job_retry=None
        ),
    ):
        with pytest.raises(api.Forbidden, match="Access Denied") as caught:
            call()
        assert _reason(caught.value) == "accessDenied"


def test_a_wrong_query_says_where(client: bigquery.Client):
    error = _failure(client, f"SELECT event_name,\n  nothing FROM `{TABLE}`")
    assert isinstance(error, api.BadRequest)
    assert _reason(error) == "invalidQuery"
    assert "Unrecognized name: nothing at [2:3]" in error.message
    assert error.errors[0]["location"] == "query"
    dry = bigquery.QueryJobConfig(dry_run=True)
    with pytest.raises(api.BadRequest, match="Syntax error"):
        client.query("SELECT FROM WHERE", job_config=dry)


def test_a_query_that_fails_on_its_data_says_why(client: bigquery.Client):
    assert "division by zero: 1 / 0" in _failure(client, "SELECT 1 / 0").message
    many = f"SELECT (SELECT key FROM UNNEST(event_params)) FROM `{TABLE}`"
    assert "more than one element" in _failure(client, many).message


def test_what_the_stand_in_lacks_is_refused_by_name(client: bigquery.Client):
    refusal = _failure(client, "SELECT NUMERIC '1' / 2").message
    assert "does not support division of NUMERIC" in refusal
    legacy = bigquery.QueryJobConfig(use_legacy_sql=True)
    with pytest.raises(api.BadRequest, match="legacy SQL"):
        client.query("SELECT 1", job_config=legacy)
    stored = bigquery.QueryJobConfig(destination=f"{PROJECT}.{DATASET}.copy")
    with pytest.raises(api.BadRequest, match="destinationTable"):
        client.query("SELECT 1", job_config=stored)
    with pytest.raises(api.BadRequest, match="query jobs only"):
        client.copy_table(f"{PROJECT}.{TABLE}", f"{PROJECT}.{DATASET}.copy")


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("accessDenied", api.Forbidden),
        ("backendError", api.ServiceUnavailable),
        ("internalError", api.InternalServerError),
        ("quotaExceeded", api.Forbidden),
        ("rateLimitExceeded", api.TooManyRequests),
        ("invalid", api.BadRequest),
    ],
)
def test_injected_faults_arrive_with_their_reason(
    client: bigquery.Client, stand_in: StandIn, reason: str, error: type[Exception]
):
    stand_in.faults.add(Fault("tables.get", reason=reason, message="bad day"))
    with pytest.raises(error, match="bad day") as caught:
        client.get_table(TABLE, retry=None)
    assert _reason(caught.value) == reason
    assert client.get_table(TABLE).num_rows == 40


def test_the_client_retries_what_passes(client: bigquery.Client, stand_in: StandIn):
    stand_in.faults.replace(
        [
            Fault("jobs.insert", reason="backendError"),
            Fault("jobs.getQueryResults", times=2, reason="rateLimitExceeded"),
        ]
    )
    assert client.query("SELECT 1 AS one").result().total_rows == 1
    asked = [(a.operation, a.status) for a in stand_in.faults.log()]
    assert asked.count(("jobs.insert", 503)) == 1
    assert asked.count(("jobs.getQueryResults", 429)) == 2


def test_a_job_itself_can_fail(client: bigquery.Client, stand_in: StandIn):
    stand_in.faults.add(Fault("job.run", reason="rateLimitExceeded"))
    job = client.query("SELECT 1 AS one")
    # getQueryResults turns the job's failure into the request's; with its defaults the client takes
    # that for a passing failure of the request and asks again for ten minutes.
    with pytest.raises(api.TooManyRequests, match="Injected fault"):
        job.result(retry=None, job_retry=None)
    assert client.get_job(job.job_id).error_result["reason"] == "rateLimitExceeded"
    stand_in.faults.add(Fault("job.run", reason="backendError"))
    again = Retry(initial=0.01, timeout=30)
    rows = client.query("SELECT 1 AS one", retry=None).result(retry=None, job_retry=again)
    assert rows.total_rows == 1


def test_a_fault_strikes_the_nth_call(client: bigquery.Client, stand_in: StandIn):
    stand_in.faults.add(Fault("tables.get", after=1, reason="backendError"))
    client.get_table(TABLE, retry=None)
    with pytest.raises(api.ServiceUnavailable):
        client.get_table(TABLE, retry=None)
    client.get_table(TABLE, retry=None)


def test_faults_are_set_over_the_control_plane(client: bigquery.Client, stand_in: StandIn):
    def call(method: str, path: str, body: object = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{stand_in.url}{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    fault = {"operation": "tables.get", "reason": "quotaExceeded", "retry_after": 7}
    assert call("POST", "/_stand-in/faults", {"faults": [fault]})["faults"][0]["times"] == 1
    with pytest.raises(api.Forbidden) as caught:
        client.get_table(TABLE, retry=None)
    assert caught.value.response.headers["Retry-After"] == "7"
    assert call("GET", "/_stand-in/faults")["faults"][0]["times"] == 0
    operations = [asked["operation"] for asked in call("GET", "/_stand-in/log")["requests"]]
    assert operations == ["token", "tables.get"]
    assert call("DELETE", "/_stand-in/log") == {"requests": []}
    with pytest.raises(urllib.error.HTTPError) as refused:
        call("POST", "/_stand-in/faults", {"faults": [{"operation": "x", "colour": "red"}]})
    assert refused.value.code == 400
    refused.value.close()


def test_a_name_cannot_leave_the_directory(client: bigquery.Client, stand_in: StandIn):
    (stand_in.root.parent / "secret.parquet").write_bytes(b"no table")
    for path in ("..", "..%2F..", "%2e%2e%2f%2e%2e"):
        with pytest.raises(api.NotFound):
            client._connection.api_request(
                method="GET", path=f"/projects/{PROJECT}/datasets/{path}/tables/secret"
            )
    for name in ("../../secret", "../secret"):
        with pytest.raises(api.GoogleAPICallError):
            client.query(f"SELECT 1 FROM `{DATASET}.{name}`").result(retry=None, job_retry=None)
