"""The process that writes mails: as good as a thread, and its death harms nobody."""

import os
import signal

import pytest
import trio

from tests.unit.reports.reports import content
from tests.unit.reports.test_report_rendering import LINKS, envelope
from troupe.actors.analytics.reports.rendering import Reader
from troupe.actors.analytics.reports.settings import ReportSettings
from troupe.actors.analytics.reports.workshop import Craft, Order, open_workshop
from troupe.common.errors import InvalidInput
from troupe.common.niceness import reserved

READER = Reader("ada@branch.example", "Ada", "de")


def order(**changes: object) -> Order:
    told = envelope(**changes)
    return Order(content(), ReportSettings(), READER, LINKS, told, notice=False, test=False)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_it_writes_what_a_thread_writes() -> None:
    async with open_workshop() as workshop:
        assert await workshop.write(order()) == Craft().make(order())
        pid = workshop.pid
        assert await workshop.write(order()) == Craft().make(order())
        assert workshop.pid == pid is not None
    assert is_gone(pid)


async def test_its_process_leaves_processors_to_others() -> None:
    kept_free = reserved(1)
    async with open_workshop(kept_free) as workshop:
        await workshop.write(order())
        assert workshop.pid
        assert os.sched_getaffinity(workshop.pid) == os.sched_getaffinity(0) - kept_free


async def test_a_mail_that_cannot_be_written_is_the_caller_s_matter() -> None:
    async with open_workshop() as workshop:
        with pytest.raises(InvalidInput):
            await workshop.write(order(recipient="a, b@c.example"))
        assert await workshop.write(order())


async def test_another_one_takes_over_from_one_that_died() -> None:
    async with open_workshop() as workshop:
        expected = await workshop.write(order())
        first = workshop.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert await workshop.write(order()) == expected
        assert workshop.pid != first


async def test_whoever_leaves_does_not_get_the_next_one_s_mail_mixed_up() -> None:
    async with open_workshop() as workshop:
        await workshop.write(order())
        with trio.move_on_after(0.005):
            await workshop.write(order(recipient="eve@branch.example"))
        _, message = await workshop.write(order())
        assert b"eve@branch.example" not in message
