"""The verifier against the example of RFC 7677 and against what it is for."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troupe.common.errors import ConfigurationError
from troupe.common.postgres._scram import ITERATIONS, scram_verifier

# RFC 7677, section 3: user "user", password "pencil", 4096 iterations.
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
MESSAGES = (
    b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
)
CLIENT_PROOF = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
SERVER_SIGNATURE = base64.b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")

PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=80)


def test_example_of_the_rfc() -> None:
    _, parameters, keys = scram_verifier("pencil", salt=SALT).split("$")
    assert parameters == f"{ITERATIONS}:W22ZaJ0SNY7soEsUEjb6gQ=="
    stored, server = (base64.b64decode(key) for key in keys.split(":"))
    assert hmac.digest(server, MESSAGES, "sha256") == SERVER_SIGNATURE
    # A server holding the stored key accepts the client's proof: proof XOR signature hashes to it.
    signature = hmac.digest(stored, MESSAGES, "sha256")
    client_key = bytes(a ^ b for a, b in zip(CLIENT_PROOF, signature, strict=True))
    assert hashlib.sha256(client_key).digest() == stored


def test_salts_differ() -> None:
    assert scram_verifier("pencil") != scram_verifier("pencil")


@given(PRINTABLE)
def test_it_needs_no_quoting_and_never_shows_the_password(password: str) -> None:
    verifier = scram_verifier(password, salt=SALT)
    assert verifier.startswith("SCRAM-SHA-256$4096:")
    assert not set(verifier) & set("'\\\n\0 ")
    assert len(password) < 6 or password not in verifier


@pytest.mark.parametrize("password", ["", "naïve", "tab\there", "nul\0", "line\n"])
def test_what_would_need_normalising_is_refused(password: str) -> None:
    with pytest.raises(ConfigurationError):
        scram_verifier(password)
