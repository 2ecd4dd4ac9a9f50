"""Rows of a workbook (XLSX), read as a stream and without loss.

A cell becomes the text that the same cell would have in a CSV file that its owner exports, as far
as that can be had without losing something:

- A number is what people would write: ``1001`` and not ``1001.0``, ``1.1`` where the file says
  ``1.1000000000000001``, and twenty digits if there are twenty. One that is shown as ``00042``, by
  a format of nothing but zeros, is ``00042``, because that is the id that its owner sees.
- Dates and times are written as ISO 8601, whichever way the sheet shows them; both of Excel's
  epochs are known, and so is its 29 February 1900.
- Of a formula counts the value that the program which saved the file has worked out. Nothing is
  computed here. A formula without such a value makes its row bad: to read it as an empty cell would
  wipe out what is known.
- A cell with an error (``#N/A``) makes its row bad.

What a cell cannot say is a fault of its row (`Row.bad_cells`), what makes the whole file doubtful
is `FileMalformed`. The limits of the archive are in master_package.py; here shared texts, cells and
columns are bounded. A row is handed on as soon as it ends, so a sheet is never held as a whole.

Rejected: openpyxl and calamine. The first reads numbers as floats, cannot tell a formula without
value from an empty cell, unpacks without limit and quotes cells in its warnings; the second holds
the sheet as a whole. Both serve as independent writer and judge in the tests where they can.
"""

import io
import re
from collections import deque
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from troupe.actors.data.master_errors import FileMalformed
from troupe.actors.data.master_numbers import NumberFormat, format_of, number_text, own_formats
from troupe.actors.data.master_package import (
    MAX_UNPACKED,
    Package,
    local,
    new_parser,
    relationships,
)
from troupe.actors.data.master_table import Row
from troupe.common.units import MiB

MAX_COLUMNS: Final = 1000
MAX_SHEET_ROWS: Final = 1_048_576
"""What the format allows."""
MAX_TEXT: Final = 32_767
"""Characters of a cell; what the format allows."""
MAX_SHARED: Final = 64 * MiB
"""Bytes of the part that holds the texts which cells share; they are all in memory."""
MAX_SHARED_TEXTS: Final = 2_000_000

_REFERENCE: Final = re.compile(r"([A-Za-z]{1,3})([0-9]{1,7})")
_ESCAPED: Final = re.compile(r"_x([0-9A-Fa-f]{4})_")
_TRUTHS: Final = {"0": "FALSE", "1": "TRUE", "false": "FALSE", "true": "TRUE"}


def read_workbook(content: io.BytesIO, *, name: str, sheet: str) -> Generator[Row]:
    """The rows of one sheet, its header among them, one after the other; close it after use.

    Args:
        content: The whole file.
        name: Of the file, for the messages.
        sheet: Title of the sheet; empty: the first one that is visible.

    Raises:
        FileMalformed: Nothing behind this point can be trusted.
    """
    with closing(Package(content, name)) as package:
        book = _Book(package)
        part = book.part_of(sheet)
        texts = book.shared_texts()
        cells = _Sheet(name, texts, book.formats(), from_1904=book.from_1904)
        for _ in package.feed(part, cells.parser, MAX_UNPACKED):
            while cells.rows:
                yield cells.rows.popleft()


class _Book:
    """Where things are in a workbook."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self.from_1904 = False
        self._sheets: list[tuple[str, str, bool]] = []  # title, relationship, visible
        found = relationships(package, "").values()
        targets = [target for kind, target in found if kind == "officeDocument"]
        if not targets:
            raise package.malformed("is an archive, but not a workbook")
        self._part = targets[0]
        self._related = relationships(package, self._part)
        parser = new_parser()
        parser.StartElementHandler = self._start
        package.read(self._part, parser)

    def _start(self, element: str, attributes: dict[str, str]) -> None:
        match local(element):
            case "workbookPr":
                self.from_1904 = attributes.get("date1904") in {"1", "true"}
            case "sheet":
                related = next((attributes[key] for key in attributes if key.endswith(" id")), "")
                visible = attributes.get("state", "visible") == "visible"
                self._sheets.append((attributes.get("name", ""), related, visible))

    def part_of(self, title: str) -> str:
        """The part that holds a sheet."""
        for name, related, visible in self._sheets:
            kind, target = self._related.get(related, ("", ""))
            wanted = name.casefold() == title.strip().casefold() if title else visible
            if wanted and kind == "worksheet":
                return target
        what = f"has no sheet {title!r}" if title else "has no visible sheet"
        raise self._package.malformed(what)

    def shared_texts(self) -> list[str]:
        """The texts that cells share, by their number."""
        part = self._first("sharedStrings")
        if part is None:
            return []
        collector = _Texts(self._package)
        self._package.read(part, collector.parser, MAX_SHARED)
        return collector.texts

    def formats(self) -> list[NumberFormat]:
        """How numbers are shown, by the number of the cell's style."""
        part = self._first("styles")
        if part is None:
            return []
        codes: dict[int, str] = {}
        styles: list[int] = []
        within = False

        def start(element: str, attributes: dict[str, str]) -> None:
            nonlocal within
            match local(element):
                case "numFmt":
                    codes[int(attributes["numFmtId"])] = attributes.get("formatCode", "")
                case "cellXfs":
                    within = True
                case "xf" if within:
                    styles.append(int(attributes.get("numFmtId", "0")))

        def end(element: str) -> None:
            nonlocal within
            if local(element) == "cellXfs":
                within = False

        parser = new_parser()
        parser.StartElementHandler = start
        parser.EndElementHandler = end
        self._package.read(part, parser)
        known = own_formats(codes)
        return [format_of(number, known) for number in styles]

    def _first(self, kind: str) -> str | None:
        return next((target for found, target in self._related.values() if found == kind), None)


class _Text:
    """Collects the characters of one text, none of them twice and not too many."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0
        self.within = False
        self.phonetic = False  # how a text is pronounced stands beside it, in elements of its kind

    def begin(self) -> None:
        self._pieces.clear()
        self._length = 0

    def add(self, data: str) -> None:
        if self.within and not self.phonetic:
            # One more than allowed, so that it is seen to be too long.
            self._pieces.append(data[: MAX_TEXT + 1 - self._length])
            self._length += len(self._pieces[-1])

    @property
    def value(self) -> str:
        return "".join(self._pieces)


class _Texts:
    """The part of the shared texts."""

    def __init__(self, package: Package) -> None:
        self.texts: list[str] = []
        self._package = package
        self._text = _Text()
        self.parser = new_parser()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text.add

    def _start(self, element: str, _attributes: dict[str, str]) -> None:
        match local(element):
            case "si":
                self._text.begin()
            case "t":
                self._text.within = True
            case "rPh":
                self._text.phonetic = True

    def _end(self, element: str) -> None:
        match local(element):
            case "t":
                self._text.within = False
            case "rPh":
                self._text.phonetic = False
            case "si":
                if len(self.texts) >= MAX_SHARED_TEXTS:
                    raise self._package.malformed(f"has more than {MAX_SHARED_TEXTS} texts")
                self.texts.append(unescaped(self._text.value))


@dataclass(slots=True)
class _Cell:
    """The cell that is being read."""

    column: int
    kind: str
    style: int
    is_formula: bool = False
    has_value: bool = False
    inline: str = field(default="")


class _Sheet:
    """The part of one sheet; rows that have ended are in `rows`."""

    def __init__(
        self, name: str, texts: list[str], formats: list[NumberFormat], *, from_1904: bool
    ) -> None:
        self.rows: deque[Row] = deque()
        self._name = name
        self._texts = texts
        self._formats = formats
        self._from_1904 = from_1904
        self._number = 0
        self._cells: list[str] = []
        self._bad: dict[int, str] = {}
        self._problem: str | None = None
        self._position = 0
        self._cell: _Cell | None = None
        self._text = _Text()
        self._in_row = False
        self.parser = new_parser()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text.add

    def _start(self, element: str, attributes: dict[str, str]) -> None:
        match local(element):
            case "row":
                self._begin_row(attributes.get("r"))
            case "c" if self._in_row:
                column = self._column_of(attributes.get("r"))
                self._position = column + 1
                self._cell = _Cell(column, attributes.get("t", "n"), _style(attributes.get("s")))
                self._text.begin()
            case "f" if self._cell is not None:
                self._cell.is_formula = True
            case "v" | "t" if self._cell is not None:
                self._text.within = True
                self._cell.has_value = True
            case "rPh":
                self._text.phonetic = True

    def _end(self, element: str) -> None:
        match local(element):
            case "v" | "t":
                self._text.within = False
            case "rPh":
                self._text.phonetic = False
            case "c" if self._cell is not None:
                self._take(self._cell)
                self._cell = None
            case "row" if self._in_row:
                self._in_row = False
                if self._bad or self._problem or any(cell.strip() for cell in self._cells):
                    self.rows.append(Row(self._number, 1, self._cells, self._problem, self._bad))

    def _begin_row(self, reference: str | None) -> None:
        number = self._number + 1 if reference is None else _whole(reference)
        if not self._number < number <= MAX_SHEET_ROWS:
            raise self._damaged("its rows are not in order")
        self._number = number
        self._cells, self._bad, self._problem = [], {}, None
        self._position = 0
        self._in_row = True

    def _column_of(self, reference: str | None) -> int:
        if reference is None:
            return self._position
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            raise self._damaged("a cell has no place")
        column = 0
        for letter in match[1].upper():
            column = column * 26 + ord(letter) - ord("A") + 1
        if column - 1 < self._position:
            raise self._damaged("its cells are not in order")
        return column - 1

    def _take(self, cell: _Cell) -> None:
        value, problem = self._value_of(cell)
        if not value and problem is None:
            return
        if cell.column >= MAX_COLUMNS:
            self._problem = f"has a cell beyond column {MAX_COLUMNS}"
            return
        self._cells += [""] * (cell.column - len(self._cells) + 1)
        self._cells[cell.column] = value
        if problem is not None:
            self._bad[cell.column] = problem

    def _value_of(self, cell: _Cell) -> tuple[str, str | None]:
        """A cell's text, and why it has none."""
        text = self._text.value
        if not cell.has_value or (text == "" and cell.kind not in {"s", "str", "inlineStr"}):
            return "", "is a formula without a computed value" if cell.is_formula else None
        if len(text) > MAX_TEXT:
            return "", f"is longer than {MAX_TEXT} characters"
        return self._converted(cell, text)

    def _converted(self, cell: _Cell, text: str) -> tuple[str, str | None]:
        problem = None
        match cell.kind:
            case "s":
                text = self._shared(text)
            case "str" | "inlineStr":
                text = unescaped(text)
            case "b":
                text = _TRUTHS.get(text.strip(), "")
            case "e":
                text, problem = "", "holds an error of the spreadsheet"
            case "d":
                text = text.strip()
            case "n":
                shown = self._formats[cell.style] if cell.style < len(self._formats) else None
                text, problem = number_text(
                    text.strip(), shown or NumberFormat(), from_1904=self._from_1904
                )
            case _:
                raise self._damaged("a cell is of no known kind")
        return text, problem

    def _shared(self, text: str) -> str:
        number = _whole(text.strip())
        if not 0 <= number < len(self._texts):
            raise self._damaged("a cell names a text that is not there")
        return self._texts[number]

    def _damaged(self, what: str) -> FileMalformed:
        return FileMalformed(f"{self._name} is damaged near row {self._number}: {what}.")


def unescaped(text: str) -> str:
    """A text with the characters that the format writes as ``_x000D_``."""
    if "_x" not in text:
        return text
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)


def _whole(text: str) -> int:
    """A small whole number, or -1."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else -1


def _style(text: str | None) -> int:
    return 0 if text is None else max(_whole(text), 0)
