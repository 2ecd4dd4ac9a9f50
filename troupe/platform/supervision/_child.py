"""What one incarnation of a child sees of its supervisor."""

from collections.abc import Callable

import trio

from troupe.platform.supervision._snapshot import Observation


class ChildContext:
    """Handed to a child's start function; one for each incarnation.

    Attributes:
        name: The child's name.
        incarnation: 1 for the first start, counting up over restarts.
        stopping: Set when the child shall drain and return. Its scope is cancelled once the
            shutdown deadline has passed.
        restarting: Whether the stop is part of a restart, so that another incarnation follows.
            Meaningful once `stopping` is set.
    """

    def __init__(
        self,
        name: str,
        *,
        incarnation: int = 1,
        on_started: Callable[[object], None] = lambda _value: None,
    ) -> None:
        self.name = name
        self.incarnation = incarnation
        self.stopping = trio.Event()
        self.restarting = False
        self._on_started = on_started
        self._observe: Callable[[], Observation] = Observation
        self._when_stopping: Callable[[], None] = lambda: None

    def started(self, value: object = None) -> None:
        """Say that the child is ready.

        Args:
            value: Returned to whoever started the child by name, such as a bound address.
        """
        self._on_started(value)

    def when_stopping(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when the stop is requested, for a child that waits elsewhere."""
        self._when_stopping = callback

    def request_stop(self, *, restarting: bool = False) -> None:
        """Ask the child to drain and return; for its supervisor."""
        self.restarting = restarting
        self.stopping.set()
        self._when_stopping()

    def observe(self, source: Callable[[], Observation]) -> None:
        """Let snapshots include what `source` tells; it must be quick and must not fail."""
        self._observe = source

    def observation(self) -> Observation:
        """What the child tells about itself now."""
        return self._observe()
