"""What is written is what readers that we have not written find."""

import csv
import io
import zipfile
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl.utils.escape import unescape

from troupe.http import export_formats
from troupe.http.export_formats import (
    Cell,
    Format,
    Heading,
    Kind,
    Line,
    XlsxWriter,
    harmless,
    new_writer,
)

HEADINGS: Final = [
    Heading("text", Kind.TEXT),
    Heading("integer", Kind.INTEGER),
    Heading("number", Kind.NUMBER),
    Heading("money", Kind.MONEY),
    Heading("flag", Kind.FLAG),
    Heading("instant", Kind.INSTANT),
    Heading("day", Kind.DAY),
]
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30) | (
    st.sampled_from(
        [
            *("=1+1", "+49 30", "-5", "@SUM(A1)", "\n=1", "\t=1", "\r=1", "\uff1d1", "\uff201"),
            *('a "b", c', "a\r\nb", "_x000D_", "<&>"),
        ]
    )
)
LINES = st.lists(
    st.tuples(
        st.none() | TEXTS,
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.floats(allow_nan=False, allow_infinity=False),
        st.none() | st.decimals(-(10**15), 10**15, places=4),
        st.none() | st.booleans(),
        st.none()
        | st.integers(0, 7_000_000_000_000_000).map(
            lambda us: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
        ),
        st.none() | st.dates(date(1970, 1, 1), date(2199, 12, 31)),
    ),
    max_size=8,
)


BEGINNINGS: Final = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def write(wanted: Format, lines: Sequence[Line], size: int = 3) -> bytes:
    writer = new_writer(wanted, HEADINGS)
    pieces = [writer.write(lines[at : at + size]) for at in range(0, len(lines), size)]
    return b"".join([*pieces, writer.finish()])


@given(LINES)
def test_csv(lines: Sequence[Line]) -> None:
    raw = write(Format.CSV, lines)
    head, *found = csv.reader(io.StringIO(raw.decode(), newline=""))
    assert head == [heading.name for heading in HEADINGS]
    assert len(found) == len(lines)
    for cells, (text, integer, number, money, flag, moment, day) in zip(found, lines, strict=True):
        assert cells[0] == ("" if text is None else harmless(str(text)))
        assert cells[1] == ("" if integer is None else str(integer))
        assert cells[2] == "" if number is None else float(cells[2]) == number
        assert cells[3] == "" if money is None else Decimal(cells[3]) == money
        assert cells[4] == {None: "", True: "true", False: "false"}[flag]  # type: ignore[index]
        assert cells[5] == "" if moment is None else datetime.fromisoformat(cells[5]) == moment
        assert cells[6] == "" if day is None else date.fromisoformat(cells[6]) == day
        assert not cells[0].startswith(BEGINNINGS)


@given(LINES)
def test_xlsx(lines: Sequence[Line]) -> None:
    book = openpyxl.load_workbook(io.BytesIO(write(Format.XLSX, lines)))
    head, *found = book.active.iter_rows()
    assert [cell.value for cell in head] == [heading.name for heading in HEADINGS]
    assert len(found) == len(lines)
    for row, line in zip(found, lines, strict=True):
        for cell, wanted in zip(row, line, strict=True):
            assert cell.data_type != "f"  # never a formula
            value = unescape(cell.value) if isinstance(cell.value, str) else cell.value
            assert same(value, wanted), (value, wanted)


def same(found: object, wanted: Cell) -> bool:
    match wanted:
        case None | "":
            equal = found in {None, ""}
        case str():
            equal = spoken(str(found)) == spoken(wanted)
        case bool():
            equal = found is wanted
        case datetime():
            assert isinstance(found, datetime)
            equal = abs(found.replace(tzinfo=UTC) - wanted) < timedelta(milliseconds=2)
        case date():
            equal = isinstance(found, datetime) and found.date() == wanted
        case Decimal() | int() if isinstance(found, str):
            equal = Decimal(found) == wanted
        case Decimal():
            equal = abs(Decimal(str(found)) - wanted) < Decimal("0.001")
        case _:
            equal = float(str(found)) == float(wanted)
    return equal


def spoken(text: str) -> str:
    """As XML reads it: line ends are one character, what it cannot hold is an escape."""
    escaped = export_formats._UNSPEAKABLE.sub(lambda hit: f"_x{ord(hit[0]):04X}_", text)
    return escaped.replace("\r\n", "\n").replace("\r", "\n")


@given(LINES)
def test_parquet(lines: Sequence[Line]) -> None:
    table = pq.read_table(pa.BufferReader(write(Format.PARQUET, lines)))
    assert table.column_names == [heading.name for heading in HEADINGS]
    found = [tuple(row.values()) for row in table.to_pylist()]
    assert found == [tuple(line) for line in lines]


@pytest.mark.parametrize("wanted", Format)
def test_what_is_written_leaves_at_once(wanted: Format) -> None:
    """Of a hundred thousand lines no more is held than a row group or a compressor's window."""
    writer = new_writer(wanted, HEADINGS[:2])
    sent = [
        len(writer.write([(f"line {number}", number) for number in range(at, at + 1000)]))
        for at in range(0, 100_000, 1000)
    ]
    rest = len(writer.finish())
    assert rest < sum(sent) / 3
    assert sum(size > 0 for size in sent) >= 4


def test_a_cell_that_excel_would_refuse_is_cut() -> None:
    writer = XlsxWriter(HEADINGS[:1])
    raw = writer.write([("x" * 40_000,)]) + writer.finish()
    cell = openpyxl.load_workbook(io.BytesIO(raw)).active["A2"].value
    assert cell == "x" * 32_766 + "…"


def test_the_package_says_what_it_is() -> None:
    """Strict readers look for these parts."""
    raw = write(Format.XLSX, [])
    with zipfile.ZipFile(io.BytesIO(raw)) as package:
        assert package.namelist()[0] == "[Content_Types].xml"
        assert package.testzip() is None
