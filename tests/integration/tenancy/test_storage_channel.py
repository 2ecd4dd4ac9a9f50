"""A Storage Read API elsewhere, over real TLS: reached by address, trusted by name."""

import ipaddress
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.cloud.bigquery_storage import BigQueryReadClient
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import (
    BigQueryReadGrpcTransport,
)
from google.cloud.bigquery_storage_v1.types import ArrowRecordBatch, ReadRowsResponse
from google.oauth2 import service_account

from troupe.actors.data.bigquery_errors import MessageTooLarge, sorted_errors
from troupe.actors.data.bigquery_transport import (
    MAX_MESSAGE,
    guarded_credentials,
    storage_channel,
)
from troupe.common.errors import PeerUnavailable
from troupe.common.outbound import HostNotAllowed, OutboundGuard
from troupe.common.units import KiB
from troupe_demo.bigquery import create_service_account

NAME: Final = "storage.shop.example"
TOKEN: Final = "the-tenants-token"
DEADLINE: Final = 10
METHOD: Final = "/google.cloud.bigquery.storage.v1.BigQueryRead/ReadRows"


@dataclass(frozen=True)
class Issuer:
    """Signs certificates.

    Attributes:
        certificate: To be trusted, in PEM.
    """

    key: ec.EllipticCurvePrivateKey
    name: x509.Name
    certificate: bytes

    @classmethod
    def new(cls) -> "Issuer":
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an issuer")])
        made = (
            _builder(name, key)
            .issuer_name(name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(key, name, made.public_bytes(serialization.Encoding.PEM))

    def issue(self, names: list[x509.GeneralName]) -> tuple[bytes, bytes]:
        """A private key and a certificate for it, in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        common = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
        made = (
            _builder(common, key)
            .issuer_name(self.name)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return private, made.public_bytes(serialization.Encoding.PEM)


def _builder(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )


@dataclass
class Storage(grpc.GenericRpcHandler):
    """Answers a read with one message, and remembers who asked for what.

    Attributes:
        size: Bytes of the message's batch.
        calls: The authority and the credentials of each call that came through.
    """

    size: int = 1 * KiB
    port: int = 0
    calls: list[tuple[str, str]] = field(default_factory=list)

    def service(self, details: Any) -> Any:
        if details.method != METHOD:
            return None
        given = dict(details.invocation_metadata)

        def read(_request: bytes, context: Any) -> Iterator[bytes]:
            self.calls.append((str(given.get("authorization")), context.peer()))
            batch = ArrowRecordBatch(serialized_record_batch=bytes(self.size))
            yield ReadRowsResponse.serialize(ReadRowsResponse(arrow_record_batch=batch))

        return grpc.unary_stream_rpc_method_handler(read)


@contextmanager
def storage(private: bytes, certificate: bytes) -> Iterator[Storage]:
    handler = Storage()
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads, handlers=[handler], options=[("grpc.so_reuseport", 0)])
        secured = grpc.ssl_server_credentials([(private, certificate)])
        handler.port = server.add_secure_port("127.0.0.1:0", secured)
        server.start()
        try:
            yield handler
        finally:
            server.stop(None).wait()


@pytest.fixture
def account(tmp_path: Path) -> service_account.Credentials:
    """Credentials that have a token already, so that nobody need be asked for one."""
    stored = create_service_account(tmp_path, "shop", "https://token.shop.example/token")
    account = guarded_credentials(OutboundGuard()).from_service_account_info(stored)
    account.token = TOKEN
    assert isinstance(account, service_account.Credentials)
    return account


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer.new()


class Resolver:
    """Knows one name."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, host: str, _port: int) -> list[str]:
        self.asked.append(host)
        return ["127.0.0.1"]


def read(
    there: Storage, account: service_account.Credentials, resolver: Resolver, roots: bytes
) -> list[int]:
    """Sizes of the batches that come, by the client that the product uses."""
    guard = OutboundGuard([ipaddress.ip_network("127.0.0.1/32")], resolver)
    channel = storage_channel(f"{NAME}:{there.port}", account, guard, roots=roots)
    with closing(channel), sorted_errors("reading"):
        client = BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))
        rows = client.read_rows("a stream", 0, retry=None, timeout=DEADLINE)
        return [len(one.arrow_record_batch.serialized_record_batch) for one in rows]


def test_the_certificate_is_the_names_and_the_address_was_checked(
    issuer: Issuer, account: service_account.Credentials
) -> None:
    resolver = Resolver()
    with storage(*issuer.issue([x509.DNSName(NAME)])) as there:
        assert read(there, account, resolver, issuer.certificate) == [1 * KiB]
        [(authorization, _)] = there.calls
    assert authorization == f"Bearer {TOKEN}"
    assert resolver.asked == [NAME], "the name is looked up once, by the guard"


@pytest.mark.parametrize(
    "names",
    [
        [x509.DNSName("elsewhere.example")],
        [x509.DNSName("*.example")],
        [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")],
    ],
    ids=["another name", "too wide a pattern", "the address that is connected to"],
)
def test_whoever_cannot_prove_the_name_gets_nothing(
    issuer: Issuer, account: service_account.Credentials, names: list[x509.GeneralName]
) -> None:
    with storage(*issuer.issue(names)) as there:
        with pytest.raises(PeerUnavailable):
            read(there, account, Resolver(), issuer.certificate)
        assert there.calls == []


def test_the_issuer_must_be_trusted(issuer: Issuer, account: service_account.Credentials) -> None:
    with storage(*Issuer.new().issue([x509.DNSName(NAME)])) as there:
        with pytest.raises(PeerUnavailable):
            read(there, account, Resolver(), issuer.certificate)
        assert there.calls == []


def test_a_private_address_is_refused_before_anything_is_sent(
    account: service_account.Credentials,
) -> None:
    guard = OutboundGuard(look_up=lambda _host, _port: ["8.8.8.8", "10.0.0.1"])
    with pytest.raises(HostNotAllowed):
        storage_channel(f"{NAME}:443", account, guard)


def test_a_message_that_is_too_large_is_refused_in_clear_words(
    issuer: Issuer, account: service_account.Credentials
) -> None:
    with storage(*issuer.issue([x509.DNSName(NAME)])) as there:
        there.size = MAX_MESSAGE - 1 * KiB
        assert read(there, account, Resolver(), issuer.certificate) == [there.size]
        there.size = MAX_MESSAGE
        with pytest.raises(MessageTooLarge, match="more in one message than we take") as refused:
            read(there, account, Resolver(), issuer.certificate)
        assert not isinstance(refused.value, PeerUnavailable), "it is not worth a retry"
