"""E-mail addresses, as far as they decide who is let in.

Two spellings are one address if they differ in the case of ASCII letters. Nothing else is folded:
Python's ``lower`` makes the Kelvin sign a ``k`` and ``casefold`` makes ``ß`` an ``ss``, so that
``straße.example`` would pass for ``strasse.example``, which somebody else may own.
"""

import re
import string
from typing import Final

MAX_ADDRESS: Final = 254
_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_FORM: Final = re.compile(
    r'[^@\s"(),:;<>\[\\\]]{1,64}@[^@\s"(),:;<>\[\\\]_]+\.[^@\s"(),:;<>\[\\\]_]+'
)


def lowered(text: str) -> str:
    """The text with its ASCII letters in lower case."""
    return text.translate(_LOWER)


def is_address(text: str) -> bool:
    """Whether a text is exactly one address: no name, no list, no quotes."""
    return len(text) <= MAX_ADDRESS and text.isprintable() and bool(_FORM.fullmatch(text))


def domain_of(address: str) -> str:
    """What follows the last ``@``, in lower case; empty when there is none."""
    _, at, domain = lowered(address).rpartition("@")
    return domain if at else ""
