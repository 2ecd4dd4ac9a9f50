"""Where a person may be sent after a login: an open redirect is a phisher's best friend."""

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

MAX_CHARACTERS: Final = 2000


def origin_of(url: str) -> str:
    """Scheme, host and port of an address, as a browser writes an origin.

    >>> origin_of("https://Dashboard.example:443/path?x=1")
    'https://dashboard.example'
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = parts.port
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{host}" + ("" if port in {None, usual} else f":{port}")


def return_address(wanted: str | None, *, home: str, origins: Collection[str]) -> str:
    """Where to go after a login: `wanted` if it is one of ours, else `home`.

    A path is taken within `home`'s origin. Refused are other origins, schemes such as
    ``javascript:``, addresses with a user name, and everything that browsers and parsers read
    differently (backslashes, control characters, two leading slashes).

    Args:
        wanted: What the link asked for.
        home: The dashboard.
        origins: That may be returned to, as `origin_of` writes them.
    """
    if not wanted or len(wanted) > MAX_CHARACTERS:
        return home
    if not wanted.isascii() or not wanted.isprintable() or "\\" in wanted or " " in wanted:
        return home
    if wanted.startswith("/"):
        return home if wanted.startswith("//") else origin_of(home) + wanted
    try:
        parts = urlsplit(wanted)
        ours = parts.scheme in {"http", "https"} and origin_of(wanted) in origins
    except ValueError:
        return home
    return wanted if ours and parts.username is None and parts.password is None else home
