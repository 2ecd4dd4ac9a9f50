"""Which published keys may verify; each refusal has a twin that is admitted."""

import math
import warnings
from typing import Any, Final

import pytest
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from troupe.actors.auth.errors import ProviderMisbehaved, TokenInvalid
from troupe.actors.auth.keys import MAX_KEYS, UnknownKey, admit, is_roca

RSA: Final = dict(RSAKey.generate_key(2048).as_dict(private=False))
OTHER: Final = dict(RSAKey.generate_key(2048).as_dict(private=False)) | {"kid": "other"}
with warnings.catch_warnings():
    warnings.simplefilter("ignore", SecurityWarning)
    SHORT: Final = dict(RSAKey.generate_key(1024).as_dict(private=False))
EC: Final = dict(ECKey.generate_key("P-256").as_dict(private=False))


def is_admitted(key: Any) -> bool:
    return len(admit({"keys": [key, OTHER]})) == 2


@pytest.mark.parametrize(
    "key",
    [
        RSA,
        RSA | {"kid": "a", "use": "sig", "alg": "RS256", "key_ops": ["verify"]},
        RSA | {"key_ops": ["verify", "encrypt"]},
        RSA | {"x5c": ["nonsense"], "x5t": 1},
        RSAKey.generate_key(2048).as_dict(private=True),  # the private part has no say
        EC,
        dict(ECKey.generate_key("P-384").as_dict(private=False)),
        dict(ECKey.generate_key("P-521").as_dict(private=False)),
    ],
)
def test_keys_that_are_fit(key: dict[str, Any]) -> None:
    assert is_admitted(key)


@pytest.mark.parametrize(
    "key",
    [
        SHORT,
        RSA | {"use": "enc"},
        RSA | {"key_ops": ["encrypt"]},
        RSA | {"key_ops": "verify"},
        RSA | {"alg": "RSA-OAEP"},
        RSA | {"alg": "HS256"},
        RSA | {"e": "AQ"},  # 1
        RSA | {"e": "Aw"},  # 3
        RSA | {"e": "AQAC"},  # even
        RSA | {"kid": ""},
        RSA | {"kid": 1},
        RSA | {"kid": "line\nbreak"},
        RSA | {"n": None},
        RSA | {"n": "A"},
        RSA | {"kty": "rsa"},
        {"kty": "RSA"},
        EC | {"alg": "RS256"},
        EC | {"crv": "P-192"},
        EC | {"x": EC["y"]},  # not on the curve
        EC | {"crv": "secp256k1"},
        dict(OctKey.generate_key(256).as_dict(private=True)),
        dict(OKPKey.generate_key("Ed25519").as_dict(private=False)),
        "text",
        None,
    ],
)
def test_keys_that_are_not_fit(key: Any) -> None:
    assert not is_admitted(key)


def test_an_algorithm_narrows_a_key() -> None:
    keys = admit({"keys": [RSA | {"kid": "a", "alg": "RS256"}]})
    keys.find("a", "RS256")
    with pytest.raises(UnknownKey):
        keys.find("a", "RS512")


def test_a_name_used_twice_names_nothing() -> None:
    twice = admit({"keys": [RSA | {"kid": "a"}, EC | {"kid": "a"}, OTHER]})
    assert len(twice) == 1
    with pytest.raises(UnknownKey):
        twice.find("a", "RS256")


def test_without_a_name_there_must_be_one_fitting_key() -> None:
    keys = admit({"keys": [RSA, EC, OTHER]})
    keys.find(None, "ES256")
    with pytest.raises(TokenInvalid):
        keys.find(None, "RS256")


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"keys": None},
        {"keys": {}},
        {"keys": []},
        {"keys": [SHORT]},
        {"keys": [RSA] * (MAX_KEYS + 1)},
        {"keys": [RSA | {"kid": "a"}, OTHER | {"kid": "a"}]},
    ],
)
def test_sets_that_cannot_be_used(document: dict[str, Any]) -> None:
    with pytest.raises(ProviderMisbehaved):
        admit(document)


def test_the_broken_infineon_generator_is_recognised() -> None:
    """Its moduli are powers of 65537 modulo a product of small primes; others are not."""
    product = math.prod(
        prime for prime in range(2, 168) if all(prime % other for other in range(2, prime))
    )
    weak = pow(65537, 12345, product) + product * (1 << 1700)
    assert is_roca(weak)
    assert not is_roca(weak + 2)
