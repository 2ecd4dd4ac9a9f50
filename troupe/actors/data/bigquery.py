"""One tenant's GA4 export in BigQuery, read through Google's own clients.

Everything here blocks and runs in worker threads (`Threads`); nothing knows trio. The clients are
used as they come; what they would decide by themselves is said at every call instead: how long one
try may take, how long tries may go on (their defaults retry for ten minutes, and a failed query up
to 40 times), and that a failed query is not run again behind our back.

A day costs three calls that are free (its table's metadata, a dry run, a read session) and one
query. The result is read through the Storage Read API as one stream of Arrow batches: the server
sends no faster than we take, and a stream that breaks is resumed behind the last row that came.
Without that service (a stand-in that has none, or an account that may not use it) the same result
comes by REST, several times slower.

A service account's file says where its tokens come from, and the connection may name other
endpoints; that, and nothing in this code, points it at a stand-in. Whatever is not Google's is
reached through the outbound guard (bigquery_transport.py).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

import pyarrow as pa
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import (
    DeadlineExceeded,
    InternalServerError,
    PermissionDenied,
    ServiceUnavailable,
)
from google.api_core.retry import Retry, if_exception_type
from google.cloud import bigquery
from google.cloud.bigquery import DEFAULT_RETRY, SchemaField
from google.cloud.bigquery_storage import BigQueryReadClient
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import (
    BigQueryReadGrpcTransport,
)
from google.cloud.bigquery_storage_v1.types import (
    ArrowSerializationOptions,
    DataFormat,
    ReadSession,
)
from google.oauth2 import service_account

from troupe.actors.data.bigquery_errors import LONGEST_HINT, retried_at_once, sorted_errors
from troupe.actors.data.bigquery_transport import (
    authorized_session,
    guarded_credentials,
    is_google,
    storage_channel,
)
from troupe.actors.data.flattening import RANK, Family, FlattenQuery
from troupe.common.connections import BigQueryConfig
from troupe.common.errors import CredentialsRejected, PeerUnavailable
from troupe.common.logs import get_logger
from troupe.common.outbound import OutboundGuard
from troupe.common.units import MINUTES, SECONDS

CALL_TIMEOUT: Final = 30 * SECONDS
"""Of one try of one call that is not the query itself."""
CALL_RETRY: Final[Retry] = (
    DEFAULT_RETRY.with_timeout(1 * MINUTES)
    .with_delay(initial=0.5 * SECONDS, maximum=10 * SECONDS, multiplier=2.0)
    .with_predicate(retried_at_once)
)
STREAM_RETRY: Final[Retry] = Retry(
    if_exception_type(ServiceUnavailable, DeadlineExceeded, InternalServerError),
    initial=0.5 * SECONDS,
    maximum=10 * SECONDS,
    multiplier=2.0,
    timeout=1 * MINUTES,
)
CANCEL_TIMEOUT: Final = 5 * SECONDS
_SCOPES: Final = ("https://www.googleapis.com/auth/bigquery",)
_PAGE_TABLES: Final = 1000
_PAGE_ROWS: Final = 10_000

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ExportTable:
    """One day's table as it is now.

    Attributes:
        day: Source day.
        family: Which of the day's tables it is.
        name: Its name in the dataset.
        modified: When it was last written.
        rows: Rows that it says it has.
        schema: Its columns.
        settled: False while rows are still streaming in; its row count then lags behind.
    """

    day: date
    family: Family
    name: str
    modified: datetime
    rows: int
    schema: tuple[SchemaField, ...]
    settled: bool


class Export:
    """A dataset of GA4 export tables. Thread-safe as far as used here: one thread per day.

    Args:
        config: Where it is.
        secret: The service account's file.
        labels: Put on every query, so that the account's bill says whose it was.
        query_deadline: Seconds that the query of one day may take, and that its rows may stop
            coming.
        guard: Checks hosts that are not Google's.

    Raises:
        CredentialsRejected: The secret is no service account's file.
        HostNotAllowed: The connection names a host in a network that is forbidden.
    """

    def __init__(
        self,
        config: BigQueryConfig,
        secret: bytes | None,
        *,
        labels: Mapping[str, str],
        query_deadline: float,
        guard: OutboundGuard,
    ) -> None:
        self.name = f"{config.project}.{config.dataset}"
        self._dataset = bigquery.DatasetReference(config.project, config.dataset)
        self._labels = dict(labels)
        self._deadline = query_deadline
        account, at_google = _account(config, secret, guard)
        self._project = config.billing_project or account.project_id or config.project
        self._client = bigquery.Client(
            project=self._project,
            credentials=account,
            location=config.location or None,
            client_options=ClientOptions(api_endpoint=config.api_endpoint)
            if config.api_endpoint
            else None,
            _http=None if at_google else authorized_session(account, guard),
        )
        self._storage = _storage_client(config, account, guard)

    def close(self) -> None:
        """Give up the connections; a read that is under way in another thread fails."""
        self._client.close()  # type: ignore[no-untyped-call] # the client has no annotations
        if self._storage is not None:
            self._storage.transport.close()  # type: ignore[no-untyped-call] # nor has this one

    def days(self, first: date, last: date) -> dict[date, Family]:
        """The best family that each day has; days without any are left out.

        Raises:
            PeerError: See `bigquery_errors`.
        """
        best: dict[date, Family] = {}
        with sorted_errors(f"listing the tables of {self.name}"):
            tables = self._client.list_tables(
                self._dataset, page_size=_PAGE_TABLES, retry=CALL_RETRY, timeout=CALL_TIMEOUT
            )
            for table in tables:
                found = Family.of_table(table.table_id)
                if found is None or not first <= found[1] <= last:
                    continue
                family, day = found
                if day not in best or RANK[family] < RANK[best[day]]:
                    best[day] = family
        return best

    def table(self, day: date, family: Family) -> ExportTable:
        """What the source says about one table.

        Raises:
            PeerError: See `bigquery_errors`.
        """
        name = family.table(day)
        with sorted_errors(f"looking at {self.name}.{name}"):
            table = self._client.get_table(
                self._dataset.table(name), retry=CALL_RETRY, timeout=CALL_TIMEOUT
            )
        return ExportTable(
            day=day,
            family=family,
            name=name,
            modified=table.modified or datetime.fromtimestamp(0, UTC),
            rows=table.num_rows or 0,
            schema=tuple(table.schema),
            settled=table.streaming_buffer is None,
        )

    def estimate(self, query: FlattenQuery) -> int:
        """Bytes that the query would scan; costs nothing.

        Raises:
            PeerError: See `bigquery_errors`.
        """
        with sorted_errors(f"estimating a query on {self.name}"):
            job = self._client.query(
                query.sql,
                self._job_config(query, dry_run=True),
                retry=CALL_RETRY,
                job_retry=None,
                timeout=CALL_TIMEOUT,
            )
            return int(job.total_bytes_processed or 0)

    def may_query(self) -> None:
        """Ask whether the account may run queries there; costs nothing.

        Raises:
            PeerError: It may not; see `bigquery_errors`.
        """
        with sorted_errors(f"asking {self.name} for a query"):
            self._client.query(
                "SELECT 1",
                bigquery.QueryJobConfig(dry_run=True, use_query_cache=False),
                retry=CALL_RETRY,
                job_retry=None,
                timeout=CALL_TIMEOUT,
            )

    def start(self, query: FlattenQuery, *, at_most: int | None = None) -> bigquery.QueryJob:
        """Send the query; returns as soon as BigQuery has it.

        Args:
            query: What to ask.
            at_most: Bytes that it may be billed for; None: any number.

        Raises:
            PeerError: See `bigquery_errors`.
        """
        with sorted_errors(f"sending a query to {self.name}"):
            return self._client.query(
                query.sql,
                self._job_config(query, at_most=at_most),
                job_id_prefix="troupe_",
                retry=CALL_RETRY,
                job_retry=None,
                timeout=CALL_TIMEOUT,
            )

    def wait(self, started: bigquery.QueryJob) -> None:
        """Wait for a query's end.

        Raises:
            PeerError: See `bigquery_errors`; the query failed, or took too long.
        """
        self._result(started)

    def batches(self, started: bigquery.QueryJob) -> Iterator[pa.RecordBatch]:
        """The rows of a query that has ended, in batches as they arrive.

        Raises:
            PeerError: See `bigquery_errors`.
        """
        with sorted_errors(f"reading from {self.name}"):
            if self._storage is not None and started.destination is not None:
                try:
                    session = self._session(self._storage, started.destination)
                except PermissionDenied:
                    # The account may query but not open read sessions: slower, but the same rows.
                    _log.info("bigquery_storage_denied", export=self.name)
                else:
                    yield from self._streamed(self._storage, session)
                    return
            yield from self._result(started).to_arrow_iterable()

    def _result(self, job: bigquery.QueryJob) -> Any:
        # With a page size the client would fetch the first page as JSON while it waits.
        page_size = _PAGE_ROWS if self._storage is None else None
        with sorted_errors(f"querying {self.name}"):
            return job.result(
                page_size=page_size, retry=CALL_RETRY, timeout=self._deadline, job_retry=None
            )

    def cancel(self, started: bigquery.QueryJob) -> None:
        """Ask BigQuery to end a query.

        Raises:
            PeerError: See `bigquery_errors`.
        """
        with sorted_errors(f"cancelling a query on {self.name}"):
            started.cancel(retry=None, timeout=CANCEL_TIMEOUT)

    def _job_config(
        self, query: FlattenQuery, *, dry_run: bool = False, at_most: int | None = None
    ) -> bigquery.QueryJobConfig:
        config = bigquery.QueryJobConfig(
            default_dataset=self._dataset,
            query_parameters=[
                bigquery.ScalarQueryParameter(name, "STRING", value)
                for name, value in query.parameters.items()
            ],
            labels=self._labels,
            dry_run=dry_run,
            use_query_cache=False,
            use_legacy_sql=False,
        )
        if at_most is not None:
            config.maximum_bytes_billed = at_most
        return config

    def _streamed(
        self, storage: BigQueryReadClient, session: ReadSession
    ) -> Iterator[pa.RecordBatch]:
        schema = pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema))
        for stream in session.streams:
            offset, resumed_at = 0, -1
            while offset != resumed_at:
                resumed_at = offset
                messages = storage.read_rows(  # type: ignore[no-untyped-call] # not annotated
                    stream.name,
                    offset,
                    retry=STREAM_RETRY,
                    timeout=self._deadline,
                    retry_delay_callback=_bounded_pause,
                )
                try:
                    for message in messages:
                        serialized = message.arrow_record_batch.serialized_record_batch
                        batch = pa.ipc.read_record_batch(pa.py_buffer(serialized), schema)
                        offset += batch.num_rows
                        yield batch
                except DeadlineExceeded:
                    # The call's time is up because PostgreSQL keeps us waiting, or because nothing
                    # comes any more. Rows that have come since the last time tell which.
                    if offset == resumed_at:
                        raise
                else:
                    break

    def _session(
        self, storage: BigQueryReadClient, destination: bigquery.TableReference
    ) -> ReadSession:
        lz4 = ArrowSerializationOptions.CompressionCodec.LZ4_FRAME
        wanted = ReadSession(
            table=destination.to_bqstorage(),
            data_format=DataFormat.ARROW,
            read_options=ReadSession.TableReadOptions(
                arrow_serialization_options=ArrowSerializationOptions(buffer_compression=lz4)
            ),
        )
        return storage.create_read_session(
            parent=f"projects/{self._project}",
            read_session=wanted,
            max_stream_count=1,
            retry=STREAM_RETRY,
            timeout=CALL_TIMEOUT,
        )


def _account(
    config: BigQueryConfig, secret: bytes | None, guard: OutboundGuard
) -> tuple[service_account.Credentials, bool]:
    """The credentials, and whether everything that they are for is at Google."""
    try:
        info = json.loads(secret or b"")
        at_google = (
            not config.api_endpoint and not config.storage_endpoint and is_google(info["token_uri"])
        )
        kind = service_account.Credentials if at_google else guarded_credentials(guard)
        read: Callable[..., Any] = kind.from_service_account_info
        account = read(info, scopes=_SCOPES)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CredentialsRejected(
            "The BigQuery connection's secret is not a service account's JSON file."
        ) from error
    assert isinstance(account, kind)  # noqa: S101 - tells the type, which google-auth does not
    return account, at_google


def _storage_client(
    config: BigQueryConfig, account: service_account.Credentials, guard: OutboundGuard
) -> BigQueryReadClient | None:
    """A client of the Storage Read API, or None where there is none.

    Without endpoints both services are Google's.
    """
    if not config.storage_endpoint:
        return None if config.api_endpoint else _reader(credentials=account)
    channel = storage_channel(config.storage_endpoint, account, guard)
    return _reader(transport=BigQueryReadGrpcTransport(channel=channel))


def _reader(**options: Any) -> BigQueryReadClient:
    return BigQueryReadClient(**options)  # type: ignore[no-untyped-call] # no annotations there


def _bounded_pause(seconds: float) -> None:
    """Called before the client sleeps for as long as the server asks."""
    if seconds > LONGEST_HINT:
        raise PeerUnavailable("BigQuery asks to slow down while rows are read.", seconds)
