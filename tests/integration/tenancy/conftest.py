from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.postgres import MakeDatabase
from tests.support.program import Program, program

IN_PROCESSES: Final = {
    f"TROUPE_GROUPS__{group}__PLACEMENT": "process" for group in ("AUTH", "DATA", "ANALYTICS")
}
"""No group has anything of another's in memory, so whatever holds here holds by PostgreSQL."""


@pytest.fixture(scope="package")
def troupe(
    make_database: MakeDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    """The program, once for all tests of this directory, each group in a process of its own."""
    with make_database() as database:
        with program(database, tmp_path_factory.mktemp("troupe"), IN_PROCESSES) as started:
            yield started
        assert "Traceback" not in started.process.text()
