"""The Storage Read API through Google's client."""

import pyarrow as pa
import pytest
from google.api_core import exceptions as api
from google.cloud import bigquery
from google.cloud.bigquery_storage import BigQueryReadClient
from google.cloud.bigquery_storage_v1 import types

from tests.integration.bigquery_standin.clients import DATASET, PROJECT
from tests.integration.bigquery_standin.shop import day_rows, write_table
from troupe_demo.bigquery import Fault, StandIn
from troupe_demo.ga4.schema import DAILY_SCHEMA

PARENT = f"projects/{PROJECT}"
TABLE = f"{PARENT}/datasets/{DATASET}/tables/events_20260101"
BIG = f"{PARENT}/datasets/{DATASET}/tables/big"
ROWS = 30_000

# Google's own way of reading Arrow is announced to move into another package.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")


def _session(
    storage: BigQueryReadClient,
    table: str = TABLE,
    *,
    fields: tuple[str, ...] = (),
    restriction: str = "",
    streams: int = 1,
    compression: str | None = None,
) -> types.ReadSession:
    options = types.ReadSession.TableReadOptions(
        selected_fields=list(fields), row_restriction=restriction
    )
    if compression is not None:
        codec = types.ArrowSerializationOptions.CompressionCodec[compression]
        options.arrow_serialization_options.buffer_compression = codec
    wanted = types.ReadSession(
        table=table, data_format=types.DataFormat.ARROW, read_options=options
    )
    return storage.create_read_session(
        parent=PARENT, read_session=wanted, max_stream_count=streams, retry=None
    )


def _table(storage: BigQueryReadClient, session: types.ReadSession) -> pa.Table:
    schema = pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema))
    batches = [
        page.to_arrow()
        for stream in session.streams
        for page in storage.read_rows(stream.name).rows(session).pages
    ]
    return pa.Table.from_batches(batches, schema)


@pytest.fixture
def big(stand_in: StandIn) -> StandIn:
    schema = pa.schema([("n", pa.int64()), ("t", pa.string())])
    rows = [{"n": n, "t": f"row {n}"} for n in range(ROWS)]
    write_table(stand_in.root, PROJECT, DATASET, "big", rows, schema)
    return stand_in


def test_an_export_table_is_read_as_it_is(storage: BigQueryReadClient):
    session = _session(storage)
    assert session.estimated_row_count == 40
    table = _table(storage, session)
    assert table.schema.names == DAILY_SCHEMA.names
    rows = table.to_pylist()
    expected = pa.Table.from_pylist(day_rows("20260101", 40), DAILY_SCHEMA).to_pylist()
    assert rows == expected


@pytest.mark.parametrize("compression", [None, "LZ4_FRAME", "ZSTD"])
def test_columns_and_fields_of_records_are_selected(
    storage: BigQueryReadClient, compression: str | None
):
    fields = ("device.category", "event_params.key", "event_name")
    table = _table(storage, _session(storage, fields=fields, compression=compression))
    assert table.schema.names == ["event_name", "event_params", "device"]
    first, source = table.to_pylist()[0], day_rows("20260101", 1)[0]
    assert first == {
        "event_name": source["event_name"],
        "event_params": [{"key": p["key"]} for p in source["event_params"]],
        "device": {"category": source["device"]["category"]},
    }


def test_rows_are_restricted_in_googlesql(storage: BigQueryReadClient):
    restriction = "event_name = 'purchase' AND ecommerce.purchase_revenue > 100"
    table = _table(storage, _session(storage, restriction=restriction))
    expected = [
        row["event_timestamp"]
        for row in day_rows("20260101", 40)
        if row["event_name"] == "purchase" and row["ecommerce"]["purchase_revenue"] > 100
    ]
    assert table["event_timestamp"].to_pylist() == expected
    with pytest.raises(api.InvalidArgument, match="Unrecognized name: nothing"):
        _session(storage, restriction="nothing = 1")


def test_streams_divide_the_rows(storage: BigQueryReadClient, big: StandIn):
    session = _session(storage, BIG, streams=4)
    assert len(session.streams) == 4
    table = _table(storage, session)
    assert table["n"].to_pylist() == list(range(ROWS))
    assert len(_session(storage, BIG, streams=1).streams) == 1


def test_the_first_message_carries_the_schema(storage: BigQueryReadClient, big: StandIn):
    (stream,) = _session(storage, BIG).streams
    messages = list(storage._transport.read_rows(types.ReadRowsRequest(read_stream=stream.name)))
    assert len(messages) > 2
    schema = pa.ipc.read_schema(pa.py_buffer(messages[0].arrow_schema.serialized_schema))
    assert schema.names == ["n", "t"]
    assert not any(message.arrow_schema.serialized_schema for message in messages[1:])
    assert sum(message.row_count for message in messages) == ROWS


def test_a_stream_resumes_at_any_row(storage: BigQueryReadClient, big: StandIn):
    session = _session(storage, BIG, streams=2)
    second = session.streams[1].name
    whole = storage.read_rows(second).to_arrow(session)["n"].to_pylist()
    for offset in (0, 1, 8_191, 8_192, len(whole) - 1):
        rest = storage.read_rows(second, offset=offset).to_arrow(session)["n"].to_pylist()
        assert rest == whole[offset:]
    beyond = storage._transport.read_rows(
        types.ReadRowsRequest(read_stream=second, offset=len(whole) + 1)
    )
    with pytest.raises(Exception, match="past the end"):
        list(beyond)


def test_a_broken_stream_is_resumed_by_the_client(storage: BigQueryReadClient, big: StandIn):
    session = _session(storage, BIG)
    big.faults.add(Fault("storage.readRows", after=2, times=1, reason="backendError"))
    table = _table(storage, session)
    assert table["n"].to_pylist() == list(range(ROWS))
    reads = [asked.status for asked in big.faults.log() if asked.operation == "storage.readRows"]
    assert reads == [503, 200]


def test_a_stream_that_ran_into_a_limit_is_resumed_when_told_when(
    storage: BigQueryReadClient, big: StandIn
):
    session = _session(storage, BIG)
    limit = Fault("storage.readRows", after=1, reason="rateLimitExceeded", retry_after=0.01)
    big.faults.add(limit)
    assert _table(storage, session).num_rows == ROWS
    big.faults.replace([Fault("storage.readRows", after=1, reason="rateLimitExceeded")])
    with pytest.raises(api.ResourceExhausted):
        _table(storage, session)


def test_a_table_rewritten_meanwhile_does_not_change_a_stream(
    storage: BigQueryReadClient, stand_in: StandIn
):
    session = _session(storage)
    rows = day_rows("20260101", 3)
    write_table(stand_in.root, PROJECT, DATASET, "events_20260101", rows, DAILY_SCHEMA)
    assert _table(storage, session).num_rows == 40
    assert _table(storage, _session(storage)).num_rows == 3


def test_a_querys_result_is_read_like_a_table(client: bigquery.Client, storage):
    job = client.query(
        "SELECT n, n * 0.5 AS half FROM UNNEST(GENERATE_ARRAY(1, 20000)) n ORDER BY n"
    )
    job.result()
    session = _session(storage, job.destination.to_bqstorage(), fields=("half",), streams=3)
    assert _table(storage, session)["half"].to_pylist() == [n * 0.5 for n in range(1, 20_001)]


def test_an_empty_table_has_a_schema_and_no_streams(storage: BigQueryReadClient, stand_in: StandIn):
    write_table(stand_in.root, PROJECT, DATASET, "empty", [], DAILY_SCHEMA)
    session = _session(storage, f"{PARENT}/datasets/{DATASET}/tables/empty")
    assert (session.estimated_row_count, len(session.streams)) == (0, 0)
    assert _table(storage, session).num_columns == 31


def test_what_is_not_there_or_not_ones_own_is_told(storage: BigQueryReadClient, stand_in: StandIn):
    write_table(stand_in.root, "other-shop", "d", "t", day_rows("20260101", 1), DAILY_SCHEMA)
    with pytest.raises(api.NotFound, match=r"Not found: Table tool-shop:analytics_1.nothing"):
        _session(storage, f"{PARENT}/datasets/{DATASET}/tables/nothing")
    with pytest.raises(api.PermissionDenied, match=r"Access Denied: Table other-shop:d.t"):
        _session(storage, "projects/other-shop/datasets/d/tables/t")
    with pytest.raises(api.InvalidArgument, match="do not exist in the table schema: foo"):
        _session(storage, fields=("foo",))
    with pytest.raises(api.NotFound, match="not found or expired"):
        list(storage.read_rows("projects/x/locations/us/sessions/y/streams/z"))


def test_injected_faults_surface_as_their_codes(storage: BigQueryReadClient, stand_in: StandIn):
    for reason, error in (
        ("quotaExceeded", api.PermissionDenied),
        ("rateLimitExceeded", api.ResourceExhausted),
        ("backendError", api.ServiceUnavailable),
        ("internalError", api.InternalServerError),
    ):
        stand_in.faults.add(Fault("storage.createReadSession", reason=reason))
        with pytest.raises(error, match="Injected fault"):
            _session(storage)
