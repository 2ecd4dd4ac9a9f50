"""Sessions with mail servers that speak TLS, well or badly."""

import ipaddress
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from troupe.common.bridge import aio
from troupe.common.connections import SmtpConfig
from troupe.common.errors import CredentialsRejected, PeerRefused, PeerUnavailable
from troupe.common.mail_server import accepts_sender, mail_session
from troupe.common.outbound import OutboundGuard

pytestmark = [
    # What aiosmtpd thinks of a server that speaks TLS from the start, and how it ends one.
    pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

NAME = "mail.shop.example"
PASSWORD = "right"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """For the name, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    directory = tmp_path_factory.mktemp("certificate")
    chain, private = directory / "chain.pem", directory / "key.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return chain, private


def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, login: Any) -> Any:
    return AuthResult(success=login.password == PASSWORD.encode(), handled=False)


@contextmanager
def server(certificate: tuple[Path, Path], security: str) -> Iterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    options: dict[str, Any] = {"authenticator": authenticate, "auth_required": True}
    if security == "starttls":
        options |= {"tls_context": context, "require_starttls": True}
    else:
        options |= {"ssl_context": context, "auth_require_tls": False}
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    controller = Controller(Sink(), hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


def guard() -> OutboundGuard:
    return OutboundGuard([ipaddress.ip_network("127.0.0.0/8")], lambda _host, _port: ["127.0.0.1"])


def config(port: int, **changes: Any) -> SmtpConfig:
    given = {"host": NAME, "port": port, "username": "ada", "sender": "a@shop.example", **changes}
    return SmtpConfig.model_validate(given)


@pytest.fixture
def trust(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate[0])


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_it_is_let_in(
    bridge: None, certificate: tuple[Path, Path], trust: ssl.SSLContext, security: str
) -> None:
    with server(certificate, security) as port:
        settings = config(port, security=security)
        async with mail_session(settings, PASSWORD.encode(), guard(), tls=trust) as client:
            await accepts_sender(client, settings.sender)
            assert (await aio(client.noop())).code == 250


@pytest.mark.parametrize(
    ("security", "changes", "secret", "trusted", "kind", "says"),
    [
        ("starttls", {}, b"wrong", True, CredentialsRejected, "535"),
        ("starttls", {}, None, True, CredentialsRejected, "no password"),
        ("starttls", {}, b"right", False, PeerRefused, "certificate does not hold: self"),
        ("tls", {}, b"right", False, PeerRefused, "certificate does not hold: self"),
        ("tls", {"host": "other.example"}, b"right", True, PeerRefused, "does not hold: Hostname"),
        ("tls", {"security": "starttls"}, b"right", True, PeerUnavailable, "answer"),
        ("starttls", {"security": "tls"}, b"right", True, PeerRefused, "does not speak TLS"),
    ],
)
async def test_it_is_not_let_in(
    bridge: None,
    certificate: tuple[Path, Path],
    trust: ssl.SSLContext,
    security: str,
    changes: dict[str, Any],
    secret: bytes | None,
    trusted: bool,
    kind: type[Exception],
    says: str,
) -> None:
    with server(certificate, security) as port:
        settings = config(port, **{"security": security, **changes})
        with pytest.raises(kind, match=says) as caught:
            async with mail_session(
                settings,
                secret,
                guard(),
                tls=trust if trusted else None,
                deadline=3 if kind is PeerUnavailable else 15,
            ):
                pass
        assert "right" not in str(caught.value)
