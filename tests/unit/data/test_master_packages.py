"""Workbooks that are made to hurt: each is refused with one sentence, before it has cost much."""

import io
import tracemalloc
import zipfile
from collections.abc import Callable

import pytest
import xlsxwriter

from troupe.actors.data import master_package, master_xlsx
from troupe.actors.data.master_errors import FileMalformed
from troupe.actors.data.master_xlsx import read_workbook
from troupe.common.units import KiB, MiB

MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
SHEET = "xl/worksheets/sheet1.xml"


def whole() -> io.BytesIO:
    content = io.BytesIO()
    with xlsxwriter.Workbook(content, {"in_memory": True}) as book:
        book.add_worksheet().write_row(0, 0, ["No", "Name", 3])
    return content


def replaced(part: str, data: bytes) -> io.BytesIO:
    """A workbook with another part in place of its own."""
    content = io.BytesIO()
    with (
        zipfile.ZipFile(whole()) as old,
        zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.infolist():
            new.writestr(entry.filename, data if entry.filename == part else old.read(entry))
    return content


def sheet(rows: str) -> io.BytesIO:
    text = f"<worksheet {MAIN}><sheetData>{rows}</sheetData></worksheet>"
    return replaced(SHEET, text.encode())


def read(content: io.BytesIO) -> list[list[str]]:
    return [row.cells for row in read_workbook(content, name="x.xlsx", sheet="")]


def test_a_small_archive_that_unpacks_to_much_is_refused_unread() -> None:
    bomb = replaced(SHEET, b" " * (200 * MiB))
    assert len(bomb.getvalue()) < 300 * KiB
    tracemalloc.start()
    try:
        with pytest.raises(FileMalformed, match="unpacks to more than 150 times its size"):
            read(bomb)
        assert tracemalloc.get_traced_memory()[1] < 8 * MiB
    finally:
        tracemalloc.stop()


def test_what_the_directory_declares_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master_package, "MAX_UNPACKED", 4 * KiB)
    with pytest.raises(FileMalformed, match="unpacks to more than 0 MiB"):
        read(whole())


def test_what_really_comes_out_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although the directory says that the parts are small."""
    content = replaced(SHEET, f"<worksheet {MAIN}>{' ' * (2 * MiB)}</worksheet>".encode())
    monkeypatch.setattr(master_package, "MAX_UNPACKED", 1 * MiB)
    monkeypatch.setattr(master_package.Package, "_check", lambda _: None)
    with pytest.raises(FileMalformed, match="unpacks to more than 1 MiB"):
        read(content)


def test_an_entry_that_lies_about_its_size_is_damaged() -> None:
    content = whole()
    raw = bytearray(content.getvalue())
    with zipfile.ZipFile(content) as archive:
        size = archive.getinfo(SHEET).file_size
    at = raw.rindex(SHEET.encode(), 0, len(raw)) - 46 + 24  # in the directory
    assert int.from_bytes(raw[at : at + 4], "little") == size
    raw[at : at + 4] = (size // 2).to_bytes(4, "little")
    with pytest.raises(FileMalformed, match=r"damaged|no XML"):
        read(io.BytesIO(bytes(raw)))


def test_entries_are_counted_before_they_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for number in range(master_package.MAX_ENTRIES + 1):
            archive.writestr(f"{number}", b"")
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("was opened"))
    with pytest.raises(FileMalformed, match="has more than 2000 parts"):
        read(content)


DOCTYPE = (
    '<!DOCTYPE worksheet [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY x SYSTEM "file:///etc/passwd">]>'
)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (lambda: replaced(SHEET, f"{DOCTYPE}<worksheet {MAIN}>&b;&x;</worksheet>".encode()),
         "declares a document type"),
        (lambda: replaced(SHEET, b"<worksheet>"), "is no XML"),
        (lambda: replaced(SHEET, b"\xff\xfe\x00"), "is no XML"),
        (lambda: replaced(SHEET, b"<?xml version='1.0' encoding='x-none'?><a/>"), "is no XML"),
        (lambda: replaced("xl/workbook.xml", f"<workbook {MAIN}/>".encode()), "no visible sheet"),
        (lambda: replaced("_rels/.rels", b"<Relationships/>"), "not a workbook"),
        (lambda: replaced("xl/_rels/workbook.xml.rels", b"<Relationships/>"), "no visible sheet"),
        (lambda: replaced("xl/styles.xml", b"<styleSheet><numFmts><numFmt numFmtId='x'/></numFmts>"
                          b"</styleSheet>"), "no XML"),
        (lambda: sheet('<row r="2"/><row r="1"/>'), "its rows are not in order"),
        (lambda: sheet('<row r="99999999"/>'), "its rows are not in order"),
        (lambda: sheet('<row r="1"><c r="B1"/><c r="A1"/></row>'), "its cells are not in order"),
        (lambda: sheet('<row r="1"><c r="../etc"/></row>'), "a cell has no place"),
        (lambda: sheet('<row r="1"><c t="s"><v>99</v></c></row>'), "a text that is not there"),
        (lambda: sheet('<row r="1"><c t="s"><v>-1</v></c></row>'), "a text that is not there"),
        (lambda: sheet('<row r="1"><c t="?"><v>1</v></c></row>'), "a cell is of no known kind"),
        (lambda: io.BytesIO(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 512), "protected"),
        (lambda: io.BytesIO(b"PK\x03\x04"), "no whole ZIP archive"),
        (lambda: io.BytesIO(whole().getvalue()[:-30]), "no whole ZIP archive"),
        (lambda: io.BytesIO(b""), "no whole ZIP archive"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(content: Callable[[], io.BytesIO], told: str) -> None:
    with pytest.raises(FileMalformed, match=told) as failure:
        read(content())
    assert "\n" not in str(failure.value)


def test_a_tag_without_an_end_is_not_waited_for() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(whole()) as old, zipfile.ZipFile(content, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename == SHEET:
                data = f"<worksheet {MAIN} a='{'x' * (3 * MiB)}'/>".encode()
            new.writestr(entry.filename, data)
    with pytest.raises(FileMalformed, match="has no end of a tag"):
        read(content)


def test_an_empty_cell_far_out_is_no_cell_and_a_full_one_is_a_bad_row() -> None:
    far = '<c r="XFD1" s="0"/>', '<c r="XFD2"><v>1</v></c>'
    rows = list(
        read_workbook(
            sheet(f'<row r="1"><c r="A1"><v>1</v></c>{far[0]}</row><row r="2">{far[1]}</row>'),
            name="x",
            sheet="",
        )
    )
    assert rows[0].cells == ["1"]
    assert rows[1].problem == "has a cell beyond column 1000"


def test_a_row_far_down_costs_nothing() -> None:
    rows = list(read_workbook(sheet('<row r="1048576"><c><v>1</v></c></row>'), name="x", sheet=""))
    assert [(row.line, row.cells) for row in rows] == [(1048576, ["1"])]


def test_a_text_that_is_too_long_makes_its_row_bad() -> None:
    long = "x" * (master_xlsx.MAX_TEXT + 500)
    [row] = read_workbook(
        sheet(f'<row r="1"><c t="str"><v>{long}</v></c></row>'), name="x", sheet=""
    )
    assert row.bad_cells == {0: "is longer than 32767 characters"}


def test_shared_texts_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master_xlsx, "MAX_SHARED_TEXTS", 3)
    texts = f"<sst {MAIN}>{'<si><t>x</t></si>' * 4}</sst>".encode()
    with pytest.raises(FileMalformed, match="has more than 3 texts"):
        read(replaced("xl/sharedStrings.xml", texts))


def test_how_a_text_is_pronounced_is_not_part_of_it() -> None:
    texts = f"<sst {MAIN}><si><t>東京</t><rPh sb='0' eb='2'><t>トウキョウ</t></rPh></si></sst>"
    content = replaced("xl/sharedStrings.xml", texts.encode())
    raw = f'<worksheet {MAIN}><sheetData><row><c t="s"><v>0</v></c></row></sheetData></worksheet>'
    with zipfile.ZipFile(content) as old:
        parts = {entry.filename: old.read(entry) for entry in old.infolist()}
    parts[SHEET] = raw.encode()
    both = io.BytesIO()
    with zipfile.ZipFile(both, "w") as new:
        for name, data in parts.items():
            new.writestr(name, data)
    assert read(both) == [["東京"]]


def test_a_long_sheet_is_read_in_little_memory() -> None:
    content = io.BytesIO()
    with xlsxwriter.Workbook(content, {"constant_memory": True, "in_memory": True}) as book:
        page = book.add_worksheet()
        for number in range(4_000):
            page.write_row(number, 0, [number, f"Name {number}", "x" * 50])
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_workbook(content, name="x", sheet=""))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 4_000
    assert peak < 2 * MiB  # beside the content: a piece, its rows, the copy that is looked through
