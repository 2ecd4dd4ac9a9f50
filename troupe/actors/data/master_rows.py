"""Rows of master data, checked one by one, ready to be written.

A row is bad for its own faults only; the others of the file are taken. With more than a tolerated
share of bad rows it is the file that is wrong (another export, another encoding, columns shifted),
and nothing of it is taken.

The file is a text (CSV) or a workbook (XLSX); what either makes of a cell is told in master_csv.py
and master_xlsx.py, and from here on there is no difference.

Cells stay text. What a spreadsheet would call a formula (``=1+1``, ``+49 40 1234``) is a name or a
number like any other here; whoever writes a spreadsheet must write it as text.

Checked rows are kept as JSON in UTF-8, some thousand to a batch, the form in which PostgreSQL takes
them: a tenth of what the same rows take as Python objects.
"""

import io
import json
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Final, Literal

from troupe.actors.data.master_csv import read_rows
from troupe.actors.data.master_errors import FileMalformed
from troupe.actors.data.master_package import is_archive
from troupe.actors.data.master_table import Row
from troupe.actors.data.master_xlsx import read_workbook
from troupe.common.connections import DEFAULT_BAD_ROW_SHARE, SftpConfig

Content = Literal["locations", "customers"]

MAX_ROWS: Final = 500_000
BATCH_ROWS: Final = 1000
REPORTED_ERRORS: Final = 10_000
"""Faults of one file that are told one by one."""

_UNWANTED: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters, line breaks among them
    "\u2028\u2029"  # line and paragraph separators
    "\u202a-\u202e\u2066-\u2069]"  # turn the direction of text, and so deceive who reads it
)
_UNDECODED: Final = re.compile("[\ud800-\udfff]")
_ADDRESS: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@([^\W_]([\w-]{0,61}[^\W_])?\.)+[^\W\d_][\w-]{0,61}[^\W_]"
)


@dataclass(frozen=True, slots=True)
class Column:
    """One of our columns.

    Attributes:
        name: In the database and in the configuration.
        length: Characters that it may have.
        required: Whether it must not be empty.
        address: Whether it must be an e-mail address.
    """

    name: str
    length: int
    required: bool = False
    address: bool = False


COLUMNS: Final[Mapping[Content, tuple[Column, ...]]] = {
    "locations": (
        Column("location_id", 100, required=True),
        Column("name", 200, required=True),
        Column("city", 200),
        Column("email", 254, address=True),
        Column("manager", 200),
    ),
    "customers": (
        Column("customer_id", 100, required=True),
        Column("company", 300),
        Column("contact", 200),
        Column("email", 254, address=True),
        Column("phone", 50),
        Column("location_id", 100),
        Column("city", 200),
    ),
}
"""What a file of each kind may give; the first column is the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a file is agreed to be like.

    Attributes:
        content: What it is about.
        file: Where it lies, as configured.
        encoding: How it writes characters.
        delimiter: What stands between its cells.
        headers: Our columns to its headers; columns that are not here stay empty.
        bad_row_share: Largest share of bad rows with which it is taken.
        take: Of several files that match: the newest, or all.
        format: What kind of file it is; ``auto`` looks at how it begins.
        sheet: Title of a workbook's sheet; empty: the first that is visible.
        lenient: Whether columns that may be empty may be missing as well.
    """

    content: Content
    file: str
    encoding: str
    delimiter: str
    headers: Mapping[str, str]
    bad_row_share: float
    take: Literal["newest", "all"] = "newest"
    format: Literal["auto", "csv", "xlsx"] = "auto"
    sheet: str = ""
    lenient: bool = False

    @property
    def name(self) -> str:
        """Of the file, for messages."""
        return PurePosixPath(self.file).name

    def of_file(self, file: str) -> "Form":
        """The form for one of the files that the configured name stands for."""
        return replace(self, file=file)


def forms_of(config: SftpConfig) -> list[Form]:
    """The files that a connection names, and what each is agreed to be like.

    Locations come first, so that a customer's branch has its name when the customer comes.
    """
    contents: tuple[Content, ...] = ("locations", "customers")
    return [form for content in contents if (form := _form_in(config, content)) is not None]


def form_of_upload(content: Content, config: SftpConfig | None) -> Form:
    """What an uploaded file is agreed to be like: as the server's, or headed by our own names."""
    agreed = None if config is None else _form_in(config, content)
    if agreed is not None:
        return replace(agreed, take="newest")
    return Form(
        content=content,
        file=f"{content}.csv",
        encoding="utf-8" if config is None else config.encoding,
        delimiter="," if config is None else config.delimiter,
        headers={column.name: column.name for column in COLUMNS[content]},
        bad_row_share=DEFAULT_BAD_ROW_SHARE if config is None else config.bad_row_share,
        lenient=True,
    )


def _form_in(config: SftpConfig, content: Content) -> Form | None:
    agreed = config.locations if content == "locations" else config.customers
    if agreed is None:
        return None
    return Form(
        content=content,
        file=agreed.file,
        encoding=config.encoding,
        delimiter=config.delimiter,
        headers=agreed.columns.model_dump(exclude_none=True),
        bad_row_share=config.bad_row_share,
        take=agreed.take,
        format=agreed.format,
        sheet=agreed.sheet,
    )


@dataclass(frozen=True, slots=True)
class RowError:
    """What is wrong with a row. The cell itself is not told: it may be anybody's data.

    Attributes:
        line: Where the row begins.
        column: The file's header of the cell; None for the row as a whole.
        message: Continues "the cell …" or "the row …".
    """

    line: int
    column: str | None
    message: str

    def __str__(self) -> str:
        where = f"line {self.line}" if self.column is None else f"line {self.line}, {self.column}"
        return f"{where}: {self.message}"


class TooManyBadRows(FileMalformed):
    """More rows are bad than the tenant tolerates.

    Args:
        message: One sentence.
        table: What was found.
    """

    def __init__(self, message: str, table: "CheckedTable") -> None:
        super().__init__(message)
        self.table = table


@dataclass(slots=True)
class CheckedTable:
    """What a file holds.

    Attributes:
        rows: Good ones.
        bad_rows: The others; one that is spread over several lines counts for each of them, since
            an open quote swallows rows.
        errors: The first of them, `REPORTED_ERRORS` at most.
        errors_total: How many there are.
        batches: The good rows as JSON arrays of objects.
    """

    rows: int = 0
    bad_rows: int = 0
    errors: list[RowError] = field(default_factory=list)
    errors_total: int = 0
    batches: list[bytes] = field(default_factory=list)

    def note(self, errors: list[RowError], lines: int) -> None:
        """Count one bad row."""
        self.bad_rows += lines
        self.errors_total += len(errors)
        self.errors += errors[: REPORTED_ERRORS - len(self.errors)]


def check_table(content: io.BytesIO, form: Form) -> CheckedTable:
    """Read and check a whole file; for a thread.

    Raises:
        FileMalformed: The file as a whole cannot be used.
        TooManyBadRows: Too many of its rows cannot.
    """
    table = CheckedTable()
    batch: list[dict[str, str | None]] = []
    with closing(_rows_of(content, form)) as rows:
        header = next(rows, None)
        if header is None:
            raise FileMalformed(f"{form.name} is empty.")
        for found in _Reader(header, form).read(rows, table):
            batch.append(found)
            if len(batch) == BATCH_ROWS:
                table.batches.append(_packed(batch))
                batch.clear()
    if batch:
        table.batches.append(_packed(batch))
    if table.bad_rows > form.bad_row_share * (table.rows + table.bad_rows):
        raise TooManyBadRows(
            f"{form.name}: {table.bad_rows} of {table.rows + table.bad_rows} rows are bad, more"
            f" than {form.bad_row_share:.0%}; the first: {table.errors[0]}.",
            table,
        )
    return table


def _rows_of(content: io.BytesIO, form: Form) -> Generator[Row]:
    is_workbook = form.format == "xlsx" or (form.format == "auto" and is_archive(content))
    if not is_workbook:
        return read_rows(content, name=form.name, encoding=form.encoding, delimiter=form.delimiter)
    return _filled_up(read_workbook(content, name=form.name, sheet=form.sheet))


def _filled_up(rows: Generator[Row]) -> Generator[Row]:
    """The rows of a sheet, which end at their last cell, as wide as the first of them."""
    with closing(rows):
        width = None
        for row in rows:
            width = len(row.cells) if width is None else width
            row.cells.extend([""] * (width - len(row.cells)))
            yield row


def _packed(batch: list[dict[str, str | None]]) -> bytes:
    return json.dumps(batch, ensure_ascii=False, separators=(",", ":")).encode()


class _Reader:
    """Takes the mapped cells out of rows."""

    def __init__(self, header: Row, form: Form) -> None:
        if header.problem is not None:
            raise FileMalformed(f"{form.name}: line {header.line} {header.problem}.")
        self._form = form
        self._width = len(header.cells)
        names = [cell.strip().casefold() for cell in header.cells]
        self._columns: list[tuple[Column, str, int]] = []
        missing = []
        for column in COLUMNS[form.content]:
            title = form.headers.get(column.name)
            if title is None:
                continue
            match names.count(title.strip().casefold()):
                case 0:
                    if column.required or not form.lenient:
                        missing.append(title)
                case 1:
                    position = names.index(title.strip().casefold())
                    self._columns.append((column, title, position))
                case _:
                    raise FileMalformed(f"{form.name} has the header {title!r} more than once.")
        if missing:
            raise FileMalformed(
                f"{form.name} lacks the header {', '.join(map(repr, missing))}; check the"
                " delimiter, the encoding and the headers that the connection names."
            )
        self._seen: dict[str, int] = {}

    def read(self, rows: Iterator[Row], table: CheckedTable) -> Iterator[dict[str, str | None]]:
        for row in rows:
            values: dict[str, str | None] = {}
            errors = self._take(row, values)
            if errors:
                table.note(errors, row.lines)
                continue
            table.rows += 1
            if table.rows > MAX_ROWS:
                raise FileMalformed(f"{self._form.name} has more than {MAX_ROWS} rows.")
            yield values

    def _take(self, row: Row, values: dict[str, str | None]) -> list[RowError]:
        if row.problem is not None:
            return [RowError(row.line, None, row.problem)]
        cells = row.cells
        if len(cells) < self._width or any(cell.strip() for cell in cells[self._width :]):
            message = f"has {len(cells)} cells, the header has {self._width}"
            return [RowError(row.line, None, message)]
        errors = []
        for column, title, position in self._columns:
            value = cells[position].strip()
            problem = row.bad_cells.get(position) or _problem(column, value)
            if problem is not None:
                errors.append(RowError(row.line, title, problem))
            values[column.name] = value or None
        if not errors:
            key, title, _ = self._columns[0]
            first = self._seen.setdefault(values[key.name] or "", row.line)
            if first != row.line:
                errors.append(RowError(row.line, title, f"stands on line {first} already"))
        return errors


def _problem(column: Column, value: str) -> str | None:
    """Why a cell cannot be taken, or None."""
    if not value:
        return "is empty" if column.required else None
    if len(value) > column.length:
        return f"is longer than {column.length} characters"
    if _UNDECODED.search(value):
        return "is not in the file's encoding"
    if _UNWANTED.search(value):
        return "holds a control character"
    if column.address and not _ADDRESS.fullmatch(value):
        return "is not one plain e-mail address"
    return None
