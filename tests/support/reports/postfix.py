"""Debian's postfix and dovecot: processes of their own, a directory of their own, loopback.

Mail is taken over STARTTLS or TLS from whoever logs in, put into maildirs by postfix, and read over
IMAP from dovecot, which also knows the passwords. ``nobody@branch.example`` is unknown, which is
said at once; ``gone@branch.example`` is taken, and a report of non-delivery comes later.

Both run in the foreground, under ``timeout``: whatever becomes of the tests, they end.
"""

import imaplib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.reports.certificates import Certificate, issue

INSTALL = Path(__file__).parents[3] / "ops" / "install_mail.sh"
HOME = Path("/srv")
READY_WITHIN = 20.0
LIFE = ["timeout", "--kill-after=5", "300"]
HOST = "localhost"
SENDER = "reports@shop.example"

_SERVICES = """\
127.0.0.1:{port} inet n - n - - smtpd
127.0.0.1:{tls_port} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
showq unix n - n - - showq
postlog unix-dgram n - n - 1 postlogd
"""
_SETTINGS = """\
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
maillog_file = {root}/maillog
maillog_file_prefixes = {root}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mail.shop.example
mydestination =
mynetworks =
smtputf8_enable = no
append_dot_mydomain = no
disable_dns_lookups = yes
virtual_mailbox_domains = branch.example, shop.example
virtual_mailbox_maps = texthash:{root}/mailboxes
virtual_mailbox_base = {root}/mail
virtual_alias_maps = texthash:{root}/aliases
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
transport_maps = texthash:{root}/transport
smtpd_tls_security_level = encrypt
smtpd_tls_auth_only = yes
smtpd_tls_cert_file = {certificate.chain}
smtpd_tls_key_file = {certificate.key}
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
"""
_DOVECOT = """\
base_dir = {root}/dovecot
state_dir = {root}/dovecot
log_path = {root}/dovecot.log
protocols = imap
listen = 127.0.0.1
ssl = required
ssl_cert = <{certificate.chain}
ssl_key = <{certificate.key}
auth_mechanisms = plain login
mail_location = maildir:{root}/mail/%d/%n
first_valid_uid = 1
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {root}/users
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={root}/mail/%d/%n
}}
service imap-login {{
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = {imap_port}
    ssl = yes
  }}
}}
service auth {{
  unix_listener {root}/queue/private/auth {{
    mode = 0666
  }}
}}
"""


@dataclass(frozen=True)
class PostOffice:
    """Both servers.

    Attributes:
        root: Holds everything of theirs.
        port: Of SMTP with STARTTLS.
        tls_port: Of SMTP over TLS from the start.
        imap_port: Of IMAP over TLS.
        password: Of every account.
        certificate: For `HOST`.
    """

    root: Path
    port: int
    tls_port: int
    imap_port: int
    password: str
    certificate: Certificate

    def read(self, address: str) -> list[bytes]:
        """All mails of an account, read over IMAP."""
        with imaplib.IMAP4_SSL(
            HOST, self.imap_port, ssl_context=self.certificate.client(), timeout=20
        ) as box:
            box.login(address, self.password)
            box.select("INBOX", readonly=True)
            _, found = box.search(None, "ALL")
            mails = []
            for number in found[0].split():
                _, fetched = box.fetch(number, "(BODY.PEEK[])")
                mails.append(fetched[0][1])
            return mails

    def wait_for(self, address: str, count: int, seconds: float = 20) -> list[bytes]:
        """The mails of an account, once there are as many."""
        end = time.monotonic() + seconds
        while True:
            mails = self.read(address)
            if len(mails) >= count or time.monotonic() > end:
                return mails
            time.sleep(0.1)

    @property
    def log(self) -> str:
        """What the servers have to say."""
        logs = (self.root / "maillog", self.root / "dovecot.log")
        return "\n".join(log.read_text() for log in logs if log.exists())


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def _write(office: PostOffice, addresses: Sequence[str], uid: int, gid: int) -> None:
    root = office.root
    values = {
        "root": root, "uid": uid, "gid": gid, "certificate": office.certificate,
        "port": office.port, "tls_port": office.tls_port, "imap_port": office.imap_port,
    }  # fmt: skip
    (root / "postfix").mkdir()
    (root / "postfix" / "main.cf").write_text(_SETTINGS.format(**values))
    (root / "postfix" / "master.cf").write_text(_SERVICES.format(**values))
    (root / "dovecot.conf").write_text(_DOVECOT.format(**values))
    boxes, users = [], []
    for address in addresses:
        local, _, domain = address.partition("@")
        boxes.append(f"{address} {domain}/{local}/")
        users.append(f"{address}:{office.password}")
        (root / "mail" / domain).mkdir(parents=True, exist_ok=True)
    (root / "mailboxes").write_text("\n".join(boxes) + "\n")
    (root / "users").write_text("\n".join(users) + "\n")
    (root / "aliases").write_text("gone@branch.example ghost@moved.example\n")
    (root / "transport").write_text("moved.example error:5.1.1 this mailbox is gone\n")
    for directory in ("queue", "data"):
        (root / directory).mkdir()
    shutil.chown(root / "data", "postfix")
    for path in [root / "mail", *(root / "mail").rglob("*")]:
        os.chown(path, uid, gid)


@contextmanager
def post_office(addresses: Sequence[str]) -> Iterator[PostOffice]:
    """Install both if need be, serve these addresses; everything is gone afterwards."""
    installed = subprocess.run([INSTALL], capture_output=True, text=True, check=False)
    if installed.returncode or os.geteuid():
        pytest.fail(f"no postfix and dovecot to test against, or not root: {installed.stderr}")
    root = Path(tempfile.mkdtemp(prefix="troupe-mail-", dir=HOME))
    root.chmod(0o755)
    user = f"troupe{secrets.token_hex(4)}"
    subprocess.run(["useradd", "-r", "-M", "-s", "/usr/sbin/nologin", user], check=True)
    entry = subprocess.run(
        ["getent", "passwd", user], check=True, capture_output=True, text=True
    ).stdout.split(":")
    office = PostOffice(
        root, *(_free_port() for _ in range(3)), secrets.token_hex(8), issue(root, HOST)
    )
    started: list[subprocess.Popen[bytes]] = []
    postfix = ["/usr/sbin/postfix", "-c", str(root / "postfix")]
    try:
        _write(office, addresses, int(entry[2]), int(entry[3]))
        with (root / "start.log").open("wb") as log:
            subprocess.run([*postfix, "check"], stdout=log, stderr=log, check=False)
            commands = (
                [*LIFE, "/usr/sbin/dovecot", "-F", "-c", str(root / "dovecot.conf")],
                [*LIFE, *postfix, "start-fg"],
            )
            started += [subprocess.Popen(command, stdout=log, stderr=log) for command in commands]
        end = time.monotonic() + READY_WITHIN
        while not all(map(_listens, (office.port, office.tls_port, office.imap_port))):
            if time.monotonic() > end:
                told = (root / "start.log").read_text()
                pytest.fail(f"the mail servers have not started: {told}\n{office.log}")
            time.sleep(0.05)
        yield office
    finally:
        subprocess.run([*postfix, "stop"], capture_output=True, check=False)
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        subprocess.run(["userdel", user], capture_output=True, check=False)
        shutil.rmtree(root, ignore_errors=True)
