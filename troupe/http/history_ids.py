"""How sessions and people are named in addresses.

A session's key is three values and a person's two, of any characters, so an address holds them as
one opaque word: URL-safe base64 of compact JSON. It is not signed and tells nothing: whoever makes
one up asks for a session or person of their own tenant, which may not exist.
"""

import base64
import json
from typing import Final

from troupe.common.errors import NotFound
from troupe.http import exact_json
from troupe.http.exact_json import is_storable

MAX_ID_CHARACTERS: Final = 2048
_BIGINT: Final = 2**63


def session_id_of(
    stream_id: str | None, user_pseudo_id: str | None, ga_session_id: int | None
) -> str | None:
    """The name of a session; None when it has no key."""
    if user_pseudo_id is None or ga_session_id is None:
        return None
    return _encode([stream_id or "", user_pseudo_id, ga_session_id])


def user_id_of(*, is_customer: bool, person_id: str | None) -> str | None:
    """The name of a person; None when nobody is known."""
    if person_id is None:
        return None
    return _encode(["c" if is_customer else "v", person_id])


def read_session_id(text: str) -> tuple[str, str, int]:
    """Stream, visitor and session number.

    Raises:
        NotFound: No session can have this name.
    """
    match _decode(text):
        case [str(stream), str(visitor), int(number)] if (
            type(number) is int and -_BIGINT <= number < _BIGINT
        ):
            return stream, visitor, number
    raise NotFound("There is no such session.")


def read_user_id(text: str) -> tuple[bool, str]:
    """Whether it is a customer, and the customer's or visitor's id.

    Raises:
        NotFound: Nobody can have this name.
    """
    match _decode(text):
        case ["c" | "v" as kind, str(person)]:
            return kind == "c", person
    raise NotFound("There is no such person.")


def _encode(parts: list[str | int]) -> str:
    return base64.urlsafe_b64encode(exact_json.dumps_stored(parts)).rstrip(b"=").decode()


def _decode(text: str) -> object:
    if len(text) > MAX_ID_CHARACTERS:
        return None
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        parts = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        return None
    if isinstance(parts, list) and all(is_storable(p) for p in parts if isinstance(p, str)):
        return parts
    return None
