"""The Storage Read API: a table's or a result's rows as Arrow, over gRPC.

A session pins what it reads: the file of a stored table, or of a query's result, is linked into the
session's own directory, so that a table rewritten in the meantime does not change a stream half
read. Streams are ranges of rows of that file and are read lazily, one message at a time; a client
that resumes at an offset gets exactly the rows from there on. A row restriction is a query of its
own, run when the session is made.
"""

import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pyarrow as pa
from google.cloud.bigquery_storage_v1 import types
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status  # type: ignore[import-untyped] # no types there

from troupe.common.units import KiB
from troupe_demo.bigquery.accounts import Accounts
from troupe_demo.bigquery.engine import Engine, QueryRequest, Running
from troupe_demo.bigquery.errors import BigQueryError
from troupe_demo.bigquery.faults import Faults
from troupe_demo.bigquery.jobs import Jobs, anonymous_dataset
from troupe_demo.bigquery.results import Result, Rows, TableRows
from troupe_demo.bigquery.types import Field, Kind, Type, array_of, arrow_schema

_SERVICE: Final = "google.cloud.bigquery.storage.v1.BigQueryRead"
_WORKERS: Final = 16
_MAX_SESSIONS: Final = 500
_MAX_STREAMS: Final = 8
_ROWS_PER_STREAM: Final = 5_000  # fewer are not worth a stream
_MESSAGE_BYTES: Final = 1024 * KiB  # well under gRPC's default limit of 4 MiB
_CODES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
_COMPRESSIONS: Final = {
    types.ArrowSerializationOptions.CompressionCodec.LZ4_FRAME: "lz4",
    types.ArrowSerializationOptions.CompressionCodec.ZSTD: "zstd",
}


@dataclass(frozen=True, slots=True)
class Session:
    """What a read session serves.

    ``directory`` is its own and goes away with it.
    """

    project: str
    rows: Rows
    names: list[str]
    schema: pa.Schema
    compression: str | None
    directory: Path


@dataclass(frozen=True, slots=True)
class Stream:
    """A range of a session's rows."""

    session: Session
    start: int
    count: int


class StorageRead:
    """The service."""

    def __init__(self, engine: Engine, jobs: Jobs, faults: Faults, accounts: Accounts) -> None:
        self._engine = engine
        self._jobs = jobs
        self._faults = faults
        self._accounts = accounts
        self._sessions: dict[str, Session] = {}
        self._streams: dict[str, Stream] = {}
        self._lock = threading.Lock()

    def serve(self, port: int) -> tuple[grpc.Server, int]:
        """Start on loopback; gives the server and its port."""
        server = grpc.server(
            futures.ThreadPoolExecutor(_WORKERS, thread_name_prefix="storage-read"),
            options=[("grpc.so_reuseport", 0)],
        )
        create = grpc.unary_unary_rpc_method_handler(
            self._create, types.CreateReadSessionRequest.deserialize, types.ReadSession.serialize
        )
        read = grpc.unary_stream_rpc_method_handler(
            self._read, types.ReadRowsRequest.deserialize, types.ReadRowsResponse.serialize
        )
        handlers = {"CreateReadSession": create, "ReadRows": read}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        return server, bound

    # -- sessions

    def _create(self, request: Any, context: grpc.ServicerContext) -> Any:
        project = request.parent.removeprefix("projects/")
        status = 200
        try:
            self._faults.strike("storage.createReadSession")
            self._admit(project, context)
            return self._created(project, request)
        except BigQueryError as error:
            status = error.code
            raise _aborted(context, error) from None
        finally:
            table = request.read_session.table
            self._faults.record("storage.createReadSession", project, table, status)

    def _admit(self, project: str, context: grpc.ServicerContext) -> None:
        """A token is checked if one is sent; Google's client sends none without encryption."""
        metadata = {key.lower(): value for key, value in context.invocation_metadata()}
        if "authorization" in metadata:
            caller = self._accounts.project_of(metadata["authorization"])
            if caller != project:
                message = f"Permission bigquery.readsessions.create denied on project {project}."
                raise BigQueryError.access_denied(f"Project {project}", message)
        self._engine.catalogue.project(project)

    def _created(self, project: str, request: Any) -> Any:
        wanted = request.read_session
        options = wanted.read_options
        if wanted.data_format not in (types.DataFormat.ARROW, 0):
            raise BigQueryError.invalid("The stand-in serves Arrow only")
        directory = self._engine.workspace.fresh()
        directory.mkdir()
        try:
            rows = self._pinned(project, wanted.table, options.row_restriction, directory)
            columns = _selected(rows.columns, list(options.selected_fields))
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        schema = arrow_schema(list(columns))
        compression = options.arrow_serialization_options.buffer_compression
        session = Session(
            project,
            rows,
            [column.name for column in columns],
            schema,
            _COMPRESSIONS.get(compression),
            directory,
        )
        name = f"projects/{project}/locations/us/sessions/{uuid.uuid4().hex}"
        streams = _streams(name, session, request.max_stream_count)
        self._keep(name, session, streams)
        return types.ReadSession(
            name=name,
            table=wanted.table,
            data_format=types.DataFormat.ARROW,
            arrow_schema=types.ArrowSchema(serialized_schema=schema.serialize().to_pybytes()),
            read_options=options,
            streams=[types.ReadStream(name=stream) for stream in streams],
            estimated_row_count=len(rows),
            expire_time=datetime.now(UTC) + timedelta(hours=6),
        )

    def _pinned(self, project: str, path: str, restriction: str, directory: Path) -> Rows:
        parts = path.split("/")
        if len(parts) != 6 or parts[::2] != ["projects", "datasets", "tables"]:
            raise BigQueryError.invalid(f"Malformed table name: {path}")
        owner, dataset, name = parts[1::2]
        if dataset == anonymous_dataset(owner) and owner == project:
            if restriction:
                message = "The stand-in does not support a row restriction on a query's result"
                raise BigQueryError.invalid(message)
            return _linked(self._jobs.holding(project, name).result, directory)
        snapshot = self._engine.snapshot(project)
        try:
            table = snapshot.table(owner, dataset, name)
            if not restriction:
                kept = directory / table.path.name
                table.path.rename(kept)
                return TableRows(replace(table, path=kept))
            return self._restricted(project, f"{owner}.{dataset}.{name}", restriction, directory)
        finally:
            snapshot.close()

    def _restricted(self, project: str, table: str, restriction: str, directory: Path) -> Rows:
        sql = f"SELECT * FROM `{table}` WHERE {restriction}"  # noqa: S608 - compiled, not executed
        with self._engine.snapshot(project) as snapshot:
            program = self._engine.prepare(QueryRequest(project, sql, None, []), snapshot)
            result = self._engine.run(program, Running())
        try:
            return _linked(result, directory)
        finally:
            result.discard()

    def _keep(self, name: str, session: Session, streams: dict[str, Stream]) -> None:
        with self._lock:
            while len(self._sessions) >= _MAX_SESSIONS:
                oldest = next(iter(self._sessions))
                forgotten = self._sessions.pop(oldest)
                for stream in [s for s in self._streams if s.startswith(f"{oldest}/")]:
                    del self._streams[stream]
                shutil.rmtree(forgotten.directory, ignore_errors=True)
            self._sessions[name] = session
            self._streams.update(streams)

    # -- streams

    def _read(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with self._lock:
            stream = self._streams.get(request.read_stream)
        status, project = 200, stream.session.project if stream is not None else ""
        try:
            checked = _readable(stream, request)
            self._admit(checked.session.project, context)
            yield from self._messages(checked, request.offset)
        except BigQueryError as error:
            status = error.code
            raise _aborted(context, error) from None
        finally:
            self._faults.record("storage.readRows", project, request.read_stream, status)

    def _messages(self, stream: Stream, offset: int) -> Iterator[Any]:
        session = stream.session
        serialized = session.schema.serialize().to_pybytes()
        first = {"arrow_schema": types.ArrowSchema(serialized_schema=serialized)}
        options = pa.ipc.IpcWriteOptions(compression=session.compression)
        for batch in _window(stream, offset):
            self._faults.strike("storage.readRows")
            yield types.ReadRowsResponse(
                arrow_record_batch=types.ArrowRecordBatch(
                    serialized_record_batch=_serialized(batch, options), row_count=batch.num_rows
                ),
                row_count=batch.num_rows,
                **first,
            )
            first = {}


def _readable(stream: Stream | None, request: Any) -> Stream:
    if stream is None:
        message = f"Stream {request.read_stream} not found or expired"
        raise BigQueryError(404, "notFound", message)
    if request.offset > stream.count:
        message = f"Offset {request.offset} is past the end of the stream"
        raise BigQueryError.invalid(message)
    return stream


def _aborted(context: grpc.ServicerContext, error: BigQueryError) -> Exception:
    """End the call with the error; ``abort`` itself raises."""
    code = _CODES.get(error.code, grpc.StatusCode.INTERNAL)
    if error.retry_after is None:
        context.abort(code, error.message)
        return error
    # Google's client resumes a stream that ran into a limit only if it is told when.
    status = Status(code=code.value[0], message=error.message)
    delay = Duration()
    delay.FromMicroseconds(int(error.retry_after * 1_000_000))
    status.details.add().Pack(RetryInfo(retry_delay=delay))
    context.abort_with_status(rpc_status.to_status(status))
    return error


def _linked(result: Result | None, directory: Path) -> Result:
    """The result under a name of the session's own, which outlives the job's."""
    if result is None:
        raise BigQueryError(500, "internalError", "The job has no result")
    kept = directory / "rows.arrow"
    try:
        os.link(result.path, kept)
    except OSError:
        shutil.copyfile(result.path, kept)
    return replace(result, path=kept)


def _streams(name: str, session: Session, most: int) -> dict[str, Stream]:
    """Even ranges of the session's rows; none for no rows."""
    total = len(session.rows)
    if not total:
        return {}
    count = max(1, min(most or _MAX_STREAMS, _MAX_STREAMS, -(-total // _ROWS_PER_STREAM)))
    step = -(-total // count)
    return {
        f"{name}/streams/{place}": Stream(session, start, min(step, total - start))
        for place, start in enumerate(range(0, total, step))
    }


def _window(stream: Stream, offset: int) -> Iterator[pa.RecordBatch]:
    """The stream's rows from ``offset`` on, in batches small enough for a message."""
    left = stream.count - offset
    session = stream.session
    top = list(dict.fromkeys(name for name in session.names))
    if left <= 0:
        return
    for batch in session.rows.batches(stream.start + offset, top):
        whole = batch.slice(0, left)
        left -= whole.num_rows
        yield from _small(_narrowed(whole, session.schema))
        if left <= 0:
            return


def _small(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    rows = max(1, batch.num_rows * _MESSAGE_BYTES // max(batch.nbytes, _MESSAGE_BYTES))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _narrowed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    return batch if batch.schema == schema else batch.select(schema.names).cast(schema)


def _serialized(batch: pa.RecordBatch, options: pa.ipc.IpcWriteOptions) -> bytes:
    """One encapsulated message; the schema travels apart."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    messages = pa.ipc.MessageReader.open_stream(sink.getvalue())
    messages.read_next_message()
    data: bytes = messages.read_next_message().serialize().to_pybytes()
    return data


def _selected(columns: Sequence[Field], wanted: list[str]) -> list[Field]:
    """The columns named, in the order of the table; ``a.b`` keeps one field of a record."""
    if not wanted:
        return list(columns)
    paths = [name.split(".") for name in wanted]
    kept = [field for column in columns if (field := _kept(column, paths)) is not None]
    for path in paths:
        if not _leads(columns, path):
            missing = ".".join(path)
            message = f"The following selected fields do not exist in the table schema: {missing}"
            raise BigQueryError.invalid(f"request failed: {message}")
    return kept


def _kept(field: Field, paths: list[list[str]]) -> Field | None:
    below = [path[1:] for path in paths if path[0].lower() == field.name.lower()]
    if not below:
        return None
    inner = field.type.element or field.type
    if [] in below or inner.kind is not Kind.STRUCT:
        return field
    parts = tuple(part for f in inner.fields if (part := _kept(f, below)) is not None)
    narrowed = Type(Kind.STRUCT, fields=parts)
    return Field(field.name, array_of(narrowed) if field.type.element else narrowed)


def _leads(columns: Sequence[Field], path: list[str]) -> bool:
    found = next((c for c in columns if c.name.lower() == path[0].lower()), None)
    if found is None or len(path) == 1:
        return found is not None
    return _leads((found.type.element or found.type).fields, path[1:])
