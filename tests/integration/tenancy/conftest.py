from collections.abc import Iterator

import pytest

from tests.support.postgres import MakeDatabase
from tests.support.program import Program, program


@pytest.fixture(scope="package")
def troupe(
    make_database: MakeDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    """The program, once for all tests of this directory."""
    with make_database() as database:
        with program(database, tmp_path_factory.mktemp("troupe")) as started:
            yield started
        assert "Traceback" not in started.process.text()
