"""Whatever happens to a supervisor, and in whatever order: what must hold in the end, holds."""

from collections.abc import Sequence
from contextlib import suppress

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from troupe.common.errors import TroupeError
from troupe.platform.supervision import (
    Backoff,
    ChildContext,
    ChildSpec,
    Intensity,
    Restart,
    State,
    Strategy,
    Supervisor,
)

NAMES = "abcd"

steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["crash", "finish", "terminate", "start", "restart", "wait", "wait", "fail next start"]
        ),
        st.sampled_from(NAMES),
    ),
    max_size=25,
)


class Boom(TroupeError):
    pass


class Troupe:
    """Children that obey orders and check, at every start, that nobody breaks the rules."""

    def __init__(self, strategy: Strategy, kinds: Sequence[Restart], backoff: float) -> None:
        self.alive: set[str] = set()
        self.bad_starts: set[str] = set()
        self.orders: dict[str, trio.MemorySendChannel[bool]] = {}
        self.held: set[str] = set()
        self.supervisor = Supervisor(
            "root",
            [
                ChildSpec(
                    name=name,
                    start=self.live,
                    restart=kind,
                    shutdown=2,
                    backoff=Backoff(first=backoff, limit=backoff, jitter=0),
                )
                for name, kind in zip(NAMES, kinds, strict=True)
            ],
            strategy=strategy,
            intensity=Intensity(restarts=10_000, period=1),
        )

    async def live(self, context: ChildContext) -> None:
        name = context.name
        assert name not in self.alive, "two incarnations at a time"
        self.alive.add(name)
        try:
            await trio.sleep(0.1)
            if name in self.bad_starts:
                self.bad_starts.discard(name)
                raise Boom(name)
            orders, receive = trio.open_memory_channel[bool](10)
            self.orders[name] = orders
            context.started(name)
            context.when_stopping(orders.close)
            async for crash in receive:
                if crash:
                    raise Boom(name)
                return
        finally:
            self.alive.discard(name)
            self.orders.pop(name, None)

    async def order(self, what: str, name: str) -> None:
        match what:
            case "crash" | "finish":
                if name in self.orders:
                    with suppress(trio.ClosedResourceError):  # it is being stopped already
                        await self.orders[name].send(what == "crash")
            case "fail next start":
                self.bad_starts.add(name)
            case "wait":
                await trio.sleep(0.7)


async def play(troupe: Troupe, script: Sequence[tuple[str, str]]) -> None:
    supervisor = troupe.supervisor
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.serve)

        async def operate(what: str, name: str) -> None:
            operations = {
                "terminate": supervisor.terminate_child,
                "start": supervisor.start_child,
                "restart": supervisor.restart_child,
            }
            try:
                await operations[what](name)
            except TroupeError:
                await trio.lowlevel.checkpoint()  # a failed start is the operator's to see

        for what, name in script:
            if what in {"terminate", "start", "restart"}:
                nursery.start_soon(operate, what, name)
            else:
                await troupe.order(what, name)
        troupe.bad_starts.clear()
        await trio.sleep(300)
        records = supervisor._run.records
        for name, record in records.items():
            expected = {State.RUNNING} if record.wanted else {State.STOPPED, State.FAILED}
            assert record.state in expected, (name, record.state)
            assert (name in troupe.alive) is record.wanted
            assert record.specification.restart is not Restart.PERMANENT or (
                record.wanted or record.held
            )
        asked = trio.current_time()
        supervisor.request_stop()
    assert not troupe.alive
    assert trio.current_time() - asked < 1


@settings(max_examples=200, deadline=None)
@given(
    script=steps,
    strategy=st.sampled_from(list(Strategy)),
    kinds=st.lists(st.sampled_from(list(Restart)), min_size=4, max_size=4),
    backoff=st.sampled_from([0.0, 0.5]),
)
def test_the_end_is_what_was_wanted(script, strategy, kinds, backoff):
    trio.run(
        play,
        Troupe(strategy, kinds, backoff),
        script,
        clock=trio.testing.MockClock(autojump_threshold=0),
    )
