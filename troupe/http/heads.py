"""What the head of a request says before any protocol reads it: how much of it to wait for.

Nothing is decided here. What is understood is only how long to wait until the protocol gets what
has come, and whether more is announced than any route takes, or in two ways that exclude each
other; whatever else is odd is the protocol's, at once.
"""

import re
from typing import Final, NamedTuple

from troupe.http.declaration import FORM_TYPE, JSON_TYPE

_PRINTABLE: Final = 0x21
"""What a request begins with is at least this; h11 refuses anything else at its first byte."""
# Possessive: one way to read, so that no input takes longer than it is long.
_PLAIN: Final = re.compile(
    rb"[A-Z]++ [!-~]++ HTTP/1\.1\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t -~]*+\r\n)++)\r\n"
)
_CHUNKED: Final = b"transfer-encoding"
_LENGTH: Final = b"content-length"
_NOT_PLAIN: Final = frozenset({_CHUNKED, b"expect", b"upgrade"})
"""The body has no length, or whoever sends it waits for a first answer."""
_READ_WHOLE: Final = frozenset({JSON_TYPE.encode(), FORM_TYPE.encode()})
_MOST_DIGITS: Final = 18


def has_ended(head: bytes) -> bool:
    """Whether a request's head is there, by what h11 takes for its end."""
    return b"\n\r\n" in head or b"\n\n" in head


def is_for_the_protocol(head: bytes, longest: int) -> bool:
    """Whether it can say something about what has come: it is a whole head, too long, or none."""
    return has_ended(head) or len(head) >= longest or (head != b"" and head[0] < _PRINTABLE)


class Body(NamedTuple):
    """What a head says about the body.

    Attributes:
        begins: Where, in what has come.
        size: Bytes.
        is_read_whole: Whether it is of a kind that is of no use before all of it is there.
        is_framed_twice: Whether its end is said in two ways; then no size is known.
    """

    begins: int
    size: int
    is_read_whole: bool
    is_framed_twice: bool = False


def announced_body(heard: bytes) -> Body | None:
    r"""The body that a plain request announces; None if it is not plain, or has none.

    >>> announced_body(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na")
    Body(begins=38, size=3, is_read_whole=False, is_framed_twice=False)
    >>> announced_body(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    """
    match = _PLAIN.match(heard)
    if match is None:
        return None
    lines = (line.partition(b":") for line in match[1].split(b"\r\n")[:-1])
    headers = [(name.lower(), value.strip(b" \t")) for name, _, value in lines]
    names = {name for name, _ in headers}
    if names >= {_CHUNKED, _LENGTH}:
        return Body(match.end(), 0, is_read_whole=False, is_framed_twice=True)
    if not names.isdisjoint(_NOT_PLAIN):
        return None
    sizes = [value for name, value in headers if name == _LENGTH]
    if len(sizes) != 1 or not sizes[0].isdigit() or len(sizes[0]) > _MOST_DIGITS:
        return None
    kinds = {
        value.partition(b";")[0].strip().lower()
        for name, value in headers
        if name == b"content-type"
    }
    return Body(match.end(), int(sizes[0]), not kinds.isdisjoint(_READ_WHOLE))
