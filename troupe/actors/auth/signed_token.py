"""Tokens that an identity provider signs: reading one, and whether the provider signed it.

Three kinds reach us: ID tokens (a login), logout tokens (back-channel logout) and access tokens (a
request to our API). They differ in their claims, which `id_token`, `logout_token` and
`provider_tokens` judge; what they have in common is here, after RFC 7515 and RFC 8725.

The order matters: size before decoding, the header before the signature, the signature before the
claims. Of the header only ``alg``, ``kid`` and ``typ`` are believed, ``alg`` must be one that is
pinned for the issuer, and ``typ`` keeps the kinds apart, so that a token of one kind is never taken
for another. A member that occurs twice is a refusal: two readers would see two tokens. The messages
say which check failed, without any value of the token.
"""

import base64
import binascii
import hmac
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from troupe.actors.auth.errors import TokenInvalid
from troupe.actors.auth.keys import IssuerKeys
from troupe.common.units import SECONDS, KiB

MAX_TOKEN_BYTES: Final = 16 * KiB
CLOCK_SKEW: Final = 60 * SECONDS
MAX_SUBJECT: Final = 255


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of token.

    Attributes:
        name: For messages.
        types: What ``typ`` may be, in lower case and without ``application/``.
        typed: Whether ``typ`` must be there.
    """

    name: str
    types: frozenset[str]
    typed: bool = False


ID_TOKEN: Final = Kind("ID token", frozenset({"jwt"}))
LOGOUT_TOKEN: Final = Kind("logout token", frozenset({"logout+jwt", "jwt"}))
ACCESS_TOKEN: Final = Kind("access token", frozenset({"at+jwt"}), typed=True)


@dataclass(frozen=True, slots=True)
class Header:
    """What is believed of a token's header.

    Attributes:
        algorithm: As it says; to be compared with what is pinned.
        kid: Name of the key, if given.
    """

    algorithm: str
    kid: str | None


def looks_signed(token: str) -> bool:
    """Whether a text has the form of a signed JWT; its content may still be anything."""
    return token.count(".") == 2 and token.startswith("ey")


def read_header(token: str, kind: Kind) -> Header:
    """The header, before anything is verified.

    Raises:
        TokenInvalid: Not a signed JWT of acceptable size, form and type.
    """
    if len(token) > MAX_TOKEN_BYTES or not token.isascii():
        raise TokenInvalid(f"The {kind.name} is too large or malformed.")
    parts = token.split(".")
    if len(parts) != 3 or not all(parts):
        raise TokenInvalid(f"The {kind.name} is not signed as needed.")
    header = _json_object(parts[0], f"{kind.name}'s header")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str):
        raise TokenInvalid(f"The {kind.name} does not say how it is signed.")
    if kid is not None and not isinstance(kid, str):
        raise TokenInvalid(f"The {kind.name}'s key id is malformed.")
    for name in ("crit", "zip", "b64"):
        if name in header:
            raise TokenInvalid(f"The {kind.name}'s header asks for {name}, which is not supported.")
    given = header.get("typ")
    of_kind = (
        not kind.typed
        if given is None
        else isinstance(given, str) and given.lower().removeprefix("application/") in kind.types
    )
    if not of_kind:
        raise TokenInvalid(f"The {kind.name} is of another type.")
    return Header(algorithm, kid)


def require_algorithm(header: Header, pinned: frozenset[str], kind: Kind) -> None:
    """Refuse an algorithm that is not pinned for the issuer.

    Raises:
        TokenInvalid: It is not.
    """
    if header.algorithm not in pinned:
        raise TokenInvalid(f"The {kind.name} is signed with another algorithm than agreed.")


def claims_of(token: str, kind: Kind) -> dict[str, Any]:
    """The claims of a token that nobody has verified, to find out who should have signed it.

    Raises:
        TokenInvalid: They cannot be read.
    """
    read_header(token, kind)
    return _json_object(token.split(".")[1], f"{kind.name}'s claims")


def verified(
    token: str, kind: Kind, keys: IssuerKeys, algorithms: frozenset[str]
) -> dict[str, Any]:
    """The claims of a token that one of the keys has signed; they may still say anything.

    Raises:
        UnknownKey: The keys at hand lack the one that signed it; newer ones may have it.
        TokenInvalid: It is not signed as agreed.
    """
    header = read_header(token, kind)
    require_algorithm(header, algorithms, kind)
    key = keys.find(header.kid, header.algorithm)
    registry = JWSRegistry(algorithms=[header.algorithm], strict_check_header=False)
    registry.max_header_length = registry.max_payload_length = MAX_TOKEN_BYTES
    try:
        jws.deserialize_compact(token, key, registry=registry)
    except (JoseError, ValueError):
        raise TokenInvalid(f"The {kind.name}'s signature does not hold.") from None
    return _json_object(token.split(".")[1], f"{kind.name}'s claims")


def require_issuer(claims: Mapping[str, Any], issuer: str, kind: Kind) -> None:
    """Refuse another issuer's token.

    Raises:
        TokenInvalid: It is another's.
    """
    if not same(claims.get("iss"), issuer):
        raise TokenInvalid(f"The {kind.name} is from another issuer.")


def require_times(claims: Mapping[str, Any], now: float, max_age: float, kind: Kind) -> float:
    """Refuse a token that has expired, is not valid yet, or was issued long ago.

    Args:
        claims: ``exp`` and ``iat`` among them.
        now: Seconds since 1970.
        max_age: Seconds since `iat`.
        kind: Of the token.

    Returns:
        When it expires, in seconds since 1970.

    Raises:
        TokenInvalid: Now is not its time, or it does not say.
    """
    expires, issued = instant(claims, "exp"), instant(claims, "iat")
    if expires is None or expires <= now - CLOCK_SKEW:
        raise TokenInvalid(f"The {kind.name} has expired or has no expiry.")
    if issued is None or not now - max_age - CLOCK_SKEW <= issued <= now + CLOCK_SKEW:
        raise TokenInvalid(f"The {kind.name} was not issued just now, or the clocks differ.")
    if "nbf" in claims:
        begins = instant(claims, "nbf")
        if begins is None or begins > now + CLOCK_SKEW:
            raise TokenInvalid(f"The {kind.name} is not valid yet.")
    return expires


def subject_of(claims: Mapping[str, Any], kind: Kind) -> str:
    """Whom a token is about.

    Raises:
        TokenInvalid: It does not say.
    """
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT or not storable(subject):
        raise TokenInvalid(f"The {kind.name} does not say who it is about (sub).")
    return subject


def audiences_of(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """For whom a token is; empty when that cannot be read."""
    audience = claims.get("aud")
    listed = [audience] if isinstance(audience, str) else audience
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        return ()
    return tuple(one for one in listed if storable(one))


def storable(text: str) -> bool:
    """Whether PostgreSQL takes a text: JSON can say U+0000 and halves of surrogate pairs."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def instant(claims: Mapping[str, Any], name: str) -> float | None:
    """A time, in seconds since 1970; None when it is missing or is no number."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def same(given: object, expected: str) -> bool:
    """Whether a claim is exactly this text; takes as long whatever it is."""
    return isinstance(given, str) and hmac.compare_digest(_bytes(given), _bytes(expected))


def _bytes(text: str) -> bytes:
    # JSON can escape half a surrogate pair, which UTF-8 cannot say.
    return text.encode("utf-8", "surrogatepass")


def _json_object(part: str, what: str) -> dict[str, Any]:
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
        value = json.loads(raw, object_pairs_hook=_no_duplicates)
    except (binascii.Error, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise TokenInvalid(f"The {what} cannot be read.")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a member twice")
    return value
