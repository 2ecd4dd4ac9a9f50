"""asyncio libraries inside a trio program.

Problem. asyncpg, asyncssh and aiosmtplib speak asyncio only; Troupe is trio. Whatever joins the two
is crossed by every query, so it must be cheap, and it must carry cancellation both ways: a trio
deadline has to stop the query on the server, and clean-up in asyncio has to finish before trio goes
on.

Choice. One stock asyncio loop lives inside ``trio.run``, in the same thread. A trio system task,
the pump, waits until the loop's selector is readable or a timer is due, then lets the loop take one
*turn*: everything that is ready runs until the loop would have to wait. ``aio(coroutine)`` makes a
real ``asyncio.Task``, takes a turn at once (a request leaves without a detour through the
scheduler) and parks the trio task until that task is done.

A turn uses documented calls only: the loop is given a selector of our own, whose ``select`` answers
"nothing yet" instead of blocking and calls ``loop.stop()`` when the loop has nothing left to run;
``run_forever`` then returns. asyncio tells us how long it wants to sleep in the very argument of
``select``, so timers need no look inside either. The measured alternative walks the loop's private
queues itself; it gains a few microseconds per crossing and breaks silently when asyncio changes
(numbers in docs/adr/0002-asyncio-bridge.md, made by ops/bench/bridge.py).

What follows from it:

- Idle costs nothing: no polling, no thread. Signals and KeyboardInterrupt stay trio's; a turn is
  protected from the latter, which arrives at trio's next checkpoint.
- The loop's clock is trio's clock, so trio's test clocks move asyncio's timers too.
- A spinning asyncio callback stalls trio, like a spinning trio task would.
- Between turns no asyncio loop is "running" in this thread, so code that forgets the bridge fails
  at once instead of deadlocking.
- The loop may be touched from trio code (a finaliser closing a transport, a future being set): what
  is scheduled outside a turn wakes the pump.
- One bridge per ``trio.run``; a test may open several, one after another.

Rejected, all measured: trio-asyncio (200 µs per crossing), a thread with uvloop (two hand-offs per
crossing, and two threads in every traceback), trio as guest of uvloop (the program is no longer a
plain ``trio.run``: pytest-trio, signals and shutdown all change).
"""

import asyncio
import contextvars
import math
import selectors
import time
from asyncio import selector_events
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final, NoReturn, TypeVar, TypeVarTuple

import sniffio
import trio

from troupe.common.logs import get_logger
from troupe.common.units import MILLISECONDS, SECONDS, KiB

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Cancel = Callable[[asyncio.Task[Any]], object]

CLEAN_UP_DEADLINE: Final = 30 * SECONDS
SHUTDOWN_DEADLINE: Final = 5 * SECONDS

# glibc serves a receive buffer above 128 KiB by mmap and gives it back by munmap, for every read.
# asyncio asks for 256 KiB; this halves the cost of a small answer (cpython issue 85451). It is the
# one private name that we touch; tests/unit/test_bridge_pins.py says when it moves.
selector_events._SelectorTransport.max_size = 64 * KiB  # type: ignore[attr-defined]  # noqa: SLF001 - see above

# Iterations of the loop within one turn before other trio tasks get theirs. One query takes four.
_ROUNDS_PER_TURN: Final = 100
# Likewise, after which no further iteration begins: who computes between two awaits of asyncio's
# makes nobody wait for the whole of it.
_LONGEST_TURN: Final = 0.5 * MILLISECONDS

_log = get_logger(__name__)


class BridgeMisuse(RuntimeError):
    """The bridge was used where it cannot work: a mistake in the calling code."""


class CancelledInAsyncio(RuntimeError):
    """An asyncio task was cancelled by somebody on the asyncio side, not by trio.

    ``asyncio.CancelledError`` itself is a ``BaseException`` that no trio code expects.
    """


class AbandonedInAsyncio(RuntimeError):
    """The bridge closed while this asyncio task ignored its cancellation."""


class TurnSelector(selectors.DefaultSelector):
    """Never blocks; ends the turn when the loop asks to wait.

    Attributes:
        poll: Look at the sockets, once in a turn. Later iterations only run callbacks: what becomes
            readable meanwhile is level-triggered and starts the next turn.
        rounds: Iterations left in this turn.
        until: When no further one begins in this turn, on `time.perf_counter`.
        wait: Seconds until the loop's next timer, as it said last; infinite without one, 0 when it
            was stopped with callbacks left to run.
    """

    def __init__(self) -> None:
        super().__init__()
        self.poll = False
        self.rounds = 0
        self.until = math.inf
        self.wait = math.inf
        self.settle: Callable[[], None] = _nothing

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events: list[tuple[selectors.SelectorKey, int]] = []
        if self.poll:
            self.poll = False
            events = super().select(0)
        self.rounds -= 1
        if not events and (timeout is None or timeout > 0):
            self.wait = math.inf if timeout is None else timeout
            self.settle()
        elif self.rounds == 0 or time.perf_counter() >= self.until:
            self.wait = 0.0
            self.settle()
        return events


class Loop(asyncio.SelectorEventLoop):
    """A stock loop on trio's clock, which wakes the pump when nothing else would see to a callback.

    Attributes:
        in_turn: asyncio code runs at this moment.
        settled: No turn will look at the queue again by itself: it is over, or in its last
            iteration (where a finaliser may still schedule something).
    """

    def __init__(self, selector: TurnSelector) -> None:
        self.in_turn = False
        self.settled = True
        # Asked for several times per turn: the clock itself, not through a method.
        self.time = trio.lowlevel.current_clock().current_time  # type: ignore[method-assign]
        super().__init__(selector)
        selector.settle = self.settle

    def settle(self) -> None:
        """End the turn after the current iteration."""
        self.settled = True
        self.stop()

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        if self.settled:
            return super().call_soon_threadsafe(callback, *args, context=context)
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = super().call_at(when, callback, *args, context=context)
        if self.settled:
            super().call_soon_threadsafe(_nothing)
        return handle

    def add_signal_handler(self, *_: object) -> NoReturn:
        """Refuse: signals belong to trio."""
        raise BridgeMisuse("use trio.open_signal_receiver: signals belong to trio")


class Bridge:
    """The loop, its pump and the trio tasks that wait for it."""

    def __init__(self) -> None:
        self._selector = TurnSelector()
        self.loop = Loop(self._selector)
        self.loop.set_exception_handler(_report_uncaught)
        # Ours, so that closing need not wait for a thread that hangs (name look-ups run in it).
        self._threads = ThreadPoolExecutor(thread_name_prefix="asyncio")
        self.loop.set_default_executor(self._threads)
        self.crossings: dict[asyncio.Task[Any], Crossing] = {}
        self.closing = False
        self._finished = False
        self._pumped = trio.Event()
        self._nap = trio.CancelScope()
        self._nap_until = math.inf

    @trio.lowlevel.enable_ki_protection
    def turn(self) -> None:
        """Let the loop run until it would wait; then see that the pump wakes in time for it."""
        selector = self._selector
        selector.poll = True
        selector.rounds = _ROUNDS_PER_TURN
        selector.until = time.perf_counter() + _LONGEST_TURN
        selector.wait = 0.0
        library, sniffio.thread_local.name = sniffio.thread_local.name, None
        loop = self.loop
        loop.settled = False
        loop.in_turn = True
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            # Raised by a task: whoever waits for the task gets it. By a bare callback: only here.
            _log.critical("asyncio_callback_asked_to_exit", exc_info=error)
        finally:
            loop.in_turn = False
            loop.settled = True
            sniffio.thread_local.name = library
        if selector.wait < math.inf:
            due = loop.time() + selector.wait
            if due < self._nap_until:
                self._nap.deadline = self._nap_until = due

    async def pump(self) -> None:
        """Take a turn whenever the selector is readable or a timer is due, until told to finish."""
        sockets = self._selector.fileno()
        try:
            while not self._finished:
                self._nap_until = math.inf
                with trio.CancelScope() as self._nap:  # its deadline is the next timer
                    while not self._finished:
                        self.turn()
                        if self._selector.wait == 0.0:
                            await trio.lowlevel.checkpoint()
                        else:
                            await trio.lowlevel.wait_readable(sockets)
        finally:
            self._pumped.set()

    @trio.lowlevel.enable_ki_protection
    async def cross(
        self,
        coroutine: Coroutine[Any, Any, T],
        clean_up: float = math.inf,
        cancel: Cancel = asyncio.Task.cancel,
    ) -> T:
        """What ``aio`` does, without its checks."""
        self.loop.settled = False  # making the task need not wake the pump: a turn follows
        try:
            task = self.loop.create_task(coroutine)
        finally:
            self.loop.settled = True
        self.turn()
        try:
            if task.done():
                await trio.lowlevel.cancel_shielded_checkpoint()
            else:
                crossing = Crossing(self, task, clean_up, cancel)
                await crossing.wait()
                if not task.done() or task.cancelled():
                    crossing.raise_reason()
            return task.result()
        except asyncio.CancelledError as error:
            raise CancelledInAsyncio("the task was cancelled on the asyncio side") from error
        finally:
            del task  # a failure's traceback holds this frame: without this it would be a cycle

    async def close(self, deadline: float) -> None:
        """End every task, then the loop; report what does not end instead of waiting for it."""
        self.closing = True
        ends = trio.current_time() + deadline
        cancelled: set[asyncio.Task[Any]] = set()
        while tasks := asyncio.all_tasks(self.loop):
            for task in tasks - cancelled:
                task.cancel()
            cancelled |= tasks
            left = ends - trio.current_time()
            if left <= 0:
                break
            await self.cross(asyncio.wait(tasks, timeout=left))
        for task in tasks:
            _report_abandoned(task)
            if task in self.crossings:
                self.crossings[task].abandon()
        left = max(ends - trio.current_time(), 0.1 * SECONDS)
        await self.cross(_within(self.loop.shutdown_asyncgens(), left))
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._finished = True
        self.loop.call_soon_threadsafe(_nothing)
        await self._pumped.wait()
        self.loop.close()


class Crossing:
    """One trio task that waits for one asyncio task."""

    __slots__ = (
        "_bridge",
        "_cancel_task",
        "_clean_up",
        "_raise_cancel",
        "_sleeper",
        "_task",
        "_timer",
        "abandoned",
    )

    def __init__(
        self, bridge: Bridge, task: asyncio.Task[Any], clean_up: float, cancel: Cancel
    ) -> None:
        self._bridge = bridge
        self._task = task
        self._clean_up = clean_up
        self._cancel_task = cancel
        self._sleeper = trio.lowlevel.current_task()
        self._raise_cancel: Callable[[], NoReturn] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.abandoned = False

    async def wait(self) -> None:
        """Sleep until the asyncio task is done or abandoned, whatever trio says meanwhile."""
        self._bridge.crossings[self._task] = self
        self._task.add_done_callback(self._done)
        try:
            await trio.lowlevel.wait_task_rescheduled(self._cancel)
        finally:
            del self._bridge.crossings[self._task]

    def _done(self, _task: asyncio.Task[Any]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        trio.lowlevel.reschedule(self._sleeper)

    def _cancel(self, raise_cancel: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
        """Pass trio's cancellation on, once; trio calls this once per wait."""
        self._raise_cancel = raise_cancel
        self._cancel_task(self._task)
        if self._clean_up < math.inf:
            self._timer = self._bridge.loop.call_later(self._clean_up, self._give_up)
        return trio.lowlevel.Abort.FAILED  # not yet: the asyncio task cleans up first

    def _give_up(self) -> None:
        if not self._task.done():
            _report_abandoned(self._task)
            self.abandon()

    def abandon(self) -> None:
        """Wake the trio task although the asyncio task goes on."""
        if not self._task.done():
            self._task.remove_done_callback(self._done)
            self._task.add_done_callback(_report_late_failure)
            self.abandoned = True
            trio.lowlevel.reschedule(self._sleeper)

    def raise_reason(self) -> None:
        """Raise what ended the wait, unless it was the asyncio task alone."""
        if self._raise_cancel is not None:
            self._raise_cancel()
        if self.abandoned:
            raise AbandonedInAsyncio("the bridge closed while the task ignored its cancellation")


_current: Final = trio.lowlevel.RunVar[Bridge | None]("asyncio_bridge", default=None)


@asynccontextmanager
async def open_bridge(*, shutdown_deadline: float = SHUTDOWN_DEADLINE) -> AsyncGenerator[None]:
    """Make ``aio`` work in this ``trio.run`` while the context is open.

    On leaving, every asyncio task is cancelled and waited for; whatever ignores that is logged as
    ``asyncio_task_abandoned`` and left behind.

    Args:
        shutdown_deadline: Seconds until what does not end is abandoned.

    Raises:
        BridgeMisuse: A bridge is already open in this ``trio.run``, or trio itself runs as a guest
            of asyncio.
    """
    if _current.get() is not None:
        raise BridgeMisuse("a bridge is already open in this trio.run: open one, near the top")
    if _asyncio_runs():
        raise BridgeMisuse("asyncio already runs in this thread: await its coroutines directly")
    bridge = Bridge()
    _current.set(bridge)
    trio.lowlevel.spawn_system_task(bridge.pump, name="asyncio bridge")
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            try:
                await bridge.close(shutdown_deadline)
            finally:
                _current.set(None)


async def aio(
    coroutine: Coroutine[Any, Any, T],
    *,
    clean_up: float = CLEAN_UP_DEADLINE,
    cancel: Cancel = asyncio.Task.cancel,
) -> T:
    """Run an asyncio coroutine as a task and wait for it in trio.

    The task starts with a copy of the caller's context variables. If trio cancels the caller, the
    task is cancelled exactly once and its clean-up is waited for; should it finish with a result or
    a failure nevertheless, that is what the caller gets.

    Args:
        coroutine: Not yet started. It is closed unrun if the caller is already cancelled.
        clean_up: Seconds that the task may take to end once cancelled. After that it is logged and
            left behind: whatever it holds must then be considered lost.
        cancel: How to cancel the task; it is called at most once, and must not raise. For work that
            knows better when it can be interrupted (a commit under way, say).

    Returns:
        What the coroutine returns.

    Raises:
        Exception: What the coroutine raises, unchanged.
        trio.Cancelled: The caller was cancelled and the task ended by it.
        CancelledInAsyncio: The task was cancelled, but not by trio.
        BridgeMisuse: No bridge is open, or this is asyncio code already.
    """
    try:
        bridge = _require_bridge()
        await trio.lowlevel.checkpoint_if_cancelled()
    except BaseException:
        coroutine.close()
        raise
    return await bridge.cross(coroutine, clean_up, cancel)


def aio_soon(coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start an asyncio coroutine for which nobody waits; its first step is taken in the next turn.

    Args:
        coroutine: Not yet started; it bounds its own time. Closed unrun if there is no bridge.

    Returns:
        The task, which the caller keeps until it is done.

    Raises:
        BridgeMisuse: As `aio`.
    """
    try:
        return _require_bridge().loop.create_task(coroutine)
    except BaseException:
        coroutine.close()
        raise


def _require_bridge() -> Bridge:
    bridge = _current.get()
    if bridge is None:
        raise BridgeMisuse("no bridge is open: wrap the program in 'async with open_bridge():'")
    if bridge.loop.in_turn:
        raise BridgeMisuse("this is asyncio code: await the coroutine directly")
    if bridge.closing:
        raise BridgeMisuse("the bridge is closing")
    return bridge


def _asyncio_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _within(coroutine: Coroutine[Any, Any, None], seconds: float) -> None:
    await asyncio.wait([asyncio.ensure_future(coroutine)], timeout=seconds)


def _report_uncaught(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Exception handler of the loop: what nobody awaits still reaches the log."""
    task = context.get("task") or context.get("future")
    _log.error(
        "asyncio_exception_uncaught",
        message=context["message"],
        task=_name(task) if isinstance(task, asyncio.Task) else None,
        exc_info=context.get("exception"),
    )


def _report_abandoned(task: asyncio.Task[Any]) -> None:
    frames = task.get_stack(limit=1)
    _log.error(
        "asyncio_task_abandoned",
        task=_name(task),
        stuck_at=f"{frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else None,
    )


def _report_late_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.info("asyncio_abandoned_task_failed", task=_name(task), error=repr(error))


def _name(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    return getattr(coroutine, "__qualname__", None) or task.get_name()


def _nothing() -> None:
    """A callback whose only effect is that the loop takes a turn."""
