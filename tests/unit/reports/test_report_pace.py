"""How fast mails leave: evenly, and never faster than a tenant allows."""

import trio

from troupe.actors.analytics.reports.rounds import Pace


async def test_mails_leave_evenly(autojump_clock: trio.testing.MockClock) -> None:
    pace, begin, times = Pace(60), trio.current_time(), []

    async def worker() -> None:
        for _ in range(5):
            await pace.wait()
            times.append(trio.current_time() - begin)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(worker)
    assert [round(at, 6) for at in times] == list(range(15))


async def test_a_pause_earns_no_burst(autojump_clock: trio.testing.MockClock) -> None:
    pace = Pace(60)
    await pace.wait()
    await trio.sleep(100)
    begin = trio.current_time()
    for _ in range(3):
        await pace.wait()
    assert round(trio.current_time() - begin, 6) == 2
