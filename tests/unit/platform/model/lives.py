"""How a child behaves during one incarnation: what the supervisor's model has to deal with.

A life tells its keeper two things, `ready` and `ended`, and hears two from it: that it is asked to
stop, and that it is cancelled.
"""

from typing import Protocol

from tests.unit.platform.model.script import Task
from tests.unit.platform.model.world import World


class Keeper(Protocol):
    """Whoever started a life."""

    def ready(self, life: "Life", value: str) -> None: ...
    def ended(self, life: "Life", error: str | None) -> None: ...


class Life(Protocol):
    def begin(self) -> None: ...
    def ask_to_stop(self, *, restarting: bool) -> None: ...
    def cancel(self) -> None: ...


class TaskLife:
    """One incarnation of a task."""

    def __init__(
        self, world: World, task: Task, keeper: Keeper, incarnation: int, spoilt: tuple[str, str]
    ) -> None:
        self.world = world
        self.task = task
        self.keeper = keeper
        self.incarnation = incarnation
        self.spoilt, self.fault = spoilt
        self.phase = "new"
        self.asked = False
        self.timer = world.after(None, self, self.begin)

    def begin(self) -> None:
        self.world.emit(self.task.name, "starts")
        self._enter("starting")
        if self.spoilt != "hang":
            self._go_on_in(self.task.starting, self._started)

    def _started(self) -> None:
        match self.spoilt:
            case "fail":
                self._end(self.fault)
            case "quit":
                self._end(None)
            case _:
                self.keeper.ready(self, f"{self.task.name}#{self.incarnation}")
                self.world.emit(self.task.name, "ready")
                self._enter("up")
                if self.asked:
                    self._drain()

    def ask_to_stop(self, *, restarting: bool) -> None:
        self.world.emit(self.task.name, "stopping to restart" if restarting else "stopping")
        self.asked = True
        if self.phase == "up":
            self._drain()

    def _drain(self) -> None:
        self._enter("draining")
        self._go_on_in(self.task.draining, lambda: self._end(None))

    def obey(self, error: str | None) -> None:
        """End now, by itself; of no effect once it was cancelled."""
        if self.phase in {"starting", "up", "draining"}:
            self._end(error)

    def cancel(self) -> None:
        if self.phase in {"starting", "up", "draining"}:
            self.world.emit(self.task.name, "cancelled")
            self._enter("cleaning")
            error = f"sour {self.task.name}" if self.task.sour else None
            self._go_on_in(self.task.cleaning, lambda: self._end(error))

    def _enter(self, phase: str) -> None:
        self.timer.cancelled = True
        self.phase = phase

    def _go_on_in(self, ticks: int, action) -> None:
        self.timer = self.world.after(ticks, self, action)

    def _end(self, error: str | None) -> None:
        self._enter("gone")
        self.world.emit(self.task.name, f"ends: {error}" if error else "ends")
        self.keeper.ended(self, error)
