"""What a service tells systemd, where there is one: ready, alive, reloading (``sd_notify``).

A datagram to the socket in ``NOTIFY_SOCKET``; without that variable nothing happens. With
``WatchdogSec=`` systemd kills and restarts a service that has not said for so long that it lives.
It is said from a task of the loop, twice as often as needed, so that a stuck loop is silent.

Nothing here fails the service: a socket that is gone is systemd's trouble, and is logged.
"""

import os
import socket
import time
from collections.abc import Mapping
from typing import Final

import trio

from troupe.common.logs import get_logger
from troupe.common.units import SECONDS

_MICROSECONDS: Final = 1_000_000

_log = get_logger(__name__)


class Systemd:
    """The service manager, or nobody.

    Args:
        environment: Where it says how it is reached.

    Attributes:
        patience: Seconds of silence after which it kills us; None: it does not look.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        given = os.environ if environment is None else environment
        address = given.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.patience = _patience(given) if address else None

    def ready(self) -> None:
        """Everything runs (``Type=notify`` waits for this)."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """A reload has begun (``Type=notify-reload`` waits until we are ready again)."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """An orderly stop has begun."""
        self._tell("STOPPING=1")

    async def keep_alive(self) -> None:
        """Say again and again that the loop turns; returns at once if nobody looks."""
        if self.patience is None:
            return
        while True:
            self._tell("WATCHDOG=1")
            await trio.sleep(self.patience / 2)

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.connect(self._address)
                sender.send(state.encode())
        except OSError as error:
            _log.warning("systemd_not_told", state=state, reason=error.strerror)


def _patience(given: Mapping[str, str]) -> float | None:
    try:
        microseconds = int(given.get("WATCHDOG_USEC", "0"))
        addressee = int(given.get("WATCHDOG_PID", os.getpid()))
    except ValueError:
        return None
    if microseconds <= 0 or addressee != os.getpid():
        return None
    return microseconds / _MICROSECONDS * SECONDS
