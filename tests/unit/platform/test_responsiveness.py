"""The settings of a process that serves."""

import gc
import sys
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from troupe.platform.responsiveness import (
    MIDDLE,
    RAREST,
    SWITCH_INTERVAL,
    favour_the_loop,
    keep_collections_short,
)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    interval = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval)
    gc.unfreeze()


def test_what_was_loaded_is_not_walked_over_again() -> None:
    favour_the_loop()
    assert gc.get_freeze_count() > 10_000
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL)


async def test_young_garbage_goes_by_the_clock_although_nothing_is_counted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    threshold = gc.get_threshold()
    gc.set_threshold(1_000_000)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_collections_short)
            before = gc.get_stats()
            await trio.sleep(2 * MIDDLE * RAREST)
            after = gc.get_stats()
            nursery.cancel_scope.cancel()
    finally:
        gc.set_threshold(*threshold)
    young, middle, full = (
        now["collections"] - then["collections"] for now, then in zip(after, before, strict=True)
    )
    assert young >= 2 * MIDDLE - middle
    assert middle >= 1
    assert full == 0
