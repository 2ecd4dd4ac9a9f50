"""What the long tests of durable jobs share; their figures are told at the end of the run."""

from collections.abc import AsyncIterator

import pytest

from tests.support.chaos.ground import Ground, open_ground
from tests.support.postgres import TestDatabase


@pytest.fixture
async def ground(bridge: None, fresh_database: TestDatabase) -> AsyncIterator[Ground]:
    async with open_ground(fresh_database) as opened:
        yield opened


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told = [
        f"{name}: {value}"
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call"
        for name, value in report.user_properties
    ]
    if told:
        terminalreporter.section("figures")
        for line in told:
            terminalreporter.line(line)
