"""The attachment: the same report as a spreadsheet, with all rows.

Cells are written by type, never guessed: a product that is called ``=HYPERLINK(…)`` stays a text,
because `write_string` never makes a formula. The same content gives the same bytes: the workbook is
dated by its period, not by the clock.
"""

import io
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final

import xlsxwriter

from troupe.actors.analytics.metrics import Unit
from troupe.actors.analytics.reports.content import Cell, ReportContent
from troupe.actors.analytics.reports.wording import Wording

MEDIA_TYPE: Final = ("application", "vnd.openxmlformats-officedocument.spreadsheetml.sheet")
_LONGEST_CELL: Final = 32_767
_LARGEST_NUMBER: Final = Decimal(10) ** 300
_FORMATS: Final = {
    Unit.MONEY: "#,##0.00",
    Unit.RATIO: "0.0%",
    Unit.COUNT: "#,##0",
}


def write_workbook(content: ReportContent, words: Wording) -> bytes:
    """The workbook's bytes. Blocks: call it in a thread."""
    target = io.BytesIO()
    options = {
        "in_memory": True,
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
        "nan_inf_to_errors": True,
    }
    book = xlsxwriter.Workbook(target, options)
    made = datetime.combine(content.subject.days.end, time(), UTC).replace(tzinfo=None)
    book.set_properties(
        {
            "title": words.headline(content.subject.period, content.branch),
            "author": content.tenant_name,
            "created": made,
        }
    )
    formats = {unit: book.add_format({"num_format": text}) for unit, text in _FORMATS.items()}
    dated = book.add_format({"num_format": "yyyy-mm-dd"})
    bold = book.add_format({"bold": True})

    def put(sheet: Any, row: int, column: int, cell: Cell, unit: Unit | None) -> None:
        match cell:
            case None:
                sheet.write_blank(row, column, None)
            case Decimal() | int() if abs(cell) < _LARGEST_NUMBER:
                sheet.write_number(row, column, float(cell), formats[unit or Unit.COUNT])
            case date():
                at = datetime.combine(cell, time())
                sheet.write_datetime(row, column, at, dated)
            case _:
                sheet.write_string(row, column, _text(str(cell)))

    def sheet_of(title: str, heads: list[str]) -> Any:
        sheet = book.add_worksheet(_sheet_name(title, book))
        for column, head in enumerate(heads):
            sheet.write_string(0, column, _text(head), bold)
        sheet.freeze_panes(1, 0)
        sheet.set_column(0, max(len(heads) - 1, 0), 18)
        return sheet

    figures = sheet_of(
        words.say("sheet.figures"),
        [
            words.say("sheet.metric"),
            words.say("sheet.value"),
            words.say("before"),
            words.say("change"),
        ],
    )
    for row, line in enumerate(content.figures, start=1):
        put(figures, row, 0, words.title(line.name, line.title), None)
        put(figures, row, 1, line.value, line.unit)
        put(figures, row, 2, line.before, line.unit)
        put(figures, row, 3, line.change, Unit.RATIO)
    days = sheet_of(
        words.say("sheet.days"),
        [words.say("sheet.day"), words.title("gross_revenue", "Revenue"), words.say("before")],
    )
    for row, day in enumerate(content.days, start=1):
        put(days, row, 0, day.day, None)
        put(days, row, 1, day.value, Unit.MONEY)
        put(days, row, 2, day.before, Unit.MONEY)
    for table in content.tasks:
        sheet = sheet_of(
            table.titles[words.language],
            [column.titles[words.language] for column in table.columns],
        )
        for number, cells in enumerate(table.rows, start=1):
            for column, (cell, field) in enumerate(zip(cells, table.columns, strict=True)):
                put(sheet, number, column, cell, field.unit)
    book.close()
    return target.getvalue()


def _text(value: str) -> str:
    """What a cell can hold."""
    return value[:_LONGEST_CELL]


def _sheet_name(title: str, book: Any) -> str:
    """A title that a sheet may have, and no other sheet of the book has."""
    plain = "".join("_" if sign in "[]:*?/\\'" else sign for sign in title)[:28] or "_"
    taken = {sheet.get_name().casefold() for sheet in book.worksheets()}
    name, number = plain, 2
    while name.casefold() in taken:
        name, number = f"{plain} {number}", number + 1
    return name
