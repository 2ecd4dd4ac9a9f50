"""ID tokens: every refusal has a twin that differs in one thing and is accepted."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, RSAKey

from troupe.actors.auth.errors import TokenInvalid
from troupe.actors.auth.id_token import MAX_TOKEN_BYTES, Expectations, check
from troupe.actors.auth.keys import IssuerKeys, UnknownKey, admit

NOW: Final = 1_800_000_000
RSA: Final = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"}, private=True)
EC: Final = ECKey.generate_key("P-256", {"kid": "ec"}, private=True)
STRANGER: Final = RSAKey.generate_key(2048, {"kid": "rsa"}, private=True)
KEYS: Final = admit({"keys": [RSA.as_dict(private=False), EC.as_dict(private=False)]})

EXPECTED: Final = Expectations(
    issuer="https://issuer.example",
    client_id="troupe",
    algorithms=frozenset({"RS256"}),
    nonce="the-nonce",
    access_token="the-access-token",
    now=NOW,
)
CLAIMS: Final = {
    "iss": "https://issuer.example",
    "sub": "person",
    "aud": "troupe",
    "exp": NOW + 300,
    "iat": NOW,
    "nonce": "the-nonce",
}
# base64url of the left half of SHA-256("the-access-token")
AT_HASH: Final = "uby9Z8Gb_H_x4fPjwNzguw"

Claims = dict[str, Any]


def signed(
    claims: Claims, header: dict[str, Any] | None = None, key: RSAKey | ECKey | OctKey = RSA
) -> str:
    full = {"alg": "RS256", "kid": "rsa"} | (header or {})
    full = {name: value for name, value in full.items() if value is not None}
    registry = jws.JWSRegistry(algorithms=[str(full["alg"])], strict_check_header=False)
    return jws.serialize_compact(full, json.dumps(claims).encode(), key, registry=registry)


def unsigned(header: dict[str, Any], signature: str = "") -> str:
    parts = [json.dumps(header).encode(), json.dumps(CLAIMS).encode()]
    encoded = [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, signature])


def test_a_good_token_holds() -> None:
    assert check(signed(CLAIMS), KEYS, EXPECTED)["sub"] == "person"


ACCEPTED: dict[str, Claims] = {
    "one audience in a list": {"aud": ["troupe"]},
    "azp is us": {"azp": "troupe"},
    "expired within the skew": {"exp": NOW - 59},
    "issued within the skew": {"iat": NOW + 59},
    "issued a while ago": {"iat": NOW - 599},
    "valid from now": {"nbf": NOW},
    "fractions of seconds": {"exp": NOW + 0.5, "iat": NOW - 0.5},
    "at_hash": {"at_hash": AT_HASH},
    "longest subject": {"sub": "x" * 255},
    "claims that nobody knows": {"extra": {"a": 1}},
}

REFUSED: dict[str, Claims] = {
    "another issuer": {"iss": "https://issuer.example/"},
    "no issuer": {"iss": None},
    "issuer is no text": {"iss": ["https://issuer.example"]},
    "another audience": {"aud": "other"},
    "no audience": {"aud": None},
    "empty audience": {"aud": []},
    "a further audience": {"aud": ["troupe", "other"]},
    "a further audience, azp is us": {"aud": ["troupe", "other"], "azp": "troupe"},
    "audience twice": {"aud": ["troupe", "troupe"]},
    "azp is another": {"azp": "other"},
    "azp is no text": {"azp": ["troupe"]},
    "no subject": {"sub": None},
    "empty subject": {"sub": ""},
    "subject is a number": {"sub": 7},
    "subject too long": {"sub": "x" * 256},
    "expired": {"exp": NOW - 60},
    "no expiry": {"exp": None},
    "expiry is text": {"exp": str(NOW + 300)},
    "expiry is true": {"exp": True},
    "expiry is not a number": {"exp": float("nan")},
    "expiry is infinite": {"exp": float("inf")},
    "expiry beyond floats": {"exp": 10**400},
    "no issue time": {"iat": None},
    "issue time is text": {"iat": str(NOW)},
    "issued in the future": {"iat": NOW + 61},
    "issued long ago": {"iat": NOW - 661},
    "not valid yet": {"nbf": NOW + 61},
    "not valid before nonsense": {"nbf": "soon"},
    "no nonce": {"nonce": None},
    "another nonce": {"nonce": "the-nonce2"},
    "nonce is a list": {"nonce": ["the-nonce"]},
    "at_hash of another token": {"at_hash": AT_HASH[:-2] + "AA"},
    "empty at_hash": {"at_hash": ""},
    "at_hash is null": {"at_hash": 0},
}


def with_changes(change: Claims) -> Claims:
    claims = CLAIMS | change
    return {name: value for name, value in claims.items() if value is not None}


@pytest.mark.parametrize("change", ACCEPTED.values(), ids=ACCEPTED)
def test_claims_that_hold(change: Claims) -> None:
    check(signed(with_changes(change)), KEYS, EXPECTED)


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_claims_that_do_not_hold(change: Claims) -> None:
    with pytest.raises(TokenInvalid):
        check(signed(with_changes(change)), KEYS, EXPECTED)


HEADERS_ACCEPTED: dict[str, Callable[[], str]] = {
    "no kid, one fitting key": lambda: signed(CLAIMS, {"kid": None}),
    "typ": lambda: signed(CLAIMS, {"typ": "JWT"}),
    "jwk is ignored": lambda: signed(CLAIMS, {"jwk": STRANGER.as_dict(private=False)}),
    "jku is ignored": lambda: signed(CLAIMS, {"jku": "https://evil.example/keys"}),
}
HEADERS_REFUSED: dict[str, Callable[[], str]] = {
    "alg none": lambda: unsigned({"alg": "none"}),
    "alg none with a signature": lambda: unsigned({"alg": "none"}, "AAAA"),
    "alg None": lambda: unsigned({"alg": "None"}, "AAAA"),
    "no alg": lambda: unsigned({"kid": "rsa"}, "AAAA"),
    "alg is a list": lambda: unsigned({"alg": ["RS256"], "kid": "rsa"}, "AAAA"),
    "an algorithm that is not pinned": lambda: signed(CLAIMS, {"alg": "RS512"}),
    "another key type": lambda: signed(CLAIMS, {"alg": "ES256", "kid": "ec"}, EC),
    "HMAC with the public key": lambda: signed(
        CLAIMS, {"alg": "HS256"}, OctKey.import_key(RSA.as_pem(private=False).decode().strip("-\n"))
    ),
    "HMAC": lambda: signed(CLAIMS, {"alg": "HS256"}, OctKey.generate_key(256)),
    "another's key under the same name": lambda: signed(CLAIMS, key=STRANGER),
    "another's key, brought along": lambda: signed(
        CLAIMS, {"jwk": STRANGER.as_dict(private=False)}, STRANGER
    ),
    "a key that is not published": lambda: signed(CLAIMS, {"kid": "unknown"}),
    "kid is a number": lambda: unsigned({"alg": "RS256", "kid": 1}, "AAAA"),
    "crit": lambda: unsigned({"alg": "RS256", "kid": "rsa", "crit": ["exp"]}, "AAAA"),
    "b64": lambda: unsigned({"alg": "RS256", "kid": "rsa", "b64": False}, "AAAA"),
    "zip": lambda: unsigned({"alg": "RS256", "kid": "rsa", "zip": "DEF"}, "AAAA"),
    "an access token": lambda: signed(CLAIMS, {"typ": "at+jwt"}),
    "a logout token": lambda: signed(CLAIMS, {"typ": "logout+jwt"}),
    "no signature": lambda: signed(CLAIMS).rsplit(".", 1)[0] + ".",
    "half a signature": lambda: signed(CLAIMS)[:-20],
    "claims of another token": lambda: swap_claims(),  # noqa: PLW0108 - it is defined below
    "encrypted": lambda: "a.b.c.d.e",
    "two parts": lambda: "a.b",
    "nothing": lambda: "",
    "no base64": lambda: "!!.??.##",
    "not ASCII": lambda: "é.é.é",
    "a header that is a list": lambda: "W10.e30.AAAA",
    "a member twice": lambda: raw_header(b'{"alg":"RS256","alg":"none"}'),
    "deeply nested": lambda: raw_header(b"[" * 5000),
    "too large": lambda: signed(CLAIMS | {"padding": "x" * MAX_TOKEN_BYTES}),
}


def swap_claims() -> str:
    mine, other = signed(CLAIMS), signed(CLAIMS | {"sub": "somebody else"})
    header, _, signature = mine.split(".")
    return ".".join([header, other.split(".")[1], signature])


def raw_header(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode() + ".e30.AAAA"


@pytest.mark.parametrize("make", HEADERS_ACCEPTED.values(), ids=HEADERS_ACCEPTED)
def test_headers_that_hold(make: Callable[[], str]) -> None:
    check(make(), KEYS, EXPECTED)


@pytest.mark.parametrize("make", HEADERS_REFUSED.values(), ids=HEADERS_REFUSED)
def test_headers_and_signatures_that_do_not_hold(make: Callable[[], str]) -> None:
    with pytest.raises(TokenInvalid):
        check(make(), KEYS, EXPECTED)


def test_another_algorithm_holds_where_it_is_pinned() -> None:
    token = signed(CLAIMS, {"alg": "ES256", "kid": "ec"}, EC)
    check(token, KEYS, replace(EXPECTED, algorithms=frozenset({"ES256"})))


def test_an_unknown_key_may_have_been_published_since() -> None:
    token = signed(CLAIMS, {"kid": "new"}, STRANGER)
    with pytest.raises(UnknownKey):
        check(token, KEYS, EXPECTED)
    renewed = admit({"keys": [STRANGER.as_dict(private=False) | {"kid": "new"}]})
    check(token, renewed, EXPECTED)


def test_without_a_kid_two_fitting_keys_are_ambiguous() -> None:
    both = admit(
        {"keys": [RSA.as_dict(private=False), STRANGER.as_dict(private=False) | {"kid": "b"}]}
    )
    with pytest.raises(TokenInvalid, match="which key"):
        check(signed(CLAIMS, {"kid": None}), both, EXPECTED)
    check(signed(CLAIMS), both, EXPECTED)


def test_messages_hold_nothing_of_the_token() -> None:
    token = signed(CLAIMS | {"nonce": "canary", "iss": "canary", "sub": "canary"})
    with pytest.raises(TokenInvalid) as caught:
        check(token, KEYS, EXPECTED)
    assert "canary" not in str(caught.value)


def test_there_are_keys() -> None:
    assert isinstance(KEYS, IssuerKeys)
    assert len(KEYS) == 2
