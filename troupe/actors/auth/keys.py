"""Which of an issuer's keys may verify its signatures.

joserfc verifies what it is told to; which keys and algorithms are fit is decided here, and a key
that is not fit is left out, so that one odd key does not disable its neighbours. Only public-key
signatures: an issuer's HMAC key would be a secret that it publishes. Never taken from the token:
``jwk``, ``jku``, ``x5c`` and ``x5u`` in a header are what a forger would send.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from troupe.actors.auth.errors import ProviderMisbehaved, TokenInvalid

_HASHES: Final = ("256", "384", "512")
RSA_ALGORITHMS: Final = frozenset(f"{kind}{size}" for kind in ("RS", "PS") for size in _HASHES)
CURVES: Final[Mapping[str, str]] = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
ALGORITHMS: Final = RSA_ALGORITHMS | frozenset(CURVES)
"""What may be pinned for an identity provider."""

MAX_KEYS: Final = 50
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
_MIN_EXPONENT: Final = 65537
_MAX_EXPONENT_BITS: Final = 256
_KID: Final = re.compile(r"[\x21-\x7e]{1,255}")

# Primes whose residues give away moduli of the broken Infineon generator (ROCA, CVE-2017-15361).
_ROCA_PRIMES: Final = (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)

SigningKey = RSAKey | ECKey


@dataclass(frozen=True, slots=True)
class AdmittedKey:
    """A key that may verify.

    Attributes:
        kid: Its name in the set; None when it has none.
        algorithms: What it may be used with.
        key: For joserfc.
    """

    kid: str | None
    algorithms: frozenset[str]
    key: SigningKey


class UnknownKey(TokenInvalid):
    """The token names a key that the issuer does not publish, or did not when we last looked."""


class IssuerKeys:
    """The admitted keys of one issuer.

    Args:
        keys: As `admit` gives them.
    """

    def __init__(self, keys: tuple[AdmittedKey, ...]) -> None:
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    def fitting(self, algorithms: frozenset[str]) -> int:
        """How many of them may be used with one of these."""
        return sum(1 for key in self._keys if key.algorithms & algorithms)

    def find(self, kid: str | None, algorithm: str) -> SigningKey:
        """The one key that a token with this header can have been signed with.

        Raises:
            UnknownKey: None fits; the set may have changed since.
            TokenInvalid: Several fit.
        """
        fitting = [
            key
            for key in self._keys
            if algorithm in key.algorithms and (kid is None or key.kid == kid)
        ]
        if not fitting:
            raise UnknownKey("The identity provider's token is signed with an unknown key.")
        if len(fitting) > 1:
            raise TokenInvalid("The identity provider's token does not say which key signed it.")
        return fitting[0].key


def admit(document: Mapping[str, Any]) -> IssuerKeys:
    """The fit keys of a JWK set.

    Raises:
        ProviderMisbehaved: Not a key set, too many keys, or none that is fit.
    """
    listed = document.get("keys")
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise ProviderMisbehaved("The identity provider's key set cannot be read.")
    admitted = [key for key in map(_admit_key, listed) if key is not None]
    names = [key.kid for key in admitted if key.kid is not None]
    unique = tuple(key for key in admitted if key.kid is None or names.count(key.kid) == 1)
    if not unique:
        raise ProviderMisbehaved("The identity provider publishes no key that may be used.")
    return IssuerKeys(unique)


def _admit_key(listed: object) -> AdmittedKey | None:
    if not isinstance(listed, dict) or not _is_for_signatures(listed):
        return None
    kid = listed.get("kid")
    if kid is not None and not (isinstance(kid, str) and _KID.fullmatch(kid)):
        return None
    try:
        key = _public_key(listed)
    except (JoseError, ValueError, TypeError):
        return None
    algorithms = frozenset() if key is None else _algorithms_of(key)
    if "alg" in listed:
        algorithms &= {str(listed["alg"])}
    return AdmittedKey(kid, algorithms, key) if key is not None and algorithms else None


def _public_key(listed: Mapping[str, Any]) -> SigningKey | None:
    """The key itself, made of what makes up a public key: the rest of the JWK has no say."""
    members = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y")}.get(str(listed.get("kty")))
    if members is None or not all(isinstance(listed.get(name), str) for name in members):
        return None
    public: dict[str, str | list[str]] = {name: str(listed[name]) for name in members}
    if public["kty"] == "EC":
        return ECKey.import_key(public) if public["crv"] in CURVES.values() else None
    fit = _is_fit_rsa(_number(listed["n"]), _number(listed["e"]))
    return RSAKey.import_key(public) if fit else None


def _is_for_signatures(listed: Mapping[str, Any]) -> bool:
    operations = listed.get("key_ops", ["verify"])
    return (
        listed.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
    )


def _algorithms_of(key: SigningKey) -> frozenset[str]:
    if isinstance(key, ECKey):
        return frozenset(name for name, curve in CURVES.items() if curve == key.curve_name)
    return RSA_ALGORITHMS


def _number(text: str) -> int:
    """A number as a JWK writes it: big-endian, base64url."""
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")


def _is_fit_rsa(modulus: int, exponent: int) -> bool:
    return (
        MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS
        and modulus % 2 == 1
        and exponent >= _MIN_EXPONENT
        and exponent % 2 == 1
        and exponent.bit_length() <= _MAX_EXPONENT_BITS
        and not is_roca(modulus)
    )


@cache
def _roca_residues(prime: int) -> frozenset[int]:
    return frozenset(pow(65537, exponent, prime) for exponent in range(prime - 1))


def is_roca(modulus: int) -> bool:
    """Whether an RSA modulus has the structure of the broken Infineon generator."""
    return all(modulus % prime in _roca_residues(prime) for prime in _ROCA_PRIMES)
