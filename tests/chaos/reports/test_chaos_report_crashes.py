"""100 recipients, a death at each step, 30 times over; ``-rP`` shows the figures of each seed."""

import sys

import pytest

from tests.integration.reports.conftest import Office
from tests.integration.reports.test_report_crashes import (
    deliver_among_deaths,
    deliver_beside_a_sleeper,
)
from tests.support.reports.worker import STEPS


@pytest.mark.parametrize("seed", range(30))
async def test_nobody_has_two_mails(office: Office, seed: int) -> None:
    verdict = await deliver_among_deaths(office, mails=100, kills=5, seed=seed)
    sys.stdout.write(f"seed {seed}: {verdict}\n")


@pytest.mark.parametrize("step", STEPS)
async def test_a_sleeper_sends_nothing_twice(office: Office, step: str) -> None:
    await deliver_beside_a_sleeper(office, step)
