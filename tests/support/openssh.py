"""A real OpenSSH server for SFTP alone: a process of its own, a chroot for its account, loopback.

It needs root: sshd asks the system for accounts and changes the root directory. The chroot and all
above it must belong to root and be writable by nobody else, so it cannot lie below /tmp.
"""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest

INSTALL = Path(__file__).parents[2] / "ops" / "install_sshd.sh"
SSHD = "/usr/sbin/sshd"
HOME = Path("/srv")
READY_WITHIN = 20.0

_CONFIGURATION = """
ListenAddress 127.0.0.1
Port {port}
HostKey {root}/host_key
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication yes
PubkeyAuthentication yes
AuthorizedKeysFile {root}/keys
AllowUsers {user}
Subsystem sftp internal-sftp
ChrootDirectory {root}/jail
ForceCommand internal-sftp -d /files
AllowTcpForwarding no
X11Forwarding no
"""


@dataclass
class OpenSsh:
    """A server and its only account.

    Attributes:
        root: Holds its configuration.
        port: On loopback.
        user: The account.
        password: Its password.
        key: A private key that it accepts as well.
    """

    root: Path
    port: int
    user: str
    password: str
    key: bytes
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def files(self) -> Path:
        """What the account sees as its home."""
        return self.root / "jail" / "files"

    @property
    def host_key(self) -> str:
        """Its public key, in OpenSSH's form."""
        return (self.root / "host_key.pub").read_text().strip()

    def new_host_key(self, kind: str = "ed25519") -> None:
        """Give it another host key; it shows it once it has been started again."""
        for name in ("host_key", "host_key.pub"):
            (self.root / name).unlink(missing_ok=True)
        command = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", self.root / "host_key"]
        subprocess.run(command, check=True)

    def start(self) -> None:
        """Start it; returns when it listens."""
        log = (self.root / "sshd.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", self.root / "sshd_config"], stdout=log, stderr=log
            )
        end = time.monotonic() + READY_WITHIN
        while time.monotonic() < end and self.process.poll() is None:
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        self.stop()
        pytest.fail(f"sshd has not started: {(self.root / 'sshd.log').read_text()}")

    def stop(self) -> None:
        """End it, and whatever serves its connections."""
        if self.process is None:
            return
        for child in _children(self.process.pid):
            child_of_root = Path(f"/proc/{child}")
            if child_of_root.exists():
                os.kill(child, 9)
        self.process.kill()
        self.process.wait()
        self.process = None


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [*_children(child), child]
    return found


@contextmanager
def openssh_server() -> Iterator[OpenSsh]:
    """Install it if need be, make an account, serve; everything is gone afterwards."""
    installed = subprocess.run([INSTALL], capture_output=True, text=True, check=False)
    if installed.returncode or os.geteuid():
        pytest.fail(f"no OpenSSH server to test against, or not root: {installed.stderr}")
    root = Path(tempfile.mkdtemp(prefix="troupe-sshd-", dir=HOME))
    user = f"troupe{secrets.token_hex(4)}"
    try:
        root.chmod(0o755)
        subprocess.run(
            ["useradd", "-M", "-d", "/files", "-s", "/usr/sbin/nologin", user], check=True
        )
        password, key = secrets.token_hex(8), asyncssh.generate_private_key("ssh-ed25519")
        subprocess.run(["chpasswd"], input=f"{user}:{password}", text=True, check=True)
        (root / "keys").write_bytes(key.export_public_key())
        (root / "jail").mkdir(mode=0o755)
        (root / "jail" / "files").mkdir()
        shutil.chown(root / "jail" / "files", user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        text = _CONFIGURATION.format(port=port, root=root, user=user)
        (root / "sshd_config").write_text(text)
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        server = OpenSsh(root, port, user, password, key.export_private_key())
        server.new_host_key()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        subprocess.run(["userdel", user], check=False, capture_output=True)
        shutil.rmtree(root)
