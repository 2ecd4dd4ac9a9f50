"""Google's own GoogleSQL analyzer and evaluator, as the judge of the stand-in and of queries.

The package ``zetasql`` is GoogleSQL's reference implementation, compiled to WebAssembly. It is slow
and small, and it is what BigQuery's language *is*. Two uses:

* ``evaluate`` runs a query on a few rows; the stand-in must give the same.
* ``analyze`` checks a query of the product against a schema, and gives the result's columns. Other
  test modules use it as a gate: a query that only the stand-in accepts must not reach a customer::

      from tests.integration.bigquery_standin.oracle import oracle
      columns = oracle().analyze(sql, {"events": fields}, {"day": STRING})

A table ``project.dataset.events_*`` is registered under exactly that text and named in backticks.
Compiling the WebAssembly takes fifteen seconds; the result is kept in pytest's cache directory.
"""

import ctypes
import functools
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from troupe_demo.bigquery.types import Field, Kind, Type, array_of, struct_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from wasmtime import Config, Engine, Linker, Module, Store, WasiConfig
    from zetasql.core.exceptions import ZetaSQLError
    from zetasql.core.wasm_client import WasmClient, get_tzinfo_dir
    from zetasql.wasi import get_wasm_path
    from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service
    from zetasql.wasi._pb2.zetasql.proto import options_pb2
    from zetasql.wasi._pb2.zetasql.public import options_pb2 as public
    from zetasql.wasi._pb2.zetasql.public import type_pb2, value_pb2

CACHE = Path(__file__).parents[3] / ".pytest_cache" / "zetasql"
EPOCH = date(1970, 1, 1)
# Later additions to the language that BigQuery does not offer.
_NOT_BIGQUERY = (
    "FEATURE_TIMESTAMP_NANOS",
    "FEATURE_V_1_2_TIMESTAMP_NANOS",
    "FEATURE_TIMESTAMP_PICOS",
)


class OracleError(Exception):
    """GoogleSQL rejects the query, or it fails on its data."""


@dataclass(frozen=True)
class Answer:
    """What a query gives: its columns, and its rows as tuples of Python values."""

    columns: list[Field]
    rows: list[tuple[Any, ...]]


class _Client(WasmClient):
    """The package's client with a compiled module kept on disk, and memory copied in one go."""

    def __init__(self) -> None:
        wasi = WasiConfig()
        wasi.inherit_stderr()
        wasi.preopen_dir(get_tzinfo_dir(), "/usr/share/zoneinfo")
        config = Config()
        config.shared_memory = True
        engine = Engine(config)
        self.store = Store(engine)
        self.store.set_wasi(wasi)
        self.module = _module(engine)
        linker = Linker(engine)
        linker.define_wasi()
        self.instance = linker.instantiate(self.store, self.module)
        self.exports = self.instance.exports(self.store)
        self.exports["_initialize"](self.store)
        self.memory = self.exports["memory"]

    def _address(self, pointer: int) -> int:
        return ctypes.addressof(self.memory.data_ptr().contents) + pointer

    def write_bytes(self, ptr: int, data: bytes) -> None:
        ctypes.memmove(self._address(ptr), data, len(data))

    def read_bytes(self, ptr: int, size: int) -> bytes:
        return ctypes.string_at(self._address(ptr), size)


def _module(engine: Engine) -> Module:
    source = Path(get_wasm_path())
    status = source.stat()
    kept = CACHE / f"{status.st_size}-{status.st_mtime_ns}.cwasm"
    if kept.exists():
        try:
            return Module.deserialize_file(engine, str(kept))
        except Exception:  # noqa: BLE001 - compiled by another version or for another processor
            kept.unlink(missing_ok=True)
    module = Module.from_file(engine, str(source))
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=CACHE, delete=False) as file:
        file.write(module.serialize())
    Path(file.name).rename(kept)
    return module


class Oracle:
    """One instance of the reference implementation."""

    def __init__(self) -> None:
        self._client = _Client()
        language = self._call(
            "GetLanguageOptions",
            service.LanguageOptionsRequest(maximum_features=True),
            options_pb2.LanguageOptionsProto,
        )
        unwanted = {
            number
            for name, number in public.LanguageFeature.items()
            if name in _NOT_BIGQUERY or "PIPE" in name
        }
        features = [f for f in language.enabled_language_features if f not in unwanted]
        del language.enabled_language_features[:]
        language.enabled_language_features.extend(features)
        language.product_mode = 1  # as outside Google
        self._language = language

    def _call(self, method: str, request: Any, response: Any) -> Any:
        try:
            return self._client.call_grpc_func(f"ZetaSqlLocalService_{method}", request, response)
        except ZetaSQLError as error:
            raise OracleError(str(error)) from None

    def _prepare(
        self,
        request: Any,
        tables: Mapping[str, Sequence[Field]],
        parameters: Mapping[str, Type],
    ) -> None:
        options = request.options
        options.language_options.CopyFrom(self._language)
        options.default_timezone = "UTC"
        options.error_message_mode = 1  # one line, with the place
        for name, type_ in parameters.items():
            options.query_parameters.add(name=name).type.CopyFrom(_type_proto(type_))
        catalog = request.simple_catalog
        catalog.name = "catalog"
        catalog.builtin_function_options.language_options.CopyFrom(self._language)
        for number, (name, columns) in enumerate(tables.items()):
            table = catalog.table.add(name=name, name_in_catalog=name, serialization_id=number + 1)
            for column in columns:
                hidden = column.name == "_TABLE_SUFFIX"
                added = table.column.add(name=column.name, is_pseudo_column=hidden)
                added.type.CopyFrom(_type_proto(column.type))

    def analyze(
        self,
        sql: str,
        tables: Mapping[str, Sequence[Field]] | None = None,
        parameters: Mapping[str, Type] | None = None,
    ) -> list[Field]:
        """The columns of the query's result.

        Args:
            sql: One GoogleSQL query.
            tables: Columns by the name in the query; a wildcard's also hold ``_TABLE_SUFFIX``.
            parameters: Types of its named parameters.

        Raises:
            OracleError: BigQuery would reject the query.
        """
        request = service.PrepareQueryRequest(sql=sql)
        self._prepare(request, tables or {}, parameters or {})
        response = self._call("PrepareQuery", request, service.PrepareQueryResponse)
        self._call(
            "UnprepareQuery",
            service.UnprepareQueryRequest(prepared_query_id=response.prepared.prepared_query_id),
            service.PrepareQueryResponse,
        )
        return [Field(c.name, _read_type(c.type)) for c in response.prepared.columns]

    def evaluate(
        self,
        sql: str,
        tables: Mapping[str, tuple[Sequence[Field], Sequence[Mapping[str, Any]]]] | None = None,
        parameters: Mapping[str, tuple[Type, Any]] | None = None,
    ) -> Answer:
        """Run the query on rows (dictionaries by column name).

        Raises:
            OracleError: BigQuery would reject the query, or it fails.
        """
        tables, parameters = tables or {}, parameters or {}
        request = service.EvaluateQueryRequest(sql=sql)
        self._prepare(
            request,
            {name: columns for name, (columns, _) in tables.items()},
            {name: type_ for name, (type_, _) in parameters.items()},
        )
        for name, (columns, rows) in tables.items():
            content = request.table_content[name].table_data
            for row in rows:
                cells = content.row.add()
                for column in columns:
                    cells.cell.append(_value_proto(row.get(column.name), column.type))
        for name, (type_, value) in parameters.items():
            request.params.add(name=name).value.CopyFrom(_value_proto(value, type_))
        response = self._call("EvaluateQuery", request, service.EvaluateQueryResponse)
        columns = [Field(c.name, _read_type(c.type)) for c in response.prepared.columns]
        rows = [
            tuple(_read_value(cell, c.type) for cell, c in zip(row.cell, columns, strict=True))
            for row in response.content.table_data.row
        ]
        return Answer(columns, rows)


@functools.cache
def oracle() -> Oracle:
    """The one oracle of a test run."""
    return Oracle()


# -- types and values

_KINDS = {
    Kind.BOOL: type_pb2.TYPE_BOOL,
    Kind.INT64: type_pb2.TYPE_INT64,
    Kind.FLOAT64: type_pb2.TYPE_DOUBLE,
    Kind.NUMERIC: type_pb2.TYPE_NUMERIC,
    Kind.STRING: type_pb2.TYPE_STRING,
    Kind.BYTES: type_pb2.TYPE_BYTES,
    Kind.DATE: type_pb2.TYPE_DATE,
    Kind.DATETIME: type_pb2.TYPE_DATETIME,
    Kind.TIME: type_pb2.TYPE_TIME,
    Kind.TIMESTAMP: type_pb2.TYPE_TIMESTAMP,
}
_READ_KINDS = {number: kind for kind, number in _KINDS.items()}


def _type_proto(type_: Type) -> Any:
    if type_.element is not None:
        proto = type_pb2.TypeProto(type_kind=type_pb2.TYPE_ARRAY)
        proto.array_type.element_type.CopyFrom(_type_proto(type_.element))
    elif type_.kind is Kind.STRUCT:
        proto = type_pb2.TypeProto(type_kind=type_pb2.TYPE_STRUCT)
        for field in type_.fields:
            added = proto.struct_type.field.add(field_name=field.name)
            added.field_type.CopyFrom(_type_proto(field.type))
    else:
        proto = type_pb2.TypeProto(type_kind=_KINDS[type_.kind])
    return proto


def _read_type(proto: Any) -> Type:
    if proto.type_kind == type_pb2.TYPE_ARRAY:
        return array_of(_read_type(proto.array_type.element_type))
    if proto.type_kind == type_pb2.TYPE_STRUCT:
        fields = proto.struct_type.field
        return struct_of([Field(f.field_name, _read_type(f.field_type)) for f in fields])
    return Type(_READ_KINDS.get(proto.type_kind, Kind.NULL))


def _value_proto(value: Any, type_: Type) -> Any:
    proto = value_pb2.ValueProto()
    if value is None:
        return proto
    if type_.element is not None:
        proto.array_value.SetInParent()
        proto.array_value.element.extend(_value_proto(item, type_.element) for item in value)
    elif type_.kind is Kind.STRUCT:
        proto.struct_value.SetInParent()
        values = [value.get(f.name) for f in type_.fields] if isinstance(value, Mapping) else value
        for item, field in zip(values, type_.fields, strict=True):
            proto.struct_value.field.append(_value_proto(item, field.type))
    elif type_.kind is Kind.DATE:
        proto.date_value = (value - EPOCH).days
    elif type_.kind is Kind.TIMESTAMP:
        proto.timestamp_value.FromDatetime(value.astimezone(UTC))
    elif type_.kind is Kind.DATETIME:
        clock = value.hour << 12 | value.minute << 6 | value.second
        day = value.year << 26 | value.month << 22 | value.day << 17
        proto.datetime_value.bit_field_datetime_seconds = day | clock
        proto.datetime_value.nanos = value.microsecond * 1000
    elif type_.kind is Kind.NUMERIC:
        scaled = int(Decimal(value).scaleb(9))
        size = max(1, (scaled.bit_length() + 8) // 8)
        proto.numeric_value = scaled.to_bytes(size, "little", signed=True)
    else:
        name = {Kind.FLOAT64: "double_value", Kind.INT64: "int64_value"}.get(type_.kind)
        setattr(proto, name or f"{type_.kind.lower()}_value", value)
    return proto


def _read_value(proto: Any, type_: Type) -> Any:  # noqa: PLR0911 - one line per type
    which = proto.WhichOneof("value")
    if which is None:
        return None
    value = getattr(proto, which)
    match type_.kind:
        case Kind.ARRAY:
            assert type_.element is not None
            return [_read_value(item, type_.element) for item in value.element]
        case Kind.STRUCT:
            pairs = zip(value.field, type_.fields, strict=True)
            return tuple(_read_value(item, field.type) for item, field in pairs)
        case Kind.DATE:
            return EPOCH + timedelta(days=value)
        case Kind.TIMESTAMP:
            start = datetime(1970, 1, 1, tzinfo=UTC)
            return start + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)
        case Kind.DATETIME:
            bits = value.bit_field_datetime_seconds
            day = date(bits >> 26, bits >> 22 & 15, bits >> 17 & 31)
            clock = time(bits >> 12 & 31, bits >> 6 & 63, bits & 63, value.nanos // 1000)
            return datetime.combine(day, clock)
        case Kind.TIME:
            seconds, nanos = value >> 30, value & (1 << 30) - 1
            return time(seconds >> 12, seconds >> 6 & 63, seconds & 63, nanos // 1000)
        case Kind.NUMERIC:
            return Decimal(int.from_bytes(value, "little", signed=True)).scaleb(-9)
        case _:
            return value
