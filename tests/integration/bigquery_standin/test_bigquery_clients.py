"""The unmodified clients against the stand-in, the way the product uses them."""

import threading
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from google.api_core import exceptions as api
from google.cloud import bigquery

from tests.integration.bigquery_standin.clients import DATASET, PROJECT
from tests.integration.bigquery_standin.shop import day_rows, write_table
from troupe_demo.bigquery import Fault, StandIn
from troupe_demo.ga4.schema import DAILY_SCHEMA

TABLE = f"{PROJECT}.{DATASET}.events_20260101"
FLATTENED = f"""
    SELECT event_name, user_pseudo_id,
      (SELECT value.int_value FROM UNNEST(event_params) WHERE key = 'ga_session_id') AS session
    FROM `{PROJECT}.{DATASET}.events_*`
    WHERE _TABLE_SUFFIX BETWEEN @first AND @last
    ORDER BY event_timestamp
"""
ENDLESS = """
    SELECT COUNT(*) FROM UNNEST(GENERATE_ARRAY(1, 1000000)) a,
      UNNEST(GENERATE_ARRAY(1, 1000000)) b WHERE a * b = 7
"""
DAYS = [
    bigquery.ScalarQueryParameter("first", "STRING", "20260101"),
    bigquery.ScalarQueryParameter("last", "STRING", "20260102"),
]

# Google's own way of reading Arrow is announced to move into another package.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")


def _config(**options: object) -> bigquery.QueryJobConfig:
    return bigquery.QueryJobConfig(**options)


def test_datasets_and_tables_are_listed_in_pages(client: bigquery.Client):
    assert [d.dataset_id for d in client.list_datasets()] == [DATASET]
    tables = client.list_tables(DATASET, page_size=2)
    pages = [[table.table_id for table in page] for page in tables.pages]
    assert pages == [["events_20260101", "events_20260102"], ["events_intraday_20260103"]]


def test_a_table_says_what_it_holds(client: bigquery.Client, stand_in: StandIn):
    table = client.get_table(TABLE)
    assert (table.num_rows, len(table.schema)) == (40, 31)
    assert [f.name for f in table.schema] == DAILY_SCHEMA.names
    stored = (stand_in.root / PROJECT / DATASET / "events_20260101.parquet").stat()
    assert table.modified == datetime.fromtimestamp(stored.st_mtime_ns // 10**6 / 1000, UTC)
    everything = client.query(f"SELECT * FROM `{TABLE}`", job_config=_config(dry_run=True))
    assert table.num_bytes == everything.total_bytes_processed


def test_bytes_are_bigquerys_not_the_files(stand_in: StandIn, client: bigquery.Client):
    schema = pa.schema(
        [
            ("t", pa.string()),
            ("n", pa.int64()),
            ("b", pa.bool_()),
            ("s", pa.struct([("u", pa.string()), ("k", pa.list_(pa.string()))])),
        ]
    )
    rows = [
        {"t": "äb", "n": 1, "b": True, "s": {"u": None, "k": ["x", "yy"]}},
        {"t": None, "n": None, "b": False, "s": {"u": "z", "k": []}},
        {"t": "", "n": 3, "b": None, "s": None},
    ]
    write_table(stand_in.root, PROJECT, DATASET, "sizes", rows, schema)
    # Text: 2 + UTF-8 bytes; INT64: 8; BOOL: 1; NULL: nothing.
    text, numbers, flags, nested = (2 + 3) + (2 + 0), 2 * 8, 2, (2 + 1) + (2 + 1) + (2 + 2)
    assert client.get_table(f"{DATASET}.sizes").num_bytes == text + numbers + flags + nested


def test_rewriting_a_table_changes_what_is_known_of_it(client: bigquery.Client, stand_in: StandIn):
    before = client.get_table(TABLE)
    rows = day_rows("20260101", 7)
    write_table(stand_in.root, PROJECT, DATASET, "events_20260101", rows, DAILY_SCHEMA)
    after = client.get_table(TABLE)
    assert (before.num_rows, after.num_rows) == (40, 7)
    assert after.etag != before.etag
    assert after.modified >= before.modified
    assert after.created == before.created
    assert after.num_bytes < before.num_bytes


@pytest.mark.parametrize("way", ["rows", "arrow over REST", "arrow over gRPC"])
def test_a_result_arrives_whole_on_every_way(client: bigquery.Client, storage, way: str):
    job = client.query(FLATTENED, job_config=_config(query_parameters=DAYS))
    if way == "rows":
        rows = [tuple(row.values()) for row in job.result()]
    else:
        reader = storage if way == "arrow over gRPC" else None
        batches = job.result().to_arrow_iterable(bqstorage_client=reader)
        rows = [tuple(row.values()) for batch in batches for row in batch.to_pylist()]
    expected = [
        (
            row["event_name"],
            row["user_pseudo_id"],
            next(
                (
                    parameter["value"]["int_value"]
                    for parameter in row["event_params"]
                    if parameter["key"] == "ga_session_id"
                ),
                None,
            ),
        )
        for day in ("20260101", "20260102")
        for row in day_rows(day, 40)
    ]
    assert rows == expected


def test_pages_hold_as_many_rows_as_asked(client: bigquery.Client):
    result = client.query(f"SELECT event_timestamp FROM `{TABLE}`").result(page_size=15)
    assert result.total_rows == 40
    assert [page.num_items for page in result.pages] == [15, 15, 10]


def test_a_page_ends_at_ten_megabytes(client: bigquery.Client):
    # Sixty rows of half a megabyte: no page may hold them all, though a hundred were asked for.
    array = "ARRAY_TO_STRING(ARRAY(SELECT 'abcdefgh' FROM UNNEST(GENERATE_ARRAY(1, 65000)) x), '')"
    sql = f"SELECT n, {array} AS t FROM UNNEST(GENERATE_ARRAY(1, 60)) n ORDER BY n"
    pages = [page.num_items for page in client.query(sql).result(page_size=100).pages]
    assert sum(pages) == 60
    assert len(pages) >= 3


def test_rows_of_a_table_are_read_without_a_query(client: bigquery.Client):
    table = client.get_table(TABLE)
    fields = [field for field in table.schema if field.name in ("event_name", "items")]
    rows = list(client.list_rows(table, selected_fields=fields, max_results=3, start_index=2))
    expected = day_rows("20260101", 5)[2:]
    assert [row["event_name"] for row in rows] == [row["event_name"] for row in expected]
    assert [len(row["items"]) for row in rows] == [len(row["items"]) for row in expected]


def test_every_type_survives_the_way_through_json(client: bigquery.Client, storage):
    sql = """
        SELECT 1 AS i, 1.5 AS f, TRUE AS b, 'ä"\\n' AS s, b'ab' AS y, DATE '2026-01-02' AS d,
          DATETIME '2026-01-02 03:04:05.6' AS dt, TIMESTAMP '2026-01-02 03:04:05.000006+00' AS ts,
          NUMERIC '12.5' AS n, [1, 2] AS a, STRUCT(1 AS x, ['p'] AS q) AS st,
          [STRUCT('k' AS key, CAST(NULL AS INT64) AS v)] AS kv, CAST(NULL AS STRING) AS z,
          ARRAY<INT64>[] AS e
    """
    expected = (
        1,
        1.5,
        True,
        'ä"\n',
        b"ab",
        date(2026, 1, 2),
        datetime.fromisoformat("2026-01-02T03:04:05.600"),
        datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        Decimal("12.5"),
        [1, 2],
        {"x": 1, "q": ["p"]},
        [{"key": "k", "v": None}],
        None,
        [],
    )
    (row,) = client.query_and_wait(sql)
    assert row.values() == expected
    result = client.query(sql).result()
    (arrow,) = result.to_arrow(bqstorage_client=storage).to_pylist()
    assert tuple(arrow.values()) == expected


def test_a_dry_run_costs_what_the_columns_weigh(client: bigquery.Client):
    dry = _config(dry_run=True)
    all_of_it = client.query(f"SELECT * FROM `{TABLE}`", job_config=dry)
    name = client.query(f"SELECT event_name FROM `{TABLE}`", job_config=dry)
    assert all_of_it.total_bytes_processed > name.total_bytes_processed
    names = [row["event_name"] for row in day_rows("20260101", 40)]
    assert name.total_bytes_processed == sum(2 + len(text) for text in names)
    assert [(f.name, f.field_type) for f in name.schema] == [("event_name", "STRING")]
    wildcard = f"SELECT event_name FROM `{PROJECT}.{DATASET}.events_*`"
    both = client.query(f"{wildcard} WHERE _TABLE_SUFFIX < '20260103'", job_config=dry)
    assert both.total_bytes_processed == 2 * name.total_bytes_processed
    assert [t.table_id for t in both.referenced_tables] == ["events_20260101", "events_20260102"]


def test_a_job_keeps_its_labels_and_tells_its_statistics(
    client: bigquery.Client, stand_in: StandIn
):
    labels = {"tenant": "tool-shop", "job": "4711"}
    job = client.query(f"SELECT event_name FROM `{TABLE}`", job_config=_config(labels=labels))
    job.result()
    seen = client.get_job(job.job_id)
    assert seen.labels == labels
    assert seen.state == "DONE"
    assert seen.total_bytes_processed > 0
    assert seen.total_bytes_billed == 10 * 1024 * 1024
    assert seen.started <= seen.ended
    assert [listed.job_id for listed in client.list_jobs(max_results=1)] == [job.job_id]
    inserts = [asked for asked in stand_in.faults.log() if asked.operation == "jobs.insert"]
    assert inserts[-1].labels == labels


def test_a_job_id_is_taken_once(client: bigquery.Client):
    client.query("SELECT 1 AS one", job_id="mine", job_retry=None).result(
        retry=None, job_retry=None
    )
    with pytest.raises(api.Conflict, match=r"Already Exists: Job tool-shop:US.mine"):
        client.query("SELECT 1 AS one", job_id="mine", job_retry=None)


def test_more_bytes_than_allowed_are_not_billed(client: bigquery.Client):
    sql = f"SELECT * FROM `{TABLE}`"
    enough = client.query(sql, job_config=_config(maximum_bytes_billed=10 * 1024 * 1024))
    assert enough.result().total_rows == 40
    job = client.query(sql, job_config=_config(maximum_bytes_billed=1000))
    with pytest.raises(api.GoogleAPICallError, match=r"bytes billed: 1000. 10485760 or higher"):
        job.result(retry=None, job_retry=None)
    assert client.get_job(job.job_id).error_result["reason"] == "bytesBilledLimitExceeded"


def test_a_running_job_is_cancelled(client: bigquery.Client):
    job = client.query(ENDLESS)
    assert job.state != "DONE"
    job.cancel()
    with pytest.raises(api.GoogleAPICallError, match="User requested cancellation"):
        job.result(timeout=30, retry=None, job_retry=None)
    assert client.get_job(job.job_id).error_result["reason"] == "stopped"


def test_a_job_has_the_time_it_was_given(client: bigquery.Client):
    job = client.query(ENDLESS, job_config=_config(job_timeout_ms=200))
    with pytest.raises(api.GoogleAPICallError, match="timed out after 200 ms"):
        job.result(timeout=30, retry=None, job_retry=None)


def test_a_waiting_request_says_that_the_job_goes_on(client: bigquery.Client, stand_in: StandIn):
    stand_in.faults.add(Fault("job.run", delay=0.5))
    answer = client._connection.api_request(
        method="POST",
        path=f"/projects/{PROJECT}/queries",
        data={"query": "SELECT 1 AS one", "useLegacySql": False, "timeoutMs": 1},
    )
    assert answer["jobComplete"] is False
    assert "rows" not in answer
    job = client.get_job(answer["jobReference"]["jobId"])
    assert [row.one for row in job.result()] == [1]


def test_queries_run_side_by_side(client: bigquery.Client):
    results: dict[int, int] = {}

    def ask(number: int) -> None:
        rows = client.query(f"SELECT COUNT(*) + {number} AS n FROM `{TABLE}`").result()
        results[number] = next(iter(rows)).n

    threads = [threading.Thread(target=ask, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert results == {number: 40 + number for number in range(8)}


def test_parameters_of_every_kind_reach_the_query(client: bigquery.Client):
    parameters = [
        bigquery.ScalarQueryParameter("i", "INT64", 7),
        bigquery.ScalarQueryParameter("f", "FLOAT64", 1.5),
        bigquery.ScalarQueryParameter("b", "BOOL", True),
        bigquery.ScalarQueryParameter("s", "STRING", "o'ä\"\\"),
        bigquery.ScalarQueryParameter("d", "DATE", date(2026, 1, 2)),
        bigquery.ScalarQueryParameter("ts", "TIMESTAMP", datetime(2026, 1, 2, 3, tzinfo=UTC)),
        bigquery.ScalarQueryParameter("n", "NUMERIC", Decimal("1.25")),
        bigquery.ScalarQueryParameter("y", "BYTES", b"\x00\xff"),
        bigquery.ScalarQueryParameter("z", "STRING", None),
        bigquery.ArrayQueryParameter("a", "STRING", ["x", "y"]),
        bigquery.StructQueryParameter("st", bigquery.ScalarQueryParameter("k", "INT64", 5)),
    ]
    sql = "SELECT @i, @f, @b, @s, @d, @ts, @n, @y, @z, @a, @st.k AS k"
    (row,) = client.query_and_wait(sql, job_config=_config(query_parameters=parameters))
    assert row.values() == (
        *(7, 1.5, True, "o'ä\"\\", date(2026, 1, 2), datetime(2026, 1, 2, 3, tzinfo=UTC)),
        *(Decimal("1.25"), b"\x00\xff", None, ["x", "y"], 5),
    )
    positional = [bigquery.ScalarQueryParameter(None, "INT64", n) for n in (10, 3)]
    config = _config(query_parameters=positional)
    (row,) = client.query_and_wait("SELECT ? - ? AS difference", job_config=config)
    assert row.difference == 7


def test_a_default_dataset_completes_table_names(client: bigquery.Client):
    config = _config(default_dataset=f"{PROJECT}.{DATASET}")
    (row,) = client.query_and_wait("SELECT COUNT(*) AS n FROM events_20260101", job_config=config)
    assert row.n == 40
