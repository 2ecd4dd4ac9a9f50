"""Identifiers.

UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits. Rows made one after
another are neighbours in a btree, and an identifier tells nothing that a creation time does not.
The standard library has it from Python 3.14 on.
"""

import secrets
import time
import uuid
from typing import NewType

TenantId = NewType("TenantId", uuid.UUID)


def new_id() -> uuid.UUID:
    """A fresh, time-ordered identifier (UUIDv7)."""
    milliseconds = time.time_ns() // 1_000_000
    random_a = secrets.randbits(12)
    random_b = secrets.randbits(62)
    high = (milliseconds & (1 << 48) - 1) << 16 | 0x7 << 12 | random_a
    value = high << 64 | 0b10 << 62 | random_b
    return uuid.UUID(int=value)
