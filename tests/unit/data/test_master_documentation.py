"""docs/master-data.md says what the code does."""

import json
import re
from pathlib import Path

from troupe.actors.data import (
    job_requests,
    master_errors,
    master_held,
    master_package,
    master_reports,
    master_rows,
    master_selection,
    master_sftp,
    master_xlsx,
)
from troupe.actors.data.master_rows import COLUMNS, forms_of
from troupe.common.connections import DATE_PARTS, UNFINISHED, SftpConfig
from troupe.common.outbound import HostNotAllowed
from troupe.common.units import DAYS, MiB
from troupe.http import uploads

TEXT = Path(__file__).parents[3].joinpath("docs", "master-data.md").read_text(encoding="utf-8")


def test_the_example_is_a_connection() -> None:
    example = re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)
    assert example is not None
    config = SftpConfig.model_validate(json.loads(example[1])["config"])
    assert [form.content for form in forms_of(config)] == ["locations", "customers"]


def test_every_column_stands_there_with_its_length() -> None:
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \| ([0-9]+) \|", TEXT, re.MULTILINE)
    told = {(name, int(length)) for names, length in rows for name in re.findall(r"[a-z_]+", names)}
    assert told == {
        (column.name, column.length) for columns in COLUMNS.values() for column in columns
    }


def test_limits_are_the_code_s() -> None:
    for number in (
        f"{master_sftp.MAX_FILE // MiB} MiB",
        f"{master_rows.MAX_ROWS:,} rows",
        f"{master_package.MAX_ENTRIES:,} parts",
        f"{master_package.MAX_UNPACKED // MiB} MiB unpacked",
        f"{master_package.MAX_RATIO} times",
        f"{master_xlsx.MAX_COLUMNS:,} columns",
        f"{master_xlsx.MAX_SHARED // MiB} MiB of shared texts",
        f"{master_sftp.MAX_LISTED:,} entries",
        f"{master_selection.MAX_MATCHES:,} matches",
        f"{master_rows.REPORTED_ERRORS:,}",
        f"newest {master_reports.KEPT_REPORTS}",
        f"{master_reports.KEPT_FOR // DAYS:.0f} days",
        f"{master_held.MAX_UPLOADS} wait",
    ):
        assert number in TEXT, number
    assert uploads.UPLOADS_AT_A_TIME == 4
    assert job_requests.IMPORT_MASTER_DATA in TEXT


def test_names_and_problems_are_the_code_s() -> None:
    for word in (*DATE_PARTS, *UNFINISHED):
        assert f"`{word}`" in TEXT
    table = TEXT[TEXT.index("## Problems") :]
    for name in re.findall(r"`([A-Z][A-Za-z]+)`", table):
        known = getattr(master_errors, name, None) or getattr(master_rows, name, None)
        assert known is not None or name == HostNotAllowed.__name__, name
