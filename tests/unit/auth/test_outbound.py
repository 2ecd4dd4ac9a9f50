import ipaddress

import pytest

from troupe.common.errors import PeerUnavailable
from troupe.common.outbound import HostNotAllowed, OutboundGuard


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "172.15.255.255", "172.32.0.0", "100.128.0.0", "2606:4700::1111"],
)
def test_public_addresses(address: str) -> None:
    assert OutboundGuard().is_allowed(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:0:1::",
        "2001:db8::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "::127.0.0.1",
    ],
)
def test_addresses_that_nobody_may_name(address: str) -> None:
    assert not OutboundGuard().is_allowed(ipaddress.ip_address(address))


def test_the_operator_allows_a_network() -> None:
    guard = OutboundGuard([ipaddress.ip_network("10.1.0.0/16")])
    assert guard.is_allowed(ipaddress.ip_address("10.1.2.3"))
    assert not guard.is_allowed(ipaddress.ip_address("10.2.0.1"))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::1]", "::1"]
)
async def test_loopback_in_every_notation(host: str) -> None:
    with pytest.raises((HostNotAllowed, PeerUnavailable)):
        await OutboundGuard().resolve(host, 443)


async def test_a_numeric_host_needs_no_look_up() -> None:
    guard = OutboundGuard([ipaddress.ip_network("127.0.0.0/8")])
    assert await guard.resolve("127.0.0.1", 80) == (ipaddress.ip_address("127.0.0.1"),)


NOTATIONS = {
    "127.1": "two parts",
    "127.0.1": "three parts",
    "2130706433": "one number",
    "0x7f000001": "hexadecimal",
    "0x7f.1": "mixed",
    "0177.0.0.1": "octal",
    "127.0.0.1.": "with the root's dot",
    "①②⑦.⓪.⓪.①": "circled digits",
    "１２７.０.０.１": "full-width digits",  # noqa: RUF001
    "127。0。0。1": "ideographic stops",
    "LOCALHOST": "a name in capitals",
    "::1": "IPv6",
    "::ffff:127.0.0.1": "mapped",
    "::ffff:7f00:1": "mapped, in hexadecimal",
    "::127.0.0.1": "compatible",
    "64:ff9b::7f00:1": "NAT64",
    "2002:7f00:1::": "6to4",
    "fe80::1%lo": "with a zone",
    "0": "this host",
    "0.0.0.0": "this host, in full",
    "224.0.0.1": "multicast",
    "169.254.169.254": "a metadata service",
    "[::1]": "in brackets",
    "": "nothing",
}


@pytest.mark.parametrize("host", NOTATIONS, ids=NOTATIONS.get)
async def test_no_notation_gets_past_the_systems_own_resolver(host: str) -> None:
    with pytest.raises((HostNotAllowed, PeerUnavailable)):
        await OutboundGuard().resolve(host, 443)


@pytest.mark.parametrize(
    "answer",
    [
        ["10.0.0.1"],
        ["8.8.8.8", "10.0.0.1"],
        ["8.8.8.8", "::ffff:10.0.0.1"],
        ["2606:4700::1111", "64:ff9b::a00:1"],
        ["fe80::1%eth0"],
        ["224.0.0.1"],
        ["2002:a00:1::"],
    ],
)
async def test_a_hostile_resolver(answer: list[str]) -> None:
    """One forbidden address among many refuses the name, in every form that a resolver may give."""
    guard = OutboundGuard(look_up=lambda _host, _port: answer)
    with pytest.raises(HostNotAllowed):
        await guard.resolve("rebind.example", 443)
    with pytest.raises(HostNotAllowed):
        guard.resolve_blocking("rebind.example", 443)


@pytest.mark.parametrize("answer", [[], ["not an address"], ["999.1.1.1"]])
async def test_a_resolver_that_makes_no_sense(answer: list[str]) -> None:
    guard = OutboundGuard(look_up=lambda _host, _port: answer)
    with pytest.raises(PeerUnavailable):
        await guard.resolve("odd.example", 443)
