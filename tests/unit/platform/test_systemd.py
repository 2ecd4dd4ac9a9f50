"""What systemd hears, over a real socket of its kind."""

import os
import socket

import pytest
import trio

from troupe.platform.systemd import Systemd


@pytest.fixture
def manager(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "notify"))
        bound.setblocking(False)
        yield bound


def heard(manager):
    words = []
    while True:
        try:
            words.append(manager.recv(100).decode())
        except BlockingIOError:
            return words


def test_it_hears_that_we_are_ready_and_that_we_stop(manager):
    systemd = Systemd({"NOTIFY_SOCKET": manager.getsockname()})
    assert systemd.patience is None
    systemd.ready()
    systemd.stopping()
    assert heard(manager) == ["READY=1", "STOPPING=1"]


def test_an_abstract_address_is_one():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        name = f"troupe-test-{os.getpid()}"
        bound.bind("\0" + name)
        bound.setblocking(False)
        Systemd({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert heard(bound) == ["READY=1"]


async def test_it_hears_from_us_twice_as_often_as_it_wants(manager):
    systemd = Systemd({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "30000000"})
    with trio.move_on_after(61):
        await systemd.keep_alive()
    assert heard(manager) == ["WATCHDOG=1"] * 5


@pytest.mark.parametrize(
    "environment",
    [
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "0"},
        {},
    ],
)
async def test_a_watchdog_that_is_not_meant_for_us_is_left_alone(manager, environment):
    systemd = Systemd({"NOTIFY_SOCKET": manager.getsockname(), **environment})
    with trio.fail_after(1):
        await systemd.keep_alive()
    assert heard(manager) == []


def test_without_systemd_and_without_its_socket_nothing_happens(tmp_path):
    Systemd({}).ready()
    Systemd({"WATCHDOG_USEC": "1000000"}).stopping()
    Systemd({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
