"""Tables as files: CSV, XLSX and Parquet, written piece by piece.

An export may have a million rows, so nothing here holds more than the rows of the moment: each
format is a `Writer` that takes some rows and hands out the bytes that have come of them. That is
why XLSX is written here and not by a library: those known to us write to a file, or gather the
sheet first; what a plain sheet needs is six small XML documents in a ZIP that Python writes to any
stream.

A text that a spreadsheet would take for a formula (``=1+1``, ``@SUM``, also ``+49 30``) is written
with an apostrophe before it in CSV, where every cell is text that the reader interprets. XLSX and
Parquet say of each cell that it is text, so there it stands as it is.
"""

import csv
import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from enum import Enum, StrEnum
from typing import Final, Protocol
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.parquet as pq

from troupe.http.exact_json import instant

Cell = str | int | float | bool | Decimal | datetime | date | None
Line = Sequence[Cell]


class Kind(Enum):
    """What a column holds; every cell may be empty."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    MONEY = "money"
    FLAG = "flag"
    INSTANT = "instant"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Heading:
    """Name and kind of a column."""

    name: str
    kind: Kind


class Format(StrEnum):
    """What an export can be."""

    CSV = "csv"
    XLSX = "xlsx"
    PARQUET = "parquet"


CONTENT_TYPES: Final = {
    Format.CSV: "text/csv; charset=utf-8; header=present",
    Format.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    Format.PARQUET: "application/vnd.apache.parquet",
}


class Writer(Protocol):
    """Writes one table."""

    def write(self, lines: Sequence[Line]) -> bytes:  # pragma: no cover
        """Take some lines; what can be sent by now, maybe nothing yet."""
        ...

    def finish(self) -> bytes:  # pragma: no cover
        """What is left to be sent; nothing may be written afterwards."""
        ...


def new_writer(wanted: Format, headings: Sequence[Heading]) -> Writer:
    """A writer that has written the headings."""
    match wanted:
        case Format.CSV:
            return CsvWriter(headings)
        case Format.XLSX:
            return XlsxWriter(headings)
        case Format.PARQUET:
            return ParquetWriter(headings)


class _Outbox(io.RawIOBase):
    """A stream that is only written to; what was written is taken away piece by piece."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._pieces.append(piece)
        self._written += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._written

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


# --- CSV --------------------------------------------------------------------------------------

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The last four are the first four in full width, which some spreadsheets read alike."""


def harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


class CsvWriter:
    """RFC 4180 in UTF-8: commas, CRLF, quotes where needed; an empty cell is nothing."""

    def __init__(self, headings: Sequence[Heading]) -> None:
        self._text = io.StringIO(newline="")
        self._csv = csv.writer(self._text, lineterminator="\r\n")
        self._csv.writerow(heading.name for heading in headings)

    def write(self, lines: Sequence[Line]) -> bytes:
        """See `Writer`."""
        self._csv.writerows([_csv_cell(cell) for cell in line] for line in lines)
        written = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return written.encode()

    def finish(self) -> bytes:
        """See `Writer`."""
        return self.write(())


def _csv_cell(cell: Cell) -> str:
    match cell:
        case None:
            text = ""
        case bool():
            text = "true" if cell else "false"
        case str():
            text = harmless(cell)
        case datetime():
            text = instant(cell)
        case date():
            text = cell.isoformat()
        case _:
            text = _digits(cell)
    return text


def _digits(number: float | Decimal) -> str:
    return format(number, "f") if isinstance(number, Decimal) else repr(number)


# --- XLSX -------------------------------------------------------------------------------------

MAX_CELL_CHARACTERS: Final = 32_767
"""Excel's own limit; a longer text is cut."""
_EPOCH: Final = datetime(1899, 12, 30, tzinfo=UTC)
_SECONDS_A_DAY: Final = 86_400
_PRECISE_DIGITS: Final = 15
"""A spreadsheet's numbers are binary floats: a decimal of more digits is written as text."""
_NAMESPACE: Final = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE: Final = "http://schemas.openxmlformats.org/package/2006"
_PART: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_HEAD: Final = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_PARTS: Final = {
    "[Content_Types].xml": (
        f'<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels"'
        ' ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{_PART}.sheet.main+xml"/>'
        f'<Override PartName="/xl/styles.xml" ContentType="{_PART}.styles+xml"/>'
        '<Override PartName="/xl/worksheets/sheet1.xml"'
        f' ContentType="{_PART}.worksheet+xml"/></Types>'
    ),
    "_rels/.rels": (
        f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1"'
        f' Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>'
    ),
    "xl/workbook.xml": (
        f'<workbook xmlns="{_NAMESPACE}" xmlns:r="{_RELATIONS}"><sheets>'
        '<sheet name="Export" sheetId="1" r:id="rId1"/></sheets></workbook>'
    ),
    "xl/_rels/workbook.xml.rels": (
        f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1"'
        f' Type="{_RELATIONS}/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="rId2"'
        f' Type="{_RELATIONS}/styles" Target="styles.xml"/></Relationships>'
    ),
    # Cell formats: 0 as it is, 1 an instant, 2 a day, 3 bold.
    "xl/styles.xml": (
        f'<styleSheet xmlns="{_NAMESPACE}">'
        '<numFmts count="2"><numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd\\ hh:mm:ss"/>'
        '<numFmt numFmtId="165" formatCode="yyyy\\-mm\\-dd"/></numFmts>'
        '<fonts count="2"><font><sz val="11"/><name val="Calibri"/></font>'
        '<font><b/><sz val="11"/><name val="Calibri"/></font></fonts>'
        '<fills count="2"><fill><patternFill patternType="none"/></fill>'
        '<fill><patternFill patternType="gray125"/></fill></fills>'
        "<borders><border/></borders><cellStyleXfs><xf/></cellStyleXfs>"
        '<cellXfs count="4"><xf/><xf numFmtId="164" applyNumberFormat="1"/>'
        '<xf numFmtId="165" applyNumberFormat="1"/><xf fontId="1" applyFont="1"/></cellXfs>'
        '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles>'
        "</styleSheet>"
    ),
}
# What XML 1.0 cannot hold, and what would read as the escape that we write for it.
_UNSPEAKABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")


class XlsxWriter:
    """One sheet; instants in UTC."""

    def __init__(self, headings: Sequence[Heading]) -> None:
        self._outbox = _Outbox()
        self._zip = zipfile.ZipFile(self._outbox, "w", zipfile.ZIP_DEFLATED)
        for name, text in _PARTS.items():
            self._zip.writestr(name, _HEAD + text)
        self._sheet = self._zip.open("xl/worksheets/sheet1.xml", "w", force_zip64=True)
        titles = "".join(_xlsx_text(heading.name, ' s="3"') for heading in headings)
        self._put(
            f'{_HEAD}<worksheet xmlns="{_NAMESPACE}"><sheetViews><sheetView workbookViewId="0">'
            '<pane ySplit="1" topLeftCell="A2" state="frozen"/></sheetView></sheetViews>'
            f"<sheetData><row>{titles}</row>"
        )

    def write(self, lines: Sequence[Line]) -> bytes:
        """See `Writer`."""
        for line in lines:
            self._put(f"<row>{''.join(map(_xlsx_cell, line))}</row>")
        return self._outbox.take()

    def finish(self) -> bytes:
        """See `Writer`."""
        self._put("</sheetData></worksheet>")
        self._sheet.close()
        self._zip.close()
        return self._outbox.take()

    def _put(self, text: str) -> None:
        self._sheet.write(text.encode())


def _xlsx_cell(cell: Cell) -> str:
    match cell:
        case None:
            xml = "<c/>"
        case bool():
            xml = f'<c t="b"><v>{cell:d}</v></c>'
        case str():
            xml = _xlsx_text(cell)
        case datetime():
            days = (cell - _EPOCH).total_seconds() / _SECONDS_A_DAY
            xml = f'<c s="1"><v>{days!r}</v></c>'
        case date():
            xml = f'<c s="2"><v>{(cell - _EPOCH.date()).days}</v></c>'
        case Decimal() | int() if _is_longer_than_a_float(cell):
            xml = _xlsx_text(_digits(cell))
        case _:
            xml = f"<c><v>{_digits(cell)}</v></c>"
    return xml


def _is_longer_than_a_float(number: int | Decimal) -> bool:
    digits = str(abs(number)) if isinstance(number, int) else format(abs(number), "f")
    return len(digits.replace(".", "").strip("0")) > _PRECISE_DIGITS


def _xlsx_text(text: str, style: str = "") -> str:
    if len(text) > MAX_CELL_CHARACTERS:
        text = text[: MAX_CELL_CHARACTERS - 1] + "…"
    spoken = _UNSPEAKABLE.sub(lambda found: f"_x{ord(found[0]):04X}_", text)
    return f'<c t="inlineStr"{style}><is><t xml:space="preserve">{escape(spoken)}</t></is></c>'


# --- Parquet ----------------------------------------------------------------------------------

GROUP_LINES: Final = 20_000
"""Lines of a row group: what is held before anything is written."""
_MONEY_PLACES: Final = 18
_PARQUET_TYPES: Final = {
    Kind.TEXT: pa.string(),
    Kind.INTEGER: pa.int64(),
    Kind.NUMBER: pa.float64(),
    Kind.MONEY: pa.decimal128(38, _MONEY_PLACES),
    Kind.FLAG: pa.bool_(),
    Kind.INSTANT: pa.timestamp("us", tz="UTC"),
    Kind.DAY: pa.date32(),
}


class ParquetWriter:
    """Typed columns; money as decimals of 18 places."""

    def __init__(self, headings: Sequence[Heading]) -> None:
        self._headings = headings
        self._schema = pa.schema(
            [(heading.name, _PARQUET_TYPES[heading.kind]) for heading in headings]
        )
        self._outbox = _Outbox()
        self._file = pa.PythonFile(self._outbox, mode="w")
        self._parquet = pq.ParquetWriter(self._file, self._schema, compression="zstd")
        self._held: list[Line] = []

    def write(self, lines: Sequence[Line]) -> bytes:
        """See `Writer`."""
        self._held.extend(lines)
        if len(self._held) >= GROUP_LINES:
            self._flush()
        return self._outbox.take()

    def finish(self) -> bytes:
        """See `Writer`."""
        if self._held:
            self._flush()
        self._parquet.close()
        return self._outbox.take()

    def _flush(self) -> None:
        columns = [
            pa.array(
                [_money(line[place]) if money else line[place] for line in self._held],
                self._schema.field(place).type,
            )
            for place, money in enumerate(heading.kind is Kind.MONEY for heading in self._headings)
        ]
        self._parquet.write_batch(pa.record_batch(columns, schema=self._schema))
        self._held.clear()


def _money(cell: Cell) -> Decimal | None:
    if cell is None:
        return None
    with localcontext() as context:
        context.prec = 60
        return Decimal(str(cell)).quantize(Decimal(1).scaleb(-_MONEY_PLACES), ROUND_HALF_EVEN)
