"""Connections to hosts that tenants name: to the address that was checked, whoever connects."""

import ipaddress
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
import trio

from troupe.actors.auth.peer_http import PeerHttp
from troupe.actors.data.bigquery_transport import guarded, guarded_credentials
from troupe.common.errors import PeerUnavailable
from troupe.common.outbound import HostNotAllowed, OutboundGuard
from troupe_demo.bigquery import create_service_account

HERE = ipaddress.ip_network("127.0.0.1/32")


class Recorder(BaseHTTPRequestHandler):
    """Answers JSON, or redirects where the test wants."""

    redirect_to = ""
    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(f"{self.headers['Host']} {self.path}")
        if self.redirect_to and self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", self.redirect_to)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = b'{"ok": true}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Be quiet."""


@contextmanager
def server(host: str, redirect_to: str = "") -> Iterator[tuple[int, list[str]]]:
    seen: list[str] = []
    handler = type("Handler", (Recorder,), {"redirect_to": redirect_to, "seen": seen})
    listening = ThreadingHTTPServer((host, 0), handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield listening.server_address[1], seen
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


class Rebinding:
    """A resolver that says something harmless first, and loopback's other half from then on."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, _host: str, _port: int) -> list[str]:
        self.asked += 1
        return ["127.0.0.1"] if self.asked == 1 else ["127.0.0.2"]


def test_requests_connects_to_what_was_checked() -> None:
    with server("127.0.0.1") as (port, seen), server("127.0.0.2") as (other_port, others):
        resolver = Rebinding()
        with guarded(requests.Session(), OutboundGuard([HERE], resolver)) as session:
            url = f"http://shop.example:{port}/"
            assert session.get(url, timeout=5).json() == {"ok": True}
            assert resolver.asked == 1
            assert seen == [f"shop.example:{port} /"]
            # A second connection asks again, and what is said now is not allowed.
            session.close()
            with pytest.raises(HostNotAllowed):
                session.get(f"http://shop.example:{other_port}/", timeout=5)
        assert others == []


def test_requests_checks_redirects() -> None:
    with server("127.0.0.2") as (inside, reached):
        target = f"http://127.0.0.2:{inside}/secret"
        with (
            server("127.0.0.1", target) as (port, _),
            guarded(requests.Session(), OutboundGuard([HERE])) as session,
            pytest.raises(HostNotAllowed),
        ):
            session.get(f"http://127.0.0.1:{port}/redirect", timeout=5)
        assert reached == []


def test_requests_does_not_ask_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with server("127.0.0.2") as (proxy, reached), server("127.0.0.1") as (port, seen):
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.2:{proxy}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.2:{proxy}")
        with guarded(requests.Session(), OutboundGuard([HERE])) as session:
            assert session.get(f"http://127.0.0.1:{port}/", timeout=5).status_code == 200
        assert len(seen) == 1
        assert reached == []


def test_plain_http_needs_the_operators_word() -> None:
    public = OutboundGuard(look_up=lambda _host, _port: ["8.8.8.8"])
    with (
        guarded(requests.Session(), public) as session,
        pytest.raises(HostNotAllowed, match="https"),
    ):
        session.get("http://shop.example/", timeout=5)


def test_nobody_answers() -> None:
    with server("127.0.0.1") as (port, _):
        pass
    with (
        guarded(requests.Session(), OutboundGuard([HERE])) as session,
        pytest.raises(PeerUnavailable, match="does not answer"),
    ):
        session.get(f"http://127.0.0.1:{port}/", timeout=5)


@pytest.mark.parametrize(
    "token_uri",
    [
        "http://169.254.169.254/token",
        "http://10.0.0.1/token",
        "https://127.1/token",
        "https://[::ffff:7f00:1]/token",
    ],
)
def test_credentials_refresh_themselves_through_the_guard(token_uri: str, tmp_path: Any) -> None:
    account = create_service_account(tmp_path, "shop", token_uri)
    credentials = guarded_credentials(OutboundGuard()).from_service_account_info(account)
    copied = credentials.with_scopes(["x"]).with_quota_project("y")
    for one in (credentials, copied):
        with pytest.raises((HostNotAllowed, PeerUnavailable)):
            # Whatever session a library brings along: it is not used.
            one.refresh(lambda *_a, **_k: pytest.fail("used another session"))


async def test_identity_providers_get_no_second_look() -> None:
    with server("127.0.0.1") as (port, seen):
        resolver = Rebinding()
        async with PeerHttp(OutboundGuard([HERE], resolver)) as http:
            assert await http.get(f"http://idp.example:{port}/doc") == {"ok": True}
            assert seen == [f"idp.example:{port} /doc"]
            with pytest.raises(HostNotAllowed):
                await http.get(f"http://idp.example:{port}/doc")
        assert len(seen) == 1


async def test_a_socket_leads_to_what_was_checked() -> None:
    with server("127.0.0.1") as (port, _):
        resolver = Rebinding()
        guard = OutboundGuard([HERE], resolver)
        connected = await guard.connect("mail.example", port)
        with connected:
            assert connected.getpeername() == ("127.0.0.1", port)
        assert resolver.asked == 1
        with pytest.raises(HostNotAllowed):
            await guard.connect("mail.example", port)


async def test_a_slow_resolver_is_left_in_time() -> None:
    release = threading.Event()

    def slow(_host: str, _port: int) -> list[str]:
        release.wait(10)
        return ["8.8.8.8"]

    guard = OutboundGuard(look_up=slow)
    try:
        with trio.move_on_after(0.1) as scope:
            await guard.resolve("slow.example", 443)
        assert scope.cancelled_caught
    finally:
        release.set()
