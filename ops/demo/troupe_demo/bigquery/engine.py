"""Running queries: one DuckDB for all, results spilled to Arrow files.

A result is written to a file batch by batch while DuckDB produces it, and served from the file
after that, so that memory holds a batch however large the result is. DuckDB itself is bounded and
spills into the same temporary directory (``workspace``).
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from troupe.common.sql import load
from troupe.common.units import SECONDS, MiB
from troupe_demo.bigquery.catalogue import Catalogue, Snapshot
from troupe_demo.bigquery.errors import BigQueryError
from troupe_demo.bigquery.results import Result, ResultWriter
from troupe_demo.bigquery.sql import Program, compile_program
from troupe_demo.bigquery.types import arrow_schema
from troupe_demo.bigquery.workspace import Workspace

_MEMORY = 768 * MiB  # DuckDB's own; sorting and grouping beyond it spill
_THREADS = 2
INTERRUPT_AGAIN = 0.05 * SECONDS
BATCH_ROWS = 8_192
_SETTINGS = (
    "SET GLOBAL TimeZone = 'UTC'",
    # Parquet's statistics say nothing of NaN. DuckDB 2.0 concludes from a finite minimum and
    # maximum that isnan() is false, and is wrong.
    "SET GLOBAL disabled_optimizers = 'statistics_propagation'",
    # The macros of the prelude nest deeply; this bounds the recursion, not the work.
    "SET GLOBAL max_expression_depth = 5000",
)

_PREFIXES = (
    "Invalid Input Error: ",
    "Conversion Error: ",
    "Out of Range Error: ",
    "Binder Error: ",
    "Parser Error: ",
    "Catalog Error: ",
    "Not implemented Error: ",
)


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """What a query job or a dry run asks for."""

    project: str
    sql: str
    dataset: str | None
    parameters: list[dict[str, Any]]


class Engine:
    """DuckDB, the catalogue and the temporary directory."""

    def __init__(self, root: Path) -> None:
        self.catalogue = Catalogue(root)
        self.workspace = Workspace(root)
        self._lock = threading.Lock()
        self._cursors = 0
        self._duck = duckdb.connect(
            config={
                "threads": _THREADS,
                "memory_limit": f"{_MEMORY // MiB}MiB",
                "temp_directory": str(self.workspace.directory / "spill"),
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
            }
        )
        for setting in _SETTINGS:
            self._duck.execute(setting)
        for statement in load("troupe_demo.bigquery.sql", "prelude.sql").values():
            self._duck.execute(statement)

    def close(self) -> None:
        """Remove everything temporary, and stop DuckDB unless it is in use: it does not wait."""
        self.workspace.close()
        with self._lock:  # a request that came last may be asking for its cursor
            if not self._cursors:
                self._duck.close()

    def snapshot(self, project: str) -> Snapshot:
        """The tables as a caller of ``project`` sees them from now on."""
        return Snapshot(self.catalogue, project, self.workspace.fresh())

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of one's own; DuckDB's failures become BigQuery's."""
        with self._lock:  # DuckDB refuses a connection that another thread is using
            cursor = self._duck.cursor()
            self._cursors += 1
        try:
            yield cursor
        except (duckdb.Error, OSError) as error:
            raise translated(error) from error
        finally:
            cursor.close()
            with self._lock:
                self._cursors -= 1

    def prepare(self, request: QueryRequest, snapshot: Snapshot, *, check: bool = True) -> Program:
        """Compile a query without running it.

        Args:
            request: What is asked.
            snapshot: The tables.
            check: Let DuckDB plan it too, as whoever will not run it wants.

        Raises:
            BigQueryError: The query is wrong, refused, or names what is not there.
        """
        program = compile_program(
            request.sql,
            project=request.project,
            dataset=request.dataset,
            parameters=request.parameters,
            source=snapshot,
            evaluate=self.evaluate,
            now=datetime.now(UTC).replace(tzinfo=None),
        )
        if check:
            with self.cursor() as cursor:
                cursor.execute(f"EXPLAIN {program.sql}")
        return program

    def evaluate(self, sql: str) -> list[Any]:
        """The first column of a query over constants."""
        with self.cursor() as cursor:
            return [row[0] for row in cursor.execute(sql).fetchall()]

    def run(self, program: Program, running: "Running") -> Result:
        """Run a program to its end; ``running`` can stop it from another thread.

        Raises:
            BigQueryError: It failed, or was stopped.
        """
        schema = arrow_schema(list(program.columns))
        writer = ResultWriter(self.workspace.fresh(), program.columns, schema)
        try:
            with self.cursor() as cursor, running.watching(cursor):
                reader = cursor.sql(program.sql).to_arrow_reader(BATCH_ROWS)
                for batch in reader:
                    running.check()
                    writer.write(batch)
            return writer.finish()
        except BaseException:
            writer.discard()
            raise


class Running:
    """The handle by which a running query is stopped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._interrupt: Callable[[], None] | None = None
        self._reason: BigQueryError | None = None

    @contextmanager
    def watching(self, cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Let ``stop`` interrupt this cursor.

        Raises:
            BigQueryError: Why it was stopped.
        """
        with self._lock:
            self._interrupt = cursor.interrupt
        try:
            self.check()
            yield
        except (duckdb.Error, OSError):
            self.check()
            raise
        finally:
            with self._lock:
                self._interrupt = None

    def check(self) -> None:
        """Raise the reason for which the query was stopped, if it was."""
        if self._reason is not None:
            raise self._reason

    def stop(self, reason: BigQueryError) -> None:
        """Stop the query; it fails with ``reason``."""
        with self._lock:
            self._reason = self._reason or reason
        threading.Thread(target=self._interrupt_until_it_ends, daemon=True).start()

    def _interrupt_until_it_ends(self) -> None:
        """DuckDB forgets an interruption that comes before a statement has really begun."""
        while True:
            with self._lock:
                if self._interrupt is None:
                    return
                self._interrupt()
            time.sleep(INTERRUPT_AGAIN)


def translated(error: Exception) -> BigQueryError:
    """DuckDB's failure in BigQuery's terms."""
    message = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "Out of Memory Error" in message:
        return BigQueryError.for_reason(
            "resourcesExceeded", f"Resources exceeded during query execution: {message}"
        )
    if "More than one row returned by a subquery" in message:
        return BigQueryError.query_failed("Scalar subquery produced more than one element")
    if isinstance(error, OSError) and error.errno is not None:
        return BigQueryError(503, "backendError", f"The stand-in cannot read or write: {message}")
    if message.startswith(("IO Error", "INTERRUPT Error")):
        return BigQueryError(503, "backendError", message)
    for prefix in _PREFIXES:
        message = message.removeprefix(prefix)
    return BigQueryError.query_failed(message)
