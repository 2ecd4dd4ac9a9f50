"""Whatever is read as plain, h11 reads in the same way: tried with mutations of requests."""

import os
import random
import re
from collections.abc import Callable

import h11
import pytest

from troupe.http import plain
from troupe.http.plain import PlainRequest, read_plain

MUTATIONS = int(os.environ.get("TROUPE_TEST_MUTATIONS", "40000"))
SEEDS = [
    "GET / HTTP/1.1|Host: a||",
    "GET /api/v1/stats?preset=30d HTTP/1.1|Host: 127.0.0.1:8001|Authorization: Bearer trp_abc||",
    "GET / HTTP/1.1|Host: b:1|Accept: */*|User-Agent: x/1 (y; z)|Accept-Encoding: gzip, br||",
    "GET /a?b=%20&c=+ HTTP/1.1|host: a.b|Connection: keep-alive|X-Request-Id: 12345678||",
]
TOKENS = [
    *(bytes([number]) for number in (*range(33), *b":,#*/%&+@_", 0x7F, 0x80, 0xFF)),
    *(b"\r\n", b"\r\n\r\n", b": ", b"GET ", b"POST ", b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2"),
    *(b" folded\r\n", b"http://h/", b"//"),
    *(
        line.encode() + b"\r\n"
        for line in (
            "Host: b", "Content-Length: 0", "Content-Length: 5", "Transfer-Encoding: chunked",
            "Connection: close", "Upgrade: h2c", "Expect: 100-continue", "Accept: x", "Accept : x",
            "Accept:x", "Accept: ", "Accept: x\r\n y", "Cookie: a=b", "Referer: x", "_: x",
        )
    ),
]  # fmt: skip

Read = Callable[[bytes], PlainRequest | None]


def seed_of(dice: random.Random) -> bytes:
    return dice.choice(SEEDS).replace("|", "\r\n").encode()


def mutated(dice: random.Random) -> bytes:
    raw = bytearray(seed_of(dice))
    for _ in range(dice.choice((0, 1, 1, 1, 2, 3, 8))):
        at, to = sorted((dice.randint(0, len(raw)), dice.randint(0, len(raw))))
        match dice.randint(0, 5):
            case 0:
                raw[at:at] = dice.choice(TOKENS)
            case 1:
                raw[at : at + dice.randint(1, 3)] = b""
            case 2:
                raw[at:to] = dice.choice(TOKENS)
            case 3:
                raw[at : at + 1] = bytes([dice.randint(0, 255)])
            case 4:
                other = seed_of(dice)
                raw[at:at] = other[dice.randint(0, len(other)) :]
            case _:
                raw[at:at] = raw[at:to]
    return bytes(raw)


def disagreement(raw: bytes, read: Read) -> str | None:
    """What h11 thinks of a request that was read, if it thinks otherwise."""
    found = read(raw)
    if found is None:
        return None
    target, headers = found
    connection = h11.Connection(h11.SERVER)
    try:
        connection.receive_data(raw)
        event, after = connection.next_event(), connection.next_event()
    except h11.RemoteProtocolError as error:
        return f"h11 refuses: {error}"
    if not isinstance(event, h11.Request) or not isinstance(after, h11.EndOfMessage):
        return f"h11 sees {event!r}, {after!r}"
    seen = event.method, event.target, event.http_version, list(event.headers)
    if seen != (b"GET", target, b"1.1", list(headers.items())):
        return f"h11 reads {seen}"
    # MUST_CLOSE would mean that the client must not send another request.
    if connection.trailing_data != (b"", False) or connection.their_state is not h11.DONE:
        return f"h11 is left with {connection.trailing_data} and {connection.their_state}"
    return None


def test_what_is_read_here_is_read_by_h11() -> None:
    seed = int(os.environ.get("TROUPE_TEST_SEED", "20261126"))
    dice = random.Random(seed)
    accepted = 0
    for number in range(MUTATIONS):
        raw = mutated(dice)
        found = disagreement(raw, read_plain)
        assert found is None, (seed, number, raw, found)
        accepted += read_plain(raw) is not None
    assert accepted > MUTATIONS / 50


VALUE = rb"[!-~](?:[ -~]*[!-~])?"
LOOSE = {
    "line feeds alone": rb"GET (/[!-~]*) HTTP/1\.1\r\n((?:[A-Za-z0-9-]+: V\r?\n)+)\r\n",
    "controls in values": rb"GET (/[!-~]*) HTTP/1\.1\r\n((?:[A-Za-z0-9-]+: [^\r\n]*\r\n)+)\r\n",
    "any target": rb"GET ([^ ]*) HTTP/1\.1\r\n((?:[A-Za-z0-9-]+: V\r\n)+)\r\n",
    "more behind": rb"GET (/[!-~]*) HTTP/1\.1\r\n((?:[A-Za-z0-9-]+: V\r\n)+)\r\n(?s:.*)",
}


@pytest.mark.parametrize("flaw", LOOSE)
def test_the_comparison_sees_a_grammar_that_is_too_loose(
    flaw: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain, "_PLAIN", re.compile(LOOSE[flaw].replace(b"V", VALUE)))
    dice = random.Random(1)
    assert any(disagreement(mutated(dice), read_plain) for _ in range(40_000))


FRAMING = [
    b"Content-Length", b"Transfer-Encoding", b"Expect", b"Upgrade", b"Te", b"Trailer",
    b"Keep-Alive", b"Proxy-Connection", b"HTTP2-Settings",
]  # fmt: skip


@pytest.mark.parametrize("name", FRAMING)
def test_headers_that_frame_are_left_to_hypercorn(name: bytes) -> None:
    assert read_plain(b"GET / HTTP/1.1\r\nHost: a\r\n" + name + b": 0\r\n\r\n") is None


def test_a_header_given_twice_is_left_to_hypercorn() -> None:
    for twice in (b"Host: a\r\nHost: a\r\n", b"Host: a\r\nAccept: b\r\naccept: b\r\n"):
        assert read_plain(b"GET / HTTP/1.1\r\n" + twice + b"\r\n") is None
    assert read_plain(b"GET / HTTP/1.1\r\nAccept: b\r\n\r\n") is None
    assert read_plain(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") is None


def test_a_head_without_end_is_left_to_hypercorn() -> None:
    long = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * plain.MAX_PLAIN + b"\r\n\r\n"
    assert read_plain(long) is None
