"""``troupe ingest`` in a terminal and outside one; ^C. No runner: the job waits for ever."""

import asyncio
import json
import os
import pty
import select
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from tests.support.postgres import TestDatabase
from tests.support.processes import TROUPE, environment

TENANT = uuid.UUID(int=0xADA)
PATIENCE = 30
RANGE = ("--from", "2026-09-01", "--to", "2026-09-03")


@pytest.fixture
def where(fresh_database: TestDatabase) -> TestDatabase:
    sql(
        fresh_database, f"INSERT INTO platform.tenants (tenant_id, name) VALUES ('{TENANT}', 'Ada')"
    )
    return fresh_database


def sql(where: TestDatabase, statement: str) -> list[tuple[object, ...]]:
    async def work() -> list[tuple[object, ...]]:
        connection = await asyncpg.connect(where.admin_url)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    return asyncio.run(work())


def states(where: TestDatabase) -> list[str]:
    return [str(state) for (state,) in sql(where, "SELECT state FROM platform.all_jobs")]


def until(condition: object, what: str) -> None:
    assert callable(condition)
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


class Terminal:
    """A command in a pseudo-terminal, with standard output apart."""

    def __init__(self, where: TestDatabase, folder: Path, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self._text = b""
        self._output = folder / "stdout"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [TROUPE, "--state-dir", str(folder), *arguments],
                stdin=theirs,
                stdout=output,
                stderr=theirs,
                env=environment(
                    {"TROUPE_DATABASE__RUNTIME_URL": where.runtime_url, "COLUMNS": "120"}
                ),
                start_new_session=True,
            )
        os.close(theirs)

    def reads(self, text: str) -> bool:
        while select.select([self._ours], [], [], 0)[0]:
            try:
                self._text += os.read(self._ours, 65536)
            except OSError:
                break  # the other end is closed
        return text in self._text.decode(errors="replace")

    def wait_for(self, text: str) -> None:
        until(lambda: self.reads(text), f"{text!r} is not in {self._text!r}")

    def types(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def ended(self) -> tuple[int, str]:
        code = self.process.wait(PATIENCE)
        return code, self._output.read_text()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        os.close(self._ours)


@contextmanager
def terminal(where: TestDatabase, folder: Path, *arguments: str) -> Iterator[Terminal]:
    made = Terminal(where, folder, *arguments)
    try:
        yield made
    finally:
        made.close()


def test_in_a_terminal_it_asks_and_leaves_the_job_running(
    where: TestDatabase, tmp_path: Path
) -> None:
    with terminal(where, tmp_path, "ingest", "Ada", *RANGE) as shown:
        shown.wait_for("ingest Ada")
        shown.interrupt()
        shown.wait_for("Leave the job running?")
        shown.types("\n")
        code, _ = shown.ended()
        assert code == 130
        assert shown.reads("The job goes on")
        assert shown.reads("troupe jobs watch")
        assert not shown.reads("Traceback")
    assert states(where) == ["available"]


def test_a_second_interrupt_leaves_without_an_answer(where: TestDatabase, tmp_path: Path) -> None:
    with terminal(where, tmp_path, "ingest", "Ada", *RANGE) as shown:
        shown.wait_for("ingest Ada")
        shown.interrupt()
        shown.wait_for("Leave the job running?")
        shown.interrupt()
        assert shown.ended()[0] == 130
    assert states(where) == ["available"]


def test_whoever_says_no_waits_for_its_end(where: TestDatabase, tmp_path: Path) -> None:
    with terminal(where, tmp_path, "ingest", "Ada", *RANGE) as shown:
        shown.wait_for("ingest Ada")
        shown.interrupt()
        shown.wait_for("Leave the job running?")
        shown.types("n\n")
        assert shown.ended()[0] == 7
        assert shown.reads("The job is cancelled")
    assert states(where) == ["cancelled"]


def test_without_a_terminal_lines_are_printed_and_nobody_is_asked(
    where: TestDatabase, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [TROUPE, "--state-dir", str(tmp_path), "ingest", "Ada", *RANGE, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment({"TROUPE_DATABASE__RUNTIME_URL": where.runtime_url}),
            start_new_session=True,
        )
    try:
        until(lambda: states(where) == ["available"], "no job was made")
        time.sleep(1)  # it waits for the job by now, and not for its connection
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
    first, last = log.read_text().strip().splitlines()
    assert json.loads(first)["state"] == "available"
    assert last.startswith("troupe: The job goes on")
    assert states(where) == ["available"]
