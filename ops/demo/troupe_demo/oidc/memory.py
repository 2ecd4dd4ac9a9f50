"""What the provider remembers: bounded stores whose entries expire."""

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

from troupe.common.units import DAYS, HOURS, MINUTES, SECONDS

Value = TypeVar("Value")


class Expiring(Generic[Value]):
    """Values by a random key that only their holder knows.

    Args:
        lifetime: Seconds from `put` on.
        capacity: Beyond it the oldest entry is forgotten.
    """

    def __init__(self, *, lifetime: float, capacity: int = 10_000) -> None:
        self.lifetime = lifetime
        self._capacity = capacity
        self._entries: OrderedDict[str, tuple[float, Value]] = OrderedDict()

    def put(self, value: Value) -> str:
        """Remember a value under a fresh key."""
        key = secrets.token_urlsafe(32)
        self._entries[key] = (trio.current_time() + self.lifetime, value)
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
        return key

    def get(self, key: str | None) -> Value | None:
        """The value, unless it is unknown or expired."""
        if key is None or key not in self._entries:
            return None
        expires, value = self._entries[key]
        if expires <= trio.current_time():
            del self._entries[key]
            return None
        return value

    def drop(self, key: str | None) -> None:
        """Forget an entry, if it is there."""
        if key is not None:
            self._entries.pop(key, None)


@dataclass(frozen=True, slots=True)
class Request:
    """An authorization request that has been checked."""

    client_id: str
    redirect_uri: str
    scopes: frozenset[str]
    state: str | None
    nonce: str | None
    code_challenge: str


@dataclass(slots=True)
class Interaction:
    """A login page that is open in one browser.

    Attributes:
        browser: The cookie that the browser was given with the page.
        failures: Wrong passwords so far.
    """

    request: Request
    browser: str
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Login:
    """A person who is logged in at the provider itself, in one browser."""

    sub: str
    sid: str
    authenticated_at: int


@dataclass(slots=True)
class Grant:
    """What one authorization has led to; ends as a whole.

    Attributes:
        code_used: A second use of the code ends the grant.
        refresh_token: The only one that is good now.
        ended: Its tokens are void.
    """

    request: Request
    login: Login
    code_used: bool = False
    refresh_token: str | None = None
    ended: bool = False


@dataclass(slots=True)
class Memory:
    """All stores."""

    interactions: Expiring[Interaction] = field(
        default_factory=lambda: Expiring(lifetime=15 * MINUTES)
    )
    logins: Expiring[Login] = field(default_factory=lambda: Expiring(lifetime=8 * HOURS))
    codes: Expiring[Grant] = field(default_factory=lambda: Expiring(lifetime=60 * SECONDS))
    access_tokens: Expiring[Grant] = field(default_factory=lambda: Expiring(lifetime=5 * MINUTES))
    refresh_tokens: Expiring[Grant] = field(default_factory=lambda: Expiring(lifetime=1 * DAYS))
