"""The attachment: the same report as a spreadsheet, with all rows.

Cells are written by type, never guessed: a product that is called ``=HYPERLINK(…)`` stays a text,
because `write_string` never makes a formula. The same content gives the same bytes: the workbook is
dated by its period, not by the clock.
"""

import io
import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final

import xlsxwriter

from troupe.actors.analytics.metrics import Unit
from troupe.actors.analytics.reports.content import Cell, Money, Phrase, ReportContent, TaskTable
from troupe.actors.analytics.reports.wording import Wording

MEDIA_TYPE: Final = ("application", "vnd.openxmlformats-officedocument.spreadsheetml.sheet")
_LONGEST_CELL: Final = 32_767
_LARGEST_NUMBER: Final = Decimal(10) ** 300
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
_FORMATS: Final = {
    Unit.MONEY: "#,##0.00",
    Unit.RATIO: "0.0%",
    Unit.COUNT: "#,##0",
}


def write_workbook(content: ReportContent, words: Wording) -> bytes:
    """The workbook's bytes. Blocks: call it in a thread."""
    book = _Book(content, words)
    _figures(book, content, words)
    _days(book, content, words)
    for table in content.tasks:
        _tasks(book, table, words)
    return book.close()


def _figures(book: "_Book", content: ReportContent, words: Wording) -> None:
    heads = [words.say(key) for key in ("sheet.metric", "sheet.value", "before", "change")]
    sheet = book.sheet(words.say("sheet.figures"), heads)
    for row, line in enumerate(content.figures, start=1):
        book.put(sheet, row, 0, words.title(line.name, line.title), None)
        book.put(sheet, row, 1, line.value, line.unit)
        book.put(sheet, row, 2, line.before, line.unit)
        book.put(sheet, row, 3, line.change, Unit.RATIO)


def _days(book: "_Book", content: ReportContent, words: Wording) -> None:
    heads = [words.say("sheet.day"), words.title("gross_revenue", "Revenue"), words.say("before")]
    sheet = book.sheet(words.say("sheet.days"), heads)
    for row, day in enumerate(content.days, start=1):
        book.put(sheet, row, 0, day.day, None)
        book.put(sheet, row, 1, day.value, Unit.MONEY)
        book.put(sheet, row, 2, day.before, Unit.MONEY)


def _tasks(book: "_Book", table: TaskTable, words: Wording) -> None:
    fields = [(index, one) for index, one in enumerate(table.columns) if one.in_workbook]
    sheet = book.sheet(words.phrase(table.title), [words.phrase(one.title) for _, one in fields])
    for row, cells in enumerate(table.rows, start=1):
        for column, (index, field) in enumerate(fields):
            book.put(sheet, row, column, cells[index], field.unit)


class _Book:
    """A workbook that is being written.

    Args:
        content: What it is about.
        words: The reader's language.
    """

    def __init__(self, content: ReportContent, words: Wording) -> None:
        self._target = io.BytesIO()
        self._words = words
        options = {
            "in_memory": True,
            "strings_to_formulas": False,
            "strings_to_urls": False,
            "strings_to_numbers": False,
            "nan_inf_to_errors": True,
        }
        self._book = xlsxwriter.Workbook(self._target, options)
        made = datetime.combine(content.subject.days.end, time(), UTC).replace(tzinfo=None)
        self._book.set_properties(
            {
                "title": words.headline(content.subject.period, content.branch),
                "author": content.tenant_name,
                "created": made,
            }
        )
        self._formats = {
            unit: self._book.add_format({"num_format": text}) for unit, text in _FORMATS.items()
        }
        self._currencies: dict[str, Any] = {}
        self._dated = self._book.add_format({"num_format": "yyyy-mm-dd"})
        self._timed = self._book.add_format({"num_format": "yyyy-mm-dd hh:mm"})
        self._bold = self._book.add_format({"bold": True})

    def sheet(self, title: str, heads: list[str]) -> Any:
        """One more sheet with a row of headings."""
        sheet = self._book.add_worksheet(_sheet_name(title, self._book))
        for column, head in enumerate(heads):
            sheet.write_string(0, column, _text(head), self._bold)
        sheet.freeze_panes(1, 0)
        sheet.set_column(0, max(len(heads) - 1, 0), 18)
        return sheet

    def put(self, sheet: Any, row: int, column: int, cell: Cell, unit: Unit | None) -> None:
        """Write one cell by its type."""
        match cell:
            case None:
                sheet.write_blank(row, column, None)
            case Decimal() | int():
                self._number(sheet, row, column, Decimal(cell), self._formats[unit or Unit.COUNT])
            case Money():
                self._number(sheet, row, column, cell.amount, self._money(cell.currency))
            case Phrase():
                sheet.write_string(row, column, _text(self._words.phrase(cell)))
            case datetime():
                sheet.write_datetime(row, column, cell, self._timed)
            case date():
                at = datetime.combine(cell, time())
                sheet.write_datetime(row, column, at, self._dated)
            case _:
                sheet.write_string(row, column, _text(cell))

    def _money(self, currency: str) -> Any:
        """How amounts of a currency are shown; what is no code of one is left out."""
        if not _CURRENCY.fullmatch(currency):
            return self._formats[Unit.MONEY]
        if currency not in self._currencies:
            shown = {"num_format": f'{_FORMATS[Unit.MONEY]} "{currency}"'}
            self._currencies[currency] = self._book.add_format(shown)
        return self._currencies[currency]

    def _number(self, sheet: Any, row: int, column: int, value: Decimal, shown: Any) -> None:
        if abs(value) < _LARGEST_NUMBER:
            sheet.write_number(row, column, float(value), shown)
        else:
            sheet.write_string(row, column, _text(str(value)))

    def close(self) -> bytes:
        """The workbook's bytes."""
        self._book.close()
        return self._target.getvalue()


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
