"""A child process that speaks the control protocol, up to the point where it behaves strangely.

``python strange_child.py MODE DESCRIPTOR NAME``, with nothing but the standard library, so that it
starts at once. Each mode is a function of this module.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any


class Conversation:
    """The control stream, blocking."""

    def __init__(self, descriptor: int) -> None:
        self.socket = socket.socket(fileno=descriptor)
        self._lines = self.socket.makefile("r", encoding="utf-8")
        self.begin = self.hear()

    def hear(self) -> dict[str, Any]:
        """The next message; none is the end of this process."""
        line = self._lines.readline()
        if not line:
            os._exit(9)
        heard: dict[str, Any] = json.loads(line)
        return heard

    def say(self, **message: Any) -> None:
        """One message."""
        self.socket.sendall(json.dumps({"version": 1, **message}).encode() + b"\n")

    def behave(self) -> None:
        """Be a good child until it is told to stop."""
        self.say(type="ready")
        while (message := self.hear())["type"] != "stop":
            if message["type"] == "ping":
                self.say(type="pong", sequence=message["sequence"], lag=0.0)
        os._exit(0)


def good(child: Conversation) -> None:
    child.behave()


def crash(child: Conversation) -> None:
    child.say(type="ready")
    os._exit(3)


def late_crash(child: Conversation) -> None:
    child.say(type="ready")
    time.sleep(0.3)
    os._exit(3)


def finish(child: Conversation) -> None:
    child.say(type="ready")
    os._exit(0)


def never_ready(_child: Conversation) -> None:
    os._exit(0)


def garbage(child: Conversation) -> None:
    child.say(type="ready")
    child.socket.sendall(b"canary \xff\n")
    time.sleep(60)


def endless(child: Conversation) -> None:
    child.say(type="ready")
    while True:
        child.socket.sendall(b"x" * 65536)


def no_tree(child: Conversation) -> None:
    child.say(type="ready")
    child.say(type="report", tree={"name": "canary"})
    time.sleep(60)


def wrong_pong(child: Conversation) -> None:
    child.say(type="ready")
    child.say(type="pong", sequence=4711, lag=0.0)
    time.sleep(60)


def hang_up(child: Conversation) -> None:
    child.say(type="ready")
    child.socket.shutdown(socket.SHUT_RDWR)
    time.sleep(60)


def mute(child: Conversation) -> None:
    child.say(type="ready")
    time.sleep(60)


def deaf_to_stop(child: Conversation) -> None:
    child.say(type="ready")
    while True:
        message = child.hear()
        if message["type"] == "ping":
            child.say(type="pong", sequence=message["sequence"], lag=0.0)


def blame_database(child: Conversation) -> None:
    child.say(type="failed", fault="database", reason="PostgreSQL is not there")
    os._exit(1)


def parent(child: Conversation) -> None:
    """Has a child of its own, which holds the pipes, and dies."""
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    sys.stderr.write(f"grandchild {grandchild.pid}\n")
    child.say(type="ready")
    os.kill(os.getpid(), signal.SIGKILL)


def talkative(child: Conversation) -> None:
    sys.stdout.buffer.write(b"plain\n\xff\xfe\n\n" + b"y" * 200_000)
    sys.stdout.flush()
    events = [
        {"event": "something_happened", "level": "error", "logger": "their.logger", "key": 7},
        {"neither": "event", "nor": "level"},
    ]
    sys.stderr.write("".join(json.dumps(event) + "\n" for event in events) + "{broken\n")
    sys.stderr.flush()
    child.behave()


if __name__ == "__main__":
    globals()[sys.argv[1]](Conversation(int(sys.argv[2])))
