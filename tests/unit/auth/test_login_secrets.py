import base64
import hashlib

import pytest
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from troupe.actors.auth.access_tokens import is_token, new_token
from troupe.actors.auth.login_secrets import (
    LoginSecrets,
    hash_of,
    is_handle,
    new_handle,
)
from troupe.actors.auth.sessions import csrf_token, is_csrf_token


def test_pkce_as_in_rfc_7636_appendix_b() -> None:
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    expected = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert create_s256_code_challenge(verifier) == expected


def test_the_challenge_is_of_the_verifier() -> None:
    login = LoginSecrets.derive(new_handle(), b"s" * 32)
    digest = hashlib.sha256(login.verifier.encode()).digest()
    assert login.challenge == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert 43 <= len(login.verifier) <= 128


def test_derived_secrets_depend_on_browser_and_salt() -> None:
    binding, other = new_handle(), new_handle()
    first = LoginSecrets.derive(binding, b"a" * 32)
    assert first == LoginSecrets.derive(binding, b"a" * 32)
    seen = {first.nonce, first.verifier}
    for again in (LoginSecrets.derive(binding, b"b" * 32), LoginSecrets.derive(other, b"a" * 32)):
        seen |= {again.nonce, again.verifier}
    assert len(seen) == 6


def test_handles() -> None:
    handle = new_handle()
    assert is_handle(handle)
    assert new_handle() != handle
    assert len(hash_of(handle)) == 32
    for text in (None, "", handle[:-1], handle + "A", handle[:-1] + "=", handle[:-1] + "\n"):
        assert not is_handle(text)


def test_tokens_carry_a_checksum() -> None:
    token = new_token()
    assert is_token(token)
    assert len(token) == 53
    assert new_token() != token
    for position in range(4, len(token)):
        digit = "0" if token[position] != "0" else "1"
        assert not is_token(token[:position] + digit + token[position + 1 :])


@pytest.mark.parametrize("text", ["", "trp_", "ghp_" + "0" * 49, "trp_" + "é" * 49])
def test_what_is_no_token(text: str) -> None:
    assert not is_token(text)
    assert not is_token(new_token() + text + "\n")


def test_the_csrf_token_follows_from_the_session() -> None:
    session = new_handle()
    token = csrf_token(session)
    assert is_csrf_token(token, session)
    assert not is_csrf_token(token, new_handle())
    assert not is_csrf_token("", session)
    assert not is_csrf_token("é", session)
    assert session not in token
