"""Tables that independent writers made are read back as they were, or give row errors: the csv
module, openpyxl and XlsxWriter write, and nothing of theirs is used to read."""

import csv
import io
import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import openpyxl
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st

from troupe.actors.data.master_errors import FileMalformed
from troupe.actors.data.master_numbers import NumberFormat, number_text
from troupe.actors.data.master_rows import CheckedTable, Form, check_table
from troupe.actors.data.master_table import Row
from troupe.actors.data.master_xlsx import read_workbook

HEADERS = {"customer_id": "No", "company": "Name", "contact": "Who", "phone": "Phone"}


def form(**changes: Any) -> Form:
    values: dict[str, Any] = {
        "content": "customers",
        "file": "customers.xlsx",
        "encoding": "utf-8",
        "delimiter": ",",
        "headers": HEADERS,
        "bad_row_share": 1.0,
    }
    return Form(**values | changes)


def rows_of(table: CheckedTable) -> list[dict[str, Any]]:
    return [row for batch in table.batches for row in json.loads(batch)]


def by_openpyxl(rows: list[list[Any]], title: str = "Sheet") -> io.BytesIO:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = title
    for number, row in enumerate(rows, start=1):
        for position, value in enumerate(row, start=1):
            cell = sheet.cell(number, position)
            cell.value = value
            if isinstance(value, str):  # not a formula, whatever it begins with
                cell.data_type = "inlineStr" if number % 2 else "s"
    content = io.BytesIO()
    book.save(content)
    return content


def by_xlsxwriter(rows: list[list[Any]], **options: Any) -> io.BytesIO:
    content = io.BytesIO()
    book = xlsxwriter.Workbook(content, {"in_memory": True, **options})
    shown = book.add_format({"num_format": "dd.mm.yyyy hh:mm"})
    sheet = book.add_worksheet()
    for number, row in enumerate(rows):
        for position, value in enumerate(row):
            if isinstance(value, str):
                sheet.write_string(number, position, value)
            elif isinstance(value, datetime | date | time):
                sheet.write_datetime(number, position, value, shown)
            elif isinstance(value, bool):
                sheet.write_boolean(number, position, value)
            elif value is not None:
                sheet.write_number(number, position, value)
    book.close()
    return content


def cells_of(content: io.BytesIO, sheet: str = "") -> list[list[str]]:
    return [row.cells for row in read_workbook(content, name="x.xlsx", sheet=sheet)]


# What XML can write at all; both writers leave the rest to their users.
characters = st.characters(exclude_categories=["Cc", "Cs", "Co", "Cn"])
texts = st.text(characters, max_size=60)
numbers = st.integers(-(2**53), 2**53) | st.builds(
    lambda digits, exponent: float(f"{digits}e{exponent}"),
    st.integers(-(10**15) + 1, 10**15 - 1),
    st.integers(-60, 60),
)
instants = st.builds(  # without a zone, as in any sheet
    datetime.combine,
    st.dates(date(1900, 3, 1), date(9999, 12, 30)),
    st.times().map(lambda value: value.replace(microsecond=0)),
)
cells = st.none() | texts | numbers | instants | st.booleans()


def meaning(value: Any) -> Any:
    """What a cell must be read as."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).upper()
        case int():
            return Decimal(value)
        case float():  # both writers cut off the seventeenth digit
            return Decimal(repr(float(f"{value:.16g}")))
        case datetime():
            return value.isoformat().removesuffix("T00:00:00")
    return value


def understood(expected: Any, cell: str) -> Any:
    return Decimal(cell) if isinstance(expected, Decimal) else cell


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(cells, max_size=6), max_size=8), st.sampled_from([0, 1]))
def test_whatever_a_workbook_writer_writes_is_read_again(
    rows: list[list[Any]], writer: int
) -> None:
    content = (by_openpyxl, by_xlsxwriter)[writer](rows)
    wanted = [[meaning(value) for value in row] for row in rows]
    for row in wanted:
        while row and row[-1] == "":
            row.pop()
    wanted = [row for row in wanted if any(str(cell).strip() for cell in row)]
    read = cells_of(content)
    assert len(read) == len(wanted)
    for expected, found in zip(wanted, read, strict=True):
        assert [
            understood(want, cell) for want, cell in zip(expected, found, strict=True)
        ] == expected


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(texts | numbers | st.none(), min_size=4, max_size=4), max_size=12),
    st.sampled_from(["csv", "openpyxl", "xlsxwriter"]),
    st.sampled_from([",", ";", "\t", "|"]),
)
def test_any_table_ends_in_equal_rows_and_row_errors(
    rows: list[list[Any]], writer: str, delimiter: str
) -> None:
    table: list[list[Any]] = [list(HEADERS.values()), *rows]
    if writer == "csv":
        text = io.StringIO()
        csv.writer(text, delimiter=delimiter).writerows(table)
        content = io.BytesIO(text.getvalue().encode())
    else:
        content = {"openpyxl": by_openpyxl, "xlsxwriter": by_xlsxwriter}[writer](table)
    checked = check_table(content, form(delimiter=delimiter))
    shown = str if writer == "csv" else plainly
    wanted = [tuple("" if cell is None else shown(cell).strip() for cell in row) for row in rows]
    wanted = [row for row in wanted if any(row)]
    read = [tuple(row[name] or "" for name in HEADERS) for row in rows_of(checked)]
    left = iter(wanted)
    assert all(row in left for row in read)  # in their order, those that were taken
    assert checked.rows + checked.bad_rows == len(wanted)


def plainly(value: Any) -> str:
    """A cell as a workbook's reader must tell it, worked out in another way."""
    if isinstance(value, str):
        return value
    digits = format(meaning(value), "f")
    text = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return "0" if text == "-0" else text


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_damaged_workbook_ends_in_rows_or_in_one_sentence(
    noise: bytes, place: int, cut: int
) -> None:
    whole = by_xlsxwriter([["No", "Name"], [1, "x"], [2, "y"]]).getvalue()
    place, cut = place % len(whole), cut % len(whole)
    damaged = io.BytesIO(whole[:place] + noise + whole[place + cut :])
    told = ""
    try:
        assert all(isinstance(row, Row) for row in read_workbook(damaged, name="x.xlsx", sheet=""))
    except FileMalformed as error:
        told = str(error)
    assert "\n" not in told


@pytest.mark.parametrize(
    ("value", "shown", "read"),
    [
        (1001, "0", "1001"),
        (42, "00000", "00042"),
        (-42, "00000", "-42"),
        (123456, "0000", "123456"),
        (1234.5, "#,##0.00", "1234.5"),
        (0.1, "General", "0.1"),
        (1.1, "General", "1.1"),
        (1e21, "General", "1000000000000000000000"),
        (5e-7, "0.00E+00", "0.0000005"),
        (0.25, "0%", "0.25"),
        (45292, "dd.mm.yyyy", "2024-01-01"),
        (45292.5, "[$-407]d. mmmm yyyy", "2024-01-01T12:00:00"),
        (45292.75, 'yyyy-mm-dd"T"hh:mm:ss.000', "2024-01-01T18:00:00"),
        (0.5, "h:mm AM/PM", "12:00:00"),
        (1.5, "[h]:mm:ss", "36:00:00"),
        (59, "dd/mm/yy", "1900-02-28"),
        (61, "dd/mm/yy", "1900-03-01"),
        (7, '0 "days"', "7"),
        (7, "0\\ \\d", "7"),
        (7, "[Red]0", "7"),
    ],
)
def test_a_number_s_format_says_what_it_is(value: float, shown: str, read: str) -> None:
    content = io.BytesIO()
    book = xlsxwriter.Workbook(content, {"in_memory": True})
    book.add_worksheet().write_number(0, 0, value, book.add_format({"num_format": shown}))
    book.close()
    assert cells_of(content) == [[read]]


def test_days_may_be_counted_from_1904() -> None:
    assert cells_of(by_xlsxwriter([[date(2024, 1, 1)]], date_1904=True)) == [["2024-01-01"]]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (60, "29 February 1900"),
        (-1, "outside of the calendar"),
        (2958466, "outside of the calendar"),
    ],
)
def test_a_day_that_never_was_makes_its_row_bad(value: int, problem: str) -> None:
    content = io.BytesIO()
    book = xlsxwriter.Workbook(content, {"in_memory": True})
    sheet = book.add_worksheet()
    sheet.write_row(0, 0, ["No", "Name"])
    sheet.write_number(1, 0, value, book.add_format({"num_format": "dd.mm.yyyy"}))
    book.close()
    headers = {"customer_id": "No", "company": "Name"}
    [error] = check_table(content, form(headers=headers)).errors
    assert problem in error.message


def formulas(values: list[Any]) -> io.BytesIO:
    content = io.BytesIO()
    book = xlsxwriter.Workbook(content, {"in_memory": True})
    sheet = book.add_worksheet()
    sheet.write_row(0, 0, ["No", "Name"])
    for number, value in enumerate(values, start=1):
        sheet.write_number(number, 0, number)
        sheet.write_formula(number, 1, "=A1", None, value)
    book.close()
    return content


def test_a_formula_is_worth_what_was_worked_out() -> None:
    headers = {"customer_id": "No", "company": "Name"}
    content = formulas(["Müller", 7, True, "#N/A", ""])
    table = check_table(content, form(headers=headers))
    assert [row["company"] for row in rows_of(table)] == ["Müller", "7", "TRUE"]
    assert [str(error) for error in table.errors] == [
        "line 5, Name: holds an error of the spreadsheet",
        "line 6, Name: is a formula without a computed value",
    ]


def test_a_formula_that_nobody_has_worked_out_wipes_nothing_out() -> None:
    book = openpyxl.Workbook()
    for row in (["No", "Name"], [1, "=1+1"], [2, "x"]):
        book.active.append(row)
    content = io.BytesIO()
    book.save(content)
    table = check_table(content, form(headers={"customer_id": "No", "company": "Name"}))
    assert [row["company"] for row in rows_of(table)] == ["x"]
    assert "formula without a computed value" in table.errors[0].message


def test_the_first_visible_sheet_is_read_unless_one_is_named() -> None:
    book = openpyxl.Workbook()
    hidden, shown, other = book.active, book.create_sheet("Kunden"), book.create_sheet("Märkte")
    hidden.sheet_state = "hidden"
    for sheet in (hidden, shown, other):
        sheet["B3"] = sheet.title
    content = io.BytesIO()
    book.save(content)
    assert cells_of(content) == [["", "Kunden"]]
    assert cells_of(content, "märkte") == [["", "Märkte"]]
    assert cells_of(content, hidden.title) == [["", hidden.title]]
    with pytest.raises(FileMalformed, match="has no sheet 'Preise'"):
        cells_of(content, "Preise")


def test_lines_are_the_sheet_s_own_and_rows_may_end_early() -> None:
    content = by_openpyxl([[], ["No", "Name", "Who", "Phone"], [], ["7"], ["8", None, None, "1"]])
    rows = list(read_workbook(content, name="x", sheet=""))
    assert [row.line for row in rows] == [2, 4, 5]
    assert [row["customer_id"] for row in rows_of(check_table(content, form()))] == ["7", "8"]


def test_a_cell_beyond_the_header_makes_its_row_bad() -> None:
    content = by_openpyxl([["No", "Name", "Who", "Phone"], ["7", "a", "b", "c", "d"]])
    [error] = check_table(content, form()).errors
    assert str(error) == "line 2: has 5 cells, the header has 4"


def test_rich_and_escaped_text_is_its_characters() -> None:
    content = io.BytesIO()
    book = xlsxwriter.Workbook(content, {"in_memory": True})
    bold = book.add_format({"bold": True})
    sheet = book.add_worksheet()
    sheet.write_rich_string(0, 0, "Werk ", bold, "Nord", " 2")
    sheet.write_string(1, 0, "_x0041_ stays")
    sheet.write_string(2, 0, "=1+1")
    book.close()
    assert cells_of(content) == [["Werk Nord 2"], ["_x0041_ stays"], ["=1+1"]]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1.1000000000000001", "1.1"),  # as Excel writes it
        ("12345678901234567890", "12345678901234567890"),
        ("-0", "0"),
        ("1001.0", "1001"),
        ("1.5E3", "1500"),
        (".5", "0.5"),
    ],
)
def test_a_number_is_written_as_people_would(written: str, read: str) -> None:
    assert number_text(written, NumberFormat(), from_1904=False) == (read, None)


@pytest.mark.parametrize("written", ["1e999", "nan", "inf", "1_000", "٣", "", "1" * 500, "0x10"])
def test_what_is_no_number_makes_its_row_bad(written: str) -> None:
    text, problem = number_text(written, NumberFormat(), from_1904=False)
    assert (text, problem) == ("", "is not a number, although it says so")


def test_elapsed_time_and_time_of_day() -> None:
    content = by_openpyxl([[timedelta(hours=30), time(8, 15)]])
    assert cells_of(content) == [["30:00:00", "08:15:00"]]
