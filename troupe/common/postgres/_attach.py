"""How another process on this host reaches the embedded PostgreSQL of a running supervisor."""

from dataclasses import dataclass
from pathlib import Path

from troupe.common.errors import DatabaseUnavailable
from troupe.common.postgres._layout import Layout, Lock
from troupe.common.postgres.roles import DATABASE, OWNER, RUNTIME, connection_url


@dataclass(frozen=True, slots=True)
class ServerUrls:
    """Where the two login roles connect; with their passwords."""

    owner: str
    runtime: str


def running_server(state_directory: Path) -> ServerUrls:
    """URLs of the server that a supervisor runs on this state directory.

    Raises:
        DatabaseUnavailable: No supervisor uses the directory now.
        ConfigurationError: Its password file is missing or damaged.
    """
    layout = Layout(state_directory.absolute())
    port = layout.port()
    if port is None or not _in_use(layout):
        raise DatabaseUnavailable(
            f"No Troupe is running on {state_directory}: start one with 'troupe up'."
        )
    passwords = layout.passwords()
    return ServerUrls(
        connection_url(OWNER, passwords.owner, "127.0.0.1", port, DATABASE),
        connection_url(RUNTIME, passwords.runtime, "127.0.0.1", port, DATABASE),
    )


def _in_use(layout: Layout) -> bool:
    with Lock(layout.root / "supervisor.lock") as lock:
        return not lock.take()
