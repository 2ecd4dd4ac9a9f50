"""Children that write down what happens to them and do what a test says; and their supervisor."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio
import trio.testing

from troupe.common.errors import TroupeError
from troupe.platform.supervision import ChildContext, ChildSpec, Intensity, State, Supervisor

MANY = Intensity(restarts=1000, period=1.0)


class Boom(TroupeError):
    """A failure made by a test."""


@dataclass
class Stage:
    """Makes children that write down what happens to them and do what the test says."""

    trace: list[str] = field(default_factory=list)
    orders: dict[str, trio.MemorySendChannel[Exception | None]] = field(default_factory=dict)
    contexts: dict[str, ChildContext] = field(default_factory=dict)

    def child(
        self,
        name: str,
        *,
        ready_after: float = 0,
        drain: float = 0,
        fail_start: Callable[[int], Exception | None] = lambda _incarnation: None,
        **specification,
    ) -> ChildSpec:
        async def start(context: ChildContext) -> None:
            self.trace.append(f"{name} starts")
            self.contexts[name] = context
            send, receive = trio.open_memory_channel[Exception | None](1)
            self.orders[name] = send
            ended, order = False, None
            try:
                await trio.sleep(ready_after)
                if error := fail_start(context.incarnation):
                    raise error
                context.started(name.upper())
                self.trace.append(f"{name} ready")
                async with trio.open_nursery() as nursery:

                    async def obey() -> None:
                        await context.stopping.wait()
                        await trio.sleep(drain)
                        self.trace.append(f"{name} stops")
                        nursery.cancel_scope.cancel()

                    nursery.start_soon(obey)
                    order = await receive.receive()
                    nursery.cancel_scope.cancel()
                    ended = True
                if ended and order is not None:
                    self.trace.append(f"{name} crashes")
                    raise order
                if ended:
                    self.trace.append(f"{name} ends")
            except (trio.Cancelled, BaseExceptionGroup):
                self.trace.append(f"{name} cancelled")
                raise

        return ChildSpec(name=name, start=start, **specification)

    async def crash(self, name: str) -> None:
        await self.orders[name].send(Boom(f"{name} is broken"))
        await trio.testing.wait_all_tasks_blocked()

    async def finish(self, name: str) -> None:
        await self.orders[name].send(None)
        await trio.testing.wait_all_tasks_blocked()

    def take(self) -> list[str]:
        taken, self.trace[:] = list(self.trace), []
        return taken


@asynccontextmanager
async def serving(supervisor: Supervisor) -> AsyncIterator[None]:
    """Run a root supervisor around the body, and stop it in order afterwards."""
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.serve)
        yield
        supervisor.request_stop()


def states(supervisor: Supervisor) -> dict[str, State]:
    return {child.name: child.state for child in supervisor.snapshot().children}
