"""Identifiers.

UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits. Rows made one after
another are neighbours in a btree, and an identifier tells nothing that a creation time does not.
The standard library has it from Python 3.14 on.
"""

import array
import os
import secrets
import time
import uuid
from typing import NewType

TenantId = NewType("TenantId", uuid.UUID)


def new_id() -> uuid.UUID:
    """A fresh, time-ordered identifier (UUIDv7)."""
    return _assemble(_now(), secrets.randbits(74))


def new_id_text() -> str:
    """The same as text, in a third of the time that a `UUID` takes to be made and written."""
    digits = f"{_number(_now(), int.from_bytes(os.urandom(10)) >> 6):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def new_ids(count: int) -> list[uuid.UUID]:
    """Fresh identifiers, each larger than the one before it (RFC 9562, section 6.2, method 2).

    They share one time. The random part begins in the lower half of its range and grows by random
    steps below 2 ** 32, of which it has room for far more than can be asked for.
    """
    now, value = _now(), secrets.randbits(73)
    made = []
    for step in array.array("I", secrets.token_bytes(4 * count)):
        value += step + 1
        made.append(_assemble(now, value))
    return made


def _now() -> int:
    return time.time_ns() // 1_000_000 & (1 << 48) - 1


def _assemble(milliseconds: int, random_bits: int) -> uuid.UUID:
    return uuid.UUID(int=_number(milliseconds, random_bits))


def _number(milliseconds: int, random_bits: int) -> int:
    high = milliseconds << 16 | 0x7 << 12 | random_bits >> 62
    return high << 64 | 0b10 << 62 | random_bits & (1 << 62) - 1
