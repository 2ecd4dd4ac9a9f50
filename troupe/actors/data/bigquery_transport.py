"""The way to BigQuery when a tenant says where it is: checked hosts, whatever library connects.

A service account's file names its token service, and a connection may name endpoints. Google's
clients resolve and connect by themselves, so the outbound guard is put where connections are made:

- requests (REST, token service): connection classes of urllib3 whose socket goes to a checked
  address. TLS, SNI and the Host header keep the name, so nothing else changes. A redirect opens a
  connection like any other and is checked like it. Proxies and netrc of the environment are left
  out.
- gRPC (Storage Read): a channel to the checked addresses, with the name as authority and for TLS.
- The credentials refresh themselves over our session, also when a library brings another one.

At Google itself nobody else chooses the host, and the clients are used as they come.
"""

import socket
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import google.auth.transport.grpc
import google.auth.transport.requests
import grpc
import requests
import requests.adapters
import urllib3
import urllib3.connection
from google.oauth2 import service_account

from troupe.common.errors import PeerUnavailable
from troupe.common.outbound import HostNotAllowed, OutboundGuard

GOOGLE: Final = (".googleapis.com", "accounts.google.com")
UNBOUNDED: Final = -1


def is_google(url: str) -> bool:
    """Whether a URL leads to Google, over https."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme == "https" and (host.endswith(GOOGLE[0]) or host == GOOGLE[1])


def _opener(guard: OutboundGuard) -> Callable[[Any], socket.socket]:
    """What a urllib3 connection does instead of resolving by itself."""

    def open_socket(connection: Any) -> socket.socket:
        addresses = guard.resolve_blocking(connection.host, connection.port)
        plain = not isinstance(connection, urllib3.connection.HTTPSConnection)
        if plain and not all(map(guard.is_excepted, addresses)):
            raise HostNotAllowed(f"The host {connection.host} must be reached over https.")
        failed: OSError | None = None
        for address in addresses:
            try:
                return urllib3.util.connection.create_connection(
                    (str(address), connection.port),
                    connection.timeout,
                    socket_options=connection.socket_options,
                )
            except OSError as error:
                failed = error
        raise PeerUnavailable(
            f"{connection.host} does not answer on port {connection.port}."
        ) from failed

    return open_socket


class _GuardedAdapter(requests.adapters.HTTPAdapter):
    def __init__(self, guard: OutboundGuard) -> None:
        opener = _opener(guard)

        class Plain(urllib3.connection.HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return opener(self)

        class Secure(urllib3.connection.HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                return opener(self)

        class PlainPool(urllib3.HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(urllib3.HTTPSConnectionPool):
            ConnectionCls = Secure

        self._pools = {"http": PlainPool, "https": SecurePool}
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools


def guarded(session: requests.Session, guard: OutboundGuard) -> requests.Session:
    """The session, from now on connecting to checked addresses only."""
    session.trust_env = False
    adapter = _GuardedAdapter(guard)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def guarded_credentials(
    guard: OutboundGuard,
) -> type[service_account.Credentials]:
    """A class of credentials that speak to nobody but their own token service, if it is allowed.

    google-auth asks Google in the background where a token may be used, whatever the endpoints are;
    away from Google's own there is nothing to ask, and the token is nobody else's business.
    """
    request = google.auth.transport.requests.Request(guarded(requests.Session(), guard))

    class Secluded(service_account.Credentials):
        def refresh(self, _request: Any) -> None:
            super().refresh(request)  # type: ignore[no-untyped-call] # no annotations

        def _is_regional_access_boundary_lookup_required(self) -> bool:
            return False

    return Secluded


def authorized_session(
    credentials: service_account.Credentials, guard: OutboundGuard
) -> google.auth.transport.requests.AuthorizedSession:
    """A session for the REST client."""
    request = google.auth.transport.requests.Request(guarded(requests.Session(), guard))
    make: Callable[..., google.auth.transport.requests.AuthorizedSession] = (
        google.auth.transport.requests.AuthorizedSession
    )
    session = make(credentials, auth_request=request)
    guarded(session, guard)
    return session


def storage_channel(
    endpoint: str, credentials: service_account.Credentials, guard: OutboundGuard
) -> grpc.Channel:
    """A channel to a Storage Read API elsewhere; in plain text only where the operator allows it.

    Args:
        endpoint: ``host:port``.
        credentials: For a channel with TLS.
        guard: Checks the host.

    Raises:
        PeerUnavailable: The name does not resolve.
        HostNotAllowed: The host is in a network that is forbidden.
    """
    host, _, port = endpoint.rpartition(":")
    host = host.strip("[]")
    addresses = guard.resolve_blocking(host, int(port))
    version = addresses[0].version
    targets = [
        f"{address}:{port}" if version == 4 else f"[{address}]:{port}"
        for address in addresses
        if address.version == version
    ]
    target = f"ipv{version}:{','.join(targets)}"
    options = [
        ("grpc.max_receive_message_length", UNBOUNDED),
        ("grpc.enable_http_proxy", 0),
        ("grpc.default_authority", endpoint),
    ]
    if all(address.is_loopback for address in addresses):
        # A stand-in's, which the guard lets through only when the operator has allowed it.
        return grpc.insecure_channel(target, options=options)
    options.append(("grpc.ssl_target_name_override", host))
    request = google.auth.transport.requests.Request(guarded(requests.Session(), guard))
    make: Callable[..., grpc.Channel] = google.auth.transport.grpc.secure_authorized_channel
    return make(credentials, request, target, ssl_credentials=None, options=options)
