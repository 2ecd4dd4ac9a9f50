"""The settings of a process that serves."""

import gc
import itertools
import sys
import time
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from troupe.platform.responsiveness import (
    MIDDLE,
    OFTENEST,
    RAREST,
    SHORT,
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


@pytest.mark.parametrize("slow", [0, 1])
async def test_what_takes_long_is_done_more_often(
    slow: int, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of either generation, and less often again when it takes no time any more."""
    done: list[tuple[int, float]] = []
    spent = 0.0
    longest = 2 * SHORT

    def collect(generation: int) -> int:
        nonlocal spent
        done.append((generation, trio.current_time()))
        spent += longest if generation == slow else 0
        return 0

    def pauses() -> list[float]:
        times = [at for _, at in done]
        return [later - earlier for earlier, later in itertools.pairwise(times)]

    monkeypatch.setattr(gc, "collect", collect)
    monkeypatch.setattr(time, "perf_counter", lambda: spent)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_collections_short)
        await trio.sleep(6 * MIDDLE * RAREST)
        assert done[0][1] == pytest.approx(RAREST)
        assert pauses()[-1] == pytest.approx(OFTENEST)
        assert {generation for generation, _ in done[-MIDDLE:]} == {0, 1}
        longest = 0.0
        await trio.sleep(6 * MIDDLE * RAREST)
        assert pauses()[-1] == pytest.approx(RAREST)
        nursery.cancel_scope.cancel()
