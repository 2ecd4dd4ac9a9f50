"""Arrow batches of flattened events to PostgreSQL's binary COPY.

Problem. PostgreSQL takes rows fastest by binary COPY, and an interpreter is slowest at making them:
a million events of forty columns are forty million values.

Choice. pgpq (Rust) writes the binary form of whole Arrow columns. Two things it cannot say are
handed to it as ready bytes: ``uuid`` and exact ``numeric`` (see numeric.py). Everything that
PostgreSQL would refuse is mended column by column in Arrow first: U+0000, which no ``text`` holds,
is dropped; a value that is part of a key is cut to 256 characters, so that no index entry is too
long.

What it costs. pgpq holds the interpreter lock while it writes, so a batch is written in slices of
1,024 rows or a mebibyte: the event loop is never held up for more than some milliseconds. JSON is
only checked by PostgreSQL: parsing it there is the greater half of the whole copy. Whether a column
needs mending is asked of its bytes as a whole, which hardly ever do: asking value by value took
longer than writing.

Rejected: rows through Python (half the speed or less, measured in DESIGN §12), ADBC (its own
connection, outside our pool and its tenancy), text COPY.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

import pgpq
import pgpq.encoders
import pgpq.schema
import pyarrow as pa
import pyarrow.compute as pc

from troupe.actors.data.numeric import numeric_column
from troupe.common.ids import TenantId
from troupe.common.units import KiB

if TYPE_CHECKING:
    from pgpq._pgpq import EncoderBuilder

SLICE_ROWS: Final = 256
SLICE_BYTES: Final = 256 * KiB
"""What is encoded at a time, with the interpreter's lock held: 0.3 ms."""
MAX_KEY_CHARACTERS: Final = 256


class Kind(Enum):
    """What a column of `data.events` holds."""

    TEXT = auto()
    KEY = auto()
    """Text that is part of a key somewhere: of bounded length."""
    JSON = auto()
    BIGINT = auto()
    BOOLEAN = auto()
    INSTANT = auto()
    NUMERIC = auto()


EVENT_COLUMNS: Final[dict[str, Kind]] = {
    "event_at": Kind.INSTANT,
    "event_name": Kind.KEY,
    "stream_id": Kind.KEY,
    "user_pseudo_id": Kind.KEY,
    "ga_session_id": Kind.BIGINT,
    "ga_session_number": Kind.BIGINT,
    "session_engaged": Kind.BOOLEAN,
    "engagement_ms": Kind.BIGINT,
    "is_active_user": Kind.BOOLEAN,
    "user_id": Kind.KEY,
    "customer_id": Kind.KEY,
    "erp_customer_id": Kind.KEY,
    "location_id": Kind.KEY,
    "page_location": Kind.TEXT,
    "page_title": Kind.TEXT,
    "page_referrer": Kind.TEXT,
    "search_term": Kind.TEXT,
    "source": Kind.TEXT,
    "medium": Kind.TEXT,
    "campaign": Kind.TEXT,
    "channel": Kind.KEY,
    "device_category": Kind.KEY,
    "operating_system": Kind.TEXT,
    "browser": Kind.TEXT,
    "language": Kind.TEXT,
    "country": Kind.TEXT,
    "region": Kind.TEXT,
    "city": Kind.TEXT,
    "currency": Kind.KEY,
    "event_value": Kind.NUMERIC,
    "transaction_id": Kind.KEY,
    "purchase_revenue": Kind.NUMERIC,
    "refund_value": Kind.NUMERIC,
    "shipping_value": Kind.NUMERIC,
    "tax_value": Kind.NUMERIC,
    "items": Kind.JSON,
    "parameters": Kind.JSON,
    "bundle_sequence_id": Kind.BIGINT,
    "batch_event_index": Kind.BIGINT,
}
"""What the extraction delivers, under the names of the table's columns."""

COPY_COLUMNS: Final = ("tenant_id", "source_day", *EVENT_COLUMNS)
"""The columns of an encoded batch, in order."""

_WIRE_TYPES: Final[dict[Kind, pa.DataType]] = {
    Kind.TEXT: pa.string(),
    Kind.KEY: pa.string(),
    Kind.JSON: pa.string(),
    Kind.BIGINT: pa.int64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.INSTANT: pa.timestamp("us", tz="UTC"),
    Kind.NUMERIC: pa.binary(),
}
_WIRE_SCHEMA: Final = pa.schema(
    [("tenant_id", pa.binary(16)), ("source_day", pa.date32())]
    + [(name, _WIRE_TYPES[kind]) for name, kind in EVENT_COLUMNS.items()]
)
# An escaped U+0000 inside JSON text, not preceded by an odd number of backslashes.
_ESCAPED_NUL: Final = r"((?:^|[^\\])(?:\\\\)*)\\u0000"


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """A whole binary COPY: header, rows, trailer.

    Attributes:
        rows: How many.
        pieces: Bytes, to be sent one after the other.
    """

    rows: int
    pieces: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(map(len, self.pieces))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.pieces)


def encode(batch: pa.RecordBatch, tenant: TenantId, source_day: date) -> EncodedBatch:
    """`batch` as it is copied into a staged table.

    Args:
        batch: Columns of `EVENT_COLUMNS` by name, in any order; money as FLOAT64.
        tenant: Whose rows they are.
        source_day: The day of the table that they come from.

    Raises:
        KeyError: A column is missing.
        pyarrow.ArrowInvalid: A column's type cannot become the table's.
    """
    ready = _conform(batch, tenant, source_day)
    encoder = pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(_WIRE_SCHEMA, _encoders())
    pieces = [encoder.write_header()]
    for piece in _slices(ready, rows=SLICE_ROWS, size=SLICE_BYTES):
        pieces.append(encoder.write_batch(piece))  # noqa: PERF401 - one statement per slice, so
        # that the interpreter lock is given up between them
    pieces.append(encoder.finish())
    return EncodedBatch(batch.num_rows, tuple(pieces))


def gathered(
    batches: Iterable[pa.RecordBatch], *, rows: int, size: int
) -> Iterator[pa.RecordBatch]:
    """The same rows in the same order, in batches worth encoding.

    Args:
        batches: As they arrive, of any sizes.
        rows: Of a batch at most.
        size: Bytes of a batch at most, unless one row is larger.
    """
    waiting: list[pa.RecordBatch] = []
    count = held = 0
    for batch in batches:
        for piece in _slices(batch, rows=rows, size=size):
            if waiting and (count + piece.num_rows > rows or held + piece.nbytes > size):
                yield pa.concat_batches(waiting)
                waiting, count, held = [], 0, 0
            waiting.append(piece)
            count += piece.num_rows
            held += piece.nbytes
    if waiting:
        yield pa.concat_batches(waiting)


def _slices(batch: pa.RecordBatch, *, rows: int, size: int) -> Iterator[pa.RecordBatch]:
    if not batch.num_rows:
        return
    most = max(1, min(rows, size * batch.num_rows // max(batch.nbytes, 1)))
    for start in range(0, batch.num_rows, most):
        yield batch.slice(start, most)


def _encoders() -> "dict[str, EncoderBuilder]":
    encoders = {
        field.name: pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(field) for field in _WIRE_SCHEMA
    }
    for name, kind in EVENT_COLUMNS.items():
        if kind is Kind.JSON:
            encoders[name] = pgpq.encoders.StringEncoderBuilder.new_with_output(
                _WIRE_SCHEMA.field(name), pgpq.schema.Jsonb()
            )
    return encoders


def _conform(batch: pa.RecordBatch, tenant: TenantId, source_day: date) -> pa.RecordBatch:
    arrays = [
        pa.repeat(pa.scalar(tenant.bytes, pa.binary(16)), batch.num_rows),
        pa.repeat(pa.scalar(source_day, pa.date32()), batch.num_rows),
    ]
    arrays += [_column(batch.column(name), kind) for name, kind in EVENT_COLUMNS.items()]
    return pa.RecordBatch.from_arrays(arrays, schema=_WIRE_SCHEMA)


def _column(values: pa.Array, kind: Kind) -> pa.Array:
    if kind is Kind.NUMERIC:
        return numeric_column(values)
    cast = values.cast(_WIRE_TYPES[kind])
    match kind:
        case Kind.TEXT:
            return _without_nul(cast)
        case Kind.KEY:
            return _cut(_without_nul(cast))
        case Kind.JSON:
            return _without_escaped_nul(cast)
        case _:
            return cast


def _without_nul(texts: pa.Array) -> pa.Array:
    if not _may_hold(texts, b"\0"):
        return texts
    return pc.replace_substring(texts, "\0", "")


def _may_hold(texts: pa.Array, wanted: bytes) -> bool:
    """Whether some text might hold these bytes; False is certain."""
    data = texts.buffers()[2]
    return data is not None and wanted in data.to_pybytes()


def _without_escaped_nul(texts: pa.Array) -> pa.Array:
    if not _may_hold(texts, rb"\u0000"):
        return texts
    # Of two in a row one pass sees the first only: it needs a character before it.
    while pc.any(pc.match_substring_regex(texts, _ESCAPED_NUL)).as_py():
        texts = pc.replace_substring_regex(texts, _ESCAPED_NUL, r"\1")
    return texts


def _cut(texts: pa.Array) -> pa.Array:
    longest = pc.max(pc.binary_length(texts)).as_py()
    if longest is None or longest <= MAX_KEY_CHARACTERS:
        return texts
    return pc.utf8_slice_codeunits(texts, 0, MAX_KEY_CHARACTERS)
