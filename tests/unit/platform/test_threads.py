"""Where the worker threads of a group run."""

import os

import pytest
import trio

from troupe.common.niceness import reserved
from troupe.platform.threads import Threads


async def allowed_now() -> set[int]:
    """Where a thread of trio's may run that nobody has placed."""
    return await trio.to_thread.run_sync(os.sched_getaffinity, 0)


async def test_threads_leave_the_reserved_processors_while_they_work() -> None:
    usable = os.sched_getaffinity(0)
    threads = Threads(1, keep_off=reserved(1))
    assert await threads.run(os.sched_getaffinity, 0) == usable - reserved(1)
    assert await allowed_now() == usable  # the same thread, lent to somebody else
    assert os.sched_getaffinity(0) == usable


async def test_what_fails_gives_the_thread_back_as_it_was() -> None:
    usable = os.sched_getaffinity(0)
    with pytest.raises(ZeroDivisionError):
        await Threads(1, keep_off=reserved(1)).run(divmod, 1, 0)
    assert await allowed_now() == usable


async def test_threads_run_where_they_may_if_that_is_all_there_is() -> None:
    usable = os.sched_getaffinity(0)
    everything = Threads(1, keep_off=frozenset(usable))
    assert await everything.run(os.sched_getaffinity, 0) == usable


async def test_threads_run_where_they_are_if_nobody_may_move_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_pid: int, _processors: set[int]) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    threads = Threads(1, keep_off=reserved(1))
    assert await threads.run(os.sched_getaffinity, 0) == os.sched_getaffinity(0)
