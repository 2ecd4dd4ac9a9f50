"""What is kept from the protocol is what h11 has nothing to say about yet."""

import h11
import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from troupe.http.heads import Body, announced_body, is_for_the_protocol

LONGEST = 64
PIECES = st.sampled_from(
    (
        *(b"GET", b" ", b"/", b"\r\n", b"\n", b"\r", b": ", b"Host", b"x", b"HTTP/1.1"),
        *(b"PRI * HTTP/2.0", b"\x16\x03\x01", b"\0", b"\x7f", b"\xff", b"\t", b"x" * 70),
    )
)


def says(data: bytes) -> bool:
    """Whether h11 makes anything of it; nothing would be the end of the input."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST)
    if data:
        connection.receive_data(data)
    try:
        return connection.next_event() is not h11.NEED_DATA
    except h11.RemoteProtocolError:
        return True


@given(st.lists(PIECES | st.binary(max_size=4), max_size=12).map(b"".join))
@example(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
@example(b"GET / HTTP/1.1\nHost: x\n\n")
@example(b"\r\nGET / HTTP/1.1\r\n")
def test_nothing_that_h11_answers_is_withheld(data: bytes) -> None:
    if says(data):
        assert is_for_the_protocol(data, LONGEST)


def test_what_is_withheld() -> None:
    for data in (b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r"):
        assert not says(data)
        assert not is_for_the_protocol(data, LONGEST)


LINES = st.sampled_from(
    (
        *(b"Content-Length: 3", b"content-length:03", b"CONTENT-LENGTH: 4", b"Content-Length:\t3 "),
        *(b"Content-Length: 3, 3", b"Content-Length: ", b"Content-Length : 3"),
        *(
            b"Content-Length: " + b"9" * 5000,
            b"Content-Length: +3",
            b"Transfer-Encoding: chunked",
            b"Expect: 100-continue",
        ),
        *(b"Upgrade: h2c", b"X: \x0b", b"X:", b" folded", b"X: content-length: 9"),
        *(b"Connection: close", b"\rX: y", b"X\0: y", b"X: \xe9"),
    )
)
STARTS = st.sampled_from(
    (
        *(b"POST / HTTP/1.1", b"GET /x HTTP/1.1", b"PUT / HTTP/1.0"),
        *(b"post / HTTP/1.1", b"POST  / HTTP/1.1"),
    )
)


@given(STARTS, st.lists(LINES, max_size=4), st.binary(max_size=4))
@example(b"POST / HTTP/1.1", [b"Content-Length: 3"], b"abc")
def test_an_announced_body_is_the_one_that_h11_reads(
    start: bytes, lines: list[bytes], behind: bytes
) -> None:
    head = b"\r\n".join((start, b"Host: x", *lines, b"", b""))
    announced = announced_body(head + behind)
    event(f"announced: {announced is not None}")
    if announced is None:
        return
    begins, size, _, is_framed_twice = announced
    assert begins == len(head)
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    try:
        request = connection.next_event()
    except h11.RemoteProtocolError:
        return  # refused, whatever was waited for
    assert isinstance(request, h11.Request)
    lengths = [int(value) for name, value in request.headers if name == b"content-length"]
    assert [name for name, _ in request.headers if name == b"transfer-encoding"] == (
        [b"transfer-encoding"] if is_framed_twice else []
    )
    assert lengths if is_framed_twice else lengths == [size]


@pytest.mark.parametrize(
    "header",
    [b"Expect: 100-continue", b"Upgrade: h2c", b"Content-Length: 3"],
)
def test_nothing_is_waited_for_where_an_answer_may_come_first(header: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
    assert announced_body(head + b"\r\n") == Body(len(head) + 2, 3, is_read_whole=False)
    assert announced_body(head + header + b"\r\n\r\n") is None


@pytest.mark.parametrize("coding", [b"chunked", b"identity", b"gzip, chunked", b""])
def test_two_framings_are_known_in_either_order(coding: bytes) -> None:
    lines = b"Content-Length: 3\r\n", b"transfer-encoding: %b\r\n" % coding
    for first, second in (lines, lines[::-1]):
        body = announced_body(b"POST / HTTP/1.1\r\n%bX: y\r\n%b\r\n" % (first, second))
        assert body is not None
        assert body.is_framed_twice


def test_documents_and_forms_are_read_whole() -> None:
    kinds = (
        *(b"application/json", b"Application/JSON ; charset=utf-8"),
        *(b"application/x-www-form-urlencoded", b"text/csv", b""),
    )
    head = b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Type: %b\r\n\r\n"
    bodies = [announced_body(head % kind) for kind in kinds]
    assert [body is not None and body.is_read_whole for body in bodies] == [True] * 3 + [False] * 2


@pytest.mark.parametrize("line", [b"a: b\r\n", b"a:" + b" " * 20 + b"\r\n", b"a: \r\n"])
def test_a_head_that_is_not_plain_is_known_as_soon_as_it_is_read(line: bytes) -> None:
    """A pattern with two ways to read a line would not end here."""
    assert announced_body(b"POST / HTTP/1.1\r\n" + line * 5000 + b"\xff\r\n\r\n") is None
