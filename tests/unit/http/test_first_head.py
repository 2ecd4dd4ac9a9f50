"""What is kept from the protocol is what h11 has nothing to say about yet."""

import h11
from hypothesis import example, given
from hypothesis import strategies as st

from troupe.http.connection import is_for_the_protocol

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
