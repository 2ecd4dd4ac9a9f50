"""The platform's unit tests run on a clock that jumps to the next thing that happens."""

import inspect
import logging
from pathlib import Path

import pytest
import structlog
import trio
import trio.testing

HERE = Path(__file__).parent


def run_jumping(main, *, clock=None, **options):
    jumping = clock or trio.testing.MockClock(autojump_threshold=0)
    return trio.run(main, clock=jumping, **options)


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents and inspect.iscoroutinefunction(item.obj):
            item.add_marker(pytest.mark.trio(run=run_jumping))


@pytest.fixture
def quiet():
    """Drops what is logged below critical: thousands of failures that a test wants."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)
