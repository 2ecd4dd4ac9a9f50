"""Hosts of their own for a test: network namespaces, wired to one bridge.

::

    namespace of host a ── eth0 ═══ veth ═══ a ─┐
                                                ├─ bridge 10.77.0.1, namespace of the switch
    namespace of host b ── eth0 ═══ veth ═══ b ─┘

A host reaches the bridge's address and the other hosts, and nothing else: there is no way out of
these namespaces. What the hosts have in common (a database, say) listens on the bridge's address,
on a socket that is made there by a thread that enters the namespace; a socket stays in the
namespace it was made in, whoever uses it afterwards.

A host is cut off in two ways. With its link *down* it knows at once that there is no way. In a
*black hole* everything looks as before, and nothing arrives: the switch's port drops every frame.

Needs root and iproute2 (``ops/install_network.sh``).
"""

import ctypes
import os
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import trio

from troupe.common.units import SECONDS

SWITCH_ADDRESS: Final = "10.77.0.1"
_BRIDGE: Final = "bridge"
_NAMESPACES: Final = Path("/var/run/netns")
_COMMAND_DEADLINE: Final = 10 * SECONDS
_CLONE_NEWNET: Final = 0x40000000  # setns(2)
_DISABLED, _FORWARDING = "0", "3"  # states of a bridge's port, bridge(8)

T = TypeVar("T")


class Host:
    """One network namespace.

    Attributes:
        name: Its name in the test.
        namespace: Its name in the kernel.
        address: On the network.
    """

    def __init__(self, name: str, namespace: str, switch: str, address: str) -> None:
        self.name = name
        self.namespace = namespace
        self.address = address
        self._switch = switch

    @property
    def prefix(self) -> list[str]:
        """Put before a command, it runs on this host; the process id stays that of the command."""
        return ["ip", "netns", "exec", self.namespace]

    async def link_down(self) -> None:
        """The cable is pulled: the host notices."""
        await _ip("-n", self.namespace, "link", "set", "dev", "eth0", "down")

    async def black_hole(self) -> None:
        """Nothing arrives any more, in either direction, and nobody notices."""
        await _bridge(self._switch, self.name, _DISABLED)

    async def heal(self) -> None:
        """Undo whatever was done to the link."""
        await _ip("-n", self.namespace, "link", "set", "dev", "eth0", "up")
        await _bridge(self._switch, self.name, _FORWARDING)


class Network:
    """A switch and the hosts on it."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._switch = f"{label}-switch"
        self.hosts: dict[str, Host] = {}

    async def open(self) -> None:
        """Make the switch."""
        await _ip("netns", "add", self._switch)
        await _ip("-n", self._switch, "link", "set", "lo", "up")
        await _ip("-n", self._switch, "link", "add", _BRIDGE, "type", "bridge")
        await _ip("-n", self._switch, "address", "add", f"{SWITCH_ADDRESS}/24", "dev", _BRIDGE)
        await _ip("-n", self._switch, "link", "set", _BRIDGE, "up")

    async def add(self, name: str) -> Host:
        """Make a host; the switch's port has its name, so it has at most 15 characters."""
        address = f"10.77.0.{len(self.hosts) + 2}"
        host = Host(name, f"{self._label}-{name}", self._switch, address)
        await _ip("netns", "add", host.namespace)
        self.hosts[name] = host
        inside = ("-n", host.namespace)
        await _ip(*inside, "link", "set", "lo", "up")
        pair = ("type", "veth", "peer", "name", name, "netns", self._switch)
        await _ip(*inside, "link", "add", "eth0", *pair)
        await _ip(*inside, "address", "add", f"{address}/24", "dev", "eth0")
        await _ip(*inside, "link", "set", "eth0", "up")
        await _ip("-n", self._switch, "link", "set", "dev", name, "master", _BRIDGE, "up")
        return host

    async def listen(self, port: int = 0) -> trio.SocketListener:
        """A listener on the bridge's address."""

        def make() -> socket.socket:
            made = socket.create_server((SWITCH_ADDRESS, port))
            made.setblocking(False)
            return made

        made = await trio.to_thread.run_sync(_in_namespace, self._switch, make)
        return trio.SocketListener(trio.socket.from_stdlib_socket(made))

    async def close(self) -> None:
        """Remove everything; what still runs in a namespace keeps it alive without a name."""
        for host in self.hosts.values():
            await _ip("netns", "delete", host.namespace)
        await _ip("netns", "delete", self._switch)


@asynccontextmanager
async def open_network() -> AsyncIterator[Network]:
    """A network without hosts."""
    network = Network(f"troupe-{os.getpid()}")
    await network.open()
    try:
        yield network
    finally:
        with trio.CancelScope(shield=True):
            await network.close()


async def _ip(*arguments: str) -> None:
    with trio.fail_after(_COMMAND_DEADLINE):
        await trio.run_process(["ip", *arguments])


async def _bridge(namespace: str, port: str, state: str) -> None:
    with trio.fail_after(_COMMAND_DEADLINE):
        await trio.run_process(
            ["bridge", "-n", namespace, "link", "set", "dev", port, "state", state]
        )


def _in_namespace(namespace: str, function: Callable[[], T]) -> T:
    """Call a function in a network namespace; a thread of its own enters it and ends there."""

    def enter() -> T:
        with (_NAMESPACES / namespace).open() as entrance:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(entrance.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"setns into {namespace}")
        return function()

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(enter).result()
