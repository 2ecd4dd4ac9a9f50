"""Where the program may connect to on a tenant's word.

A tenant names hosts: of its identity provider, its SFTP server, its mail server. Taken at its word,
the program would knock on anything that it can reach and the tenant cannot: the database, a cloud's
metadata service, the operator's other machines. So every such host passes here.

The name is resolved once, every address it has is checked against our own list, and the caller
connects to the checked address, not to the name: a second look-up could answer differently (DNS
rebinding). One forbidden address among many refuses the name. Notations (``127.1``, ``2130706433``,
circled digits) need no care, because what is checked is what the resolver made of them. IPv4
addresses inside IPv6 (mapped, NAT64, 6to4, Teredo) are not looked into but refused as a whole:
nothing that is served publicly needs them.

`ipaddress.is_global` is not used: it calls multicast, NAT64 and 6to4 addresses global.

An operator whose identity provider lives in the private network allows that network by name
(``auth.allow_private_peers``).
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import trio

from troupe.common.errors import PeerRefused, PeerUnavailable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
LookUp = Callable[[str, int], Sequence[str]]
"""Host and port to addresses as text; blocks. Raises OSError or UnicodeError for an unknown
host."""

MAX_LOOK_UPS: Final = 16
"""Names that are looked up at a time: a name server that does not answer holds a thread for
long."""

_DENIED: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; metadata services of some clouds
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local; metadata services
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "2001::/23",  # protocol assignments, Teredo, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""The only part of IPv6 that is assigned to public hosts."""


class HostNotAllowed(PeerRefused):
    """The host is not one that a tenant may have the program connect to."""


def system_look_up(host: str, port: int) -> list[str]:
    """What the system's resolver says."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class OutboundGuard:
    """Checks hosts that tenants name.

    Args:
        allowed: Networks inside the forbidden ranges that the operator allows.
        look_up: Asks for a host's addresses; tests bring a hostile one.
    """

    def __init__(self, allowed: Iterable[Network] = (), look_up: LookUp = system_look_up) -> None:
        self._allowed = tuple(allowed)
        self._look_up = look_up
        self._threads = trio.CapacityLimiter(MAX_LOOK_UPS)

    def is_allowed(self, address: Address) -> bool:
        """Whether the program may connect to this address."""
        if self.is_excepted(address):
            return True
        if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
            return False
        return not any(address in network for network in _DENIED)

    def is_excepted(self, address: Address) -> bool:
        """Whether the operator has named the address's network."""
        return any(address in network for network in self._allowed)

    async def resolve(self, host: str, port: int) -> tuple[Address, ...]:
        """The addresses of a host, all of them checked; connect to one of these, in this order.

        The caller sets the deadline.

        Args:
            host: A name or an address.
            port: TCP port.

        Raises:
            PeerUnavailable: The name does not resolve.
            HostNotAllowed: One of its addresses is forbidden.
        """
        return await trio.to_thread.run_sync(
            self.resolve_blocking, host, port, limiter=self._threads, abandon_on_cancel=True
        )

    def resolve_blocking(self, host: str, port: int) -> tuple[Address, ...]:
        """As `resolve`, for a worker thread."""
        try:
            found = self._look_up(host, port)
            addresses = tuple(
                dict.fromkeys(ipaddress.ip_address(text.partition("%")[0]) for text in found)
            )
        except (OSError, UnicodeError, ValueError):
            raise PeerUnavailable(f"The host {host} is not known.") from None
        if not addresses:
            raise PeerUnavailable(f"The host {host} has no address.")
        if not all(self.is_allowed(address) for address in addresses):
            raise HostNotAllowed(
                f"The host {host} is in a private or reserved network; "
                "the operator can allow it (auth.allow_private_peers)."
            )
        return addresses

    async def connect(self, host: str, port: int) -> socket.socket:
        """A connected, non-blocking socket to the first checked address that answers.

        The caller sets the deadline.

        Raises:
            PeerUnavailable: The name does not resolve, or nobody answers.
            HostNotAllowed: One of its addresses is forbidden.
        """
        refused: OSError | None = None
        for address in await self.resolve(host, port):
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            attempt = trio.socket.socket(family, socket.SOCK_STREAM)
            try:
                await attempt.connect((str(address), port))
            except OSError as error:
                attempt.close()
                refused = error
            except BaseException:
                attempt.close()
                raise
            else:
                connected = socket.socket(fileno=attempt.detach())
                connected.setblocking(False)
                return connected
        raise PeerUnavailable(f"{host} does not answer on port {port}.") from refused
