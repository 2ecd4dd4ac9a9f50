"""Another configuration while it runs: nobody is refused, no job loses an attempt, no mistake counts.

The storm is the short version; ``make chaos`` has a hundred reloads.
"""

import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.support.reloads import Site, site, storm


@pytest.fixture(autouse=True)
async def bounded() -> AsyncIterator[None]:
    with trio.fail_after(180):
        yield


async def test_reloads_under_load_fail_no_request_and_lose_no_attempt(tmp_path: Path) -> None:
    with site(tmp_path) as running:
        done = await storm(
            running, reloads=25, jobs=8, steps=200, pause=0.08, between=0.1, placement_every=2.5
        )
        print(done)
        done.books["live"].assert_spotless(at_least=1000)
        done.books["database"].assert_spotless(at_least=10)
        done.books["neighbour"].assert_spotless(at_least=100)
        assert done.resumed >= 8  # the jobs did move
        assert running.troupe.stop() == 0
    assert "Traceback" not in running.troupe.text()
