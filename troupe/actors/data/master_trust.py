"""Which host key a tenant's SFTP server has: asked, confirmed by a person, pinned from then on.

Nothing is fetched from a server whose key is not pinned, and somebody has to pin it. To be handed
the key by the server's operator is best; what people really do is to look at what the server shows
and compare its fingerprint. So the key that is shown now can be seen, and is pinned when an
administrator names that very fingerprint: whoever answers the second time must show the key that
was seen the first time. Seeing it costs the server nothing to know: no account is named and no
secret is sent, the connection ends with the key exchange.

A server that has a key of the pinned kind is asked for that one, else for the strongest it has.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

import asyncssh
import trio

from troupe.actors.data.master_errors import (
    AnotherHostKey,
    HostKeyNotPinned,
    ServerStalled,
    sorted_errors,
)
from troupe.actors.data.master_ssh import HOST_KEY_ALGORITHMS, at_some_address, pinned_key
from troupe.common.audit_trail import Who
from troupe.common.bridge import aio
from troupe.common.connections import SftpConfig, pin_host_key, read_connection
from troupe.common.database import Database
from troupe.common.errors import PeerRefused
from troupe.common.ids import TenantId
from troupe.common.outbound import OutboundGuard
from troupe.common.units import SECONDS

ASK_DEADLINE: Final = 15 * SECONDS


@dataclass(frozen=True, slots=True)
class ShownKey:
    """The host key that a server shows now.

    Attributes:
        host: The server's name.
        port: TCP port.
        algorithm: Kind of the key.
        fingerprint: ``SHA256:…``, as ``ssh-keygen -l`` prints it.
        public_key: In OpenSSH's form.
        pinned_fingerprint: Of the key that it must show; None: none is pinned.
        version: Of the connection.
    """

    host: str
    port: int
    algorithm: str
    fingerprint: str
    public_key: str
    pinned_fingerprint: str | None
    version: int

    @property
    def state(self) -> Literal["unpinned", "pinned", "changed"]:
        """Whether the key is the pinned one."""
        if self.pinned_fingerprint is None:
            return "unpinned"
        return "pinned" if self.fingerprint == self.pinned_fingerprint else "changed"


async def shown_key(
    database: Database, tenant: TenantId, guard: OutboundGuard, seconds: float = ASK_DEADLINE
) -> ShownKey:
    """Ask a tenant's server for its host key.

    Args:
        database: Where the connection is.
        tenant: Whose.
        guard: Checks the host.
        seconds: For everything together.

    Raises:
        NotConnected: The tenant has no SFTP connection.
        HostNotAllowed: The host is in a network that is forbidden.
        PeerRefused: The server has no key that can be trusted.
        PeerUnavailable: The server cannot be reached, or does not answer in time.
    """
    connection = await read_connection(database, tenant, "sftp")
    config = connection.config
    if not isinstance(config, SftpConfig):
        raise TypeError(f"an sftp connection has {type(config).__name__}")
    try:
        pinned = pinned_key(config)
    except HostKeyNotPinned:
        pinned = None
    key = await _ask(config, pinned, guard, seconds)
    return ShownKey(
        host=config.host,
        port=config.port,
        algorithm=key.get_algorithm(),
        fingerprint=key.get_fingerprint(),
        public_key=" ".join(key.export_public_key().decode().split()[:2]),
        pinned_fingerprint=None if pinned is None else pinned.get_fingerprint(),
        version=connection.version,
    )


async def trust_key(
    database: Database,
    tenant: TenantId,
    guard: OutboundGuard,
    *,
    fingerprint: str,
    actor: Who,
) -> ShownKey:
    """Pin the key that a tenant's server shows, if it is the one that was confirmed.

    Args:
        database: Where the connection is.
        tenant: Whose.
        guard: Checks the host.
        fingerprint: Of the key that somebody has compared.
        actor: Who that was: kind and identifier.

    Raises:
        AnotherHostKey: The server shows another one.
        PreconditionFailed: The connection was changed meanwhile.
        PeerError: As `shown_key`.
    """
    shown = await shown_key(database, tenant, guard)
    if shown.fingerprint != fingerprint:
        raise AnotherHostKey(
            f"The server shows another host key now ({shown.fingerprint}); nothing was pinned."
        )
    if shown.state == "pinned":
        return shown
    await pin_host_key(
        database,
        tenant,
        host_key=shown.public_key,
        fingerprint=fingerprint,
        version=shown.version,
        actor=actor,
    )
    return replace(shown, pinned_fingerprint=shown.fingerprint, version=shown.version + 1)


async def _ask(
    config: SftpConfig, pinned: asyncssh.SSHKey | None, guard: OutboundGuard, seconds: float
) -> asyncssh.SSHKey:
    own = [] if pinned is None else [name.decode() for name in pinned.sig_algorithms]
    first = [name for name in own if name in HOST_KEY_ALGORITHMS]
    algorithms = [*first, *(name for name in HOST_KEY_ALGORITHMS if name not in first)]
    what = "asking for its host key"

    async def attempt(address: str, left: float) -> asyncssh.SSHKey:
        question = asyncssh.get_server_host_key(
            address, config.port, server_host_key_algs=algorithms, config=None
        )
        with trio.move_on_after(left), sorted_errors(what):
            key = await aio(question)
            if key is None:
                raise PeerRefused("The SFTP server shows no host key.")
            return key
        raise ServerStalled(f"The SFTP server stopped answering while {what}.")

    return await at_some_address(config.host, config.port, guard, seconds, attempt)
