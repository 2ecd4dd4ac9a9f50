"""The TCP port of the embedded PostgreSQL: kept across restarts, another one when it is taken."""

import secrets
import socket
from typing import Final

from troupe.common.errors import DatabaseUnavailable

# Below the range from which Linux, BSD and macOS take ports for outgoing connections, so that no
# connection can sit on ours while PostgreSQL restarts.
_PORTS: Final = range(20_000, 32_000)
_TRIES: Final = 50


def choose_port(kept: int | None) -> int:
    """The kept port if nobody listens there, else a free one.

    Raises:
        DatabaseUnavailable: No port is free.
    """
    candidates = [secrets.choice(_PORTS) for _ in range(_TRIES)]
    for port in [kept, *candidates] if kept else candidates:
        if _free(port):
            return port
    raise DatabaseUnavailable("No TCP port is free on 127.0.0.1 for the embedded PostgreSQL.")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
