"""What was wrong with the rows of an import, for people to mend: a CSV file to download.

A report names lines and columns and quotes no cell. The names of files and columns in it come from
elsewhere, though, and the report is opened in a spreadsheet: a text that would be taken for a
formula there gets an apostrophe in front.
"""

import csv
import io
import json
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from troupe.actors.data.master_held import QUERIES
from troupe.actors.data.master_rows import RowError
from troupe.common.database import Database
from troupe.common.ids import TenantId
from troupe.common.units import DAYS

KEPT_REPORTS: Final = 200
"""Reports of one tenant, one for each file with bad rows."""
KEPT_FOR: Final = 90 * DAYS
MAX_LINES: Final = 50_000
"""Lines of one download."""

HEADER: Final = ("file", "line", "column", "problem")
_BEGINS_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def packed_errors(errors: Sequence[RowError]) -> str:
    """Errors as they are stored."""
    return json.dumps([[error.line, error.column, error.message] for error in errors])


async def read_report(database: Database, tenant: TenantId, job_id: UUID) -> bytes:
    """The faults that a job found, as CSV in UTF-8 with the mark that spreadsheets ask for."""
    rows = await database.fetch(QUERIES["reports"], tenant, job_id, tenant=tenant, read_only=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(HEADER)
    left = MAX_LINES
    for row in rows:
        errors = json.loads(row["errors"])
        told = errors[:left]
        left -= len(told)
        for line, column, message in told:
            writer.writerow([harmless(row["path"]), line, harmless(column or ""), message])
        untold = row["errors_total"] - len(told)
        if untold:
            writer.writerow([harmless(row["path"]), "", "", f"and {untold} more that are not told"])
    return text.getvalue().encode("utf-8-sig")


def harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_BEGINS_FORMULA) else text
