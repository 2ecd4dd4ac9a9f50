"""The secrets of one login, and why the database holds none of them.

A login under way needs a *state* (which comes back in the address), a *nonce* (which comes back in
the ID token) and a PKCE *verifier* (which redeems the code). All three must be tied to the browser
that started, or an attacker logs a victim in as himself, or redeems a stolen code.

The browser holds a random *binding* in a cookie. The database holds, under the state's hash, the
binding's hash and a random *salt*. Nonce and verifier are not stored anywhere: they are derived
from binding and salt together (HKDF) when the login starts, and again when it comes back. So a copy
of the database redeems no code, the cookie alone does neither, and a callback that arrives in
another browser cannot even compute what the provider would accept.

A browser keeps one binding for all its tabs; each login has a salt of its own.
"""

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Final

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

RANDOM_BYTES: Final = 32
_HANDLE: Final = re.compile(r"[A-Za-z0-9_\-]{43}")


def new_handle() -> str:
    """32 random bytes in base64url: a state, a binding, a session."""
    return secrets.token_urlsafe(RANDOM_BYTES)


def is_handle(text: str | None) -> bool:
    """Whether a text has the form of `new_handle`."""
    return text is not None and _HANDLE.fullmatch(text) is not None


def hash_of(secret: str) -> bytes:
    """What is stored of such a secret: its SHA-256.

    No salt and no stretching: in 32 random bytes there is nothing to guess.
    """
    return hashlib.sha256(secret.encode()).digest()


@dataclass(frozen=True, slots=True)
class LoginSecrets:
    """What one login derives from its browser's binding.

    Attributes:
        nonce: Goes to the provider, comes back in the ID token.
        verifier: PKCE; goes to the provider with the code.
    """

    nonce: str
    verifier: str

    @classmethod
    def derive(cls, binding: str, salt: bytes) -> "LoginSecrets":
        """Compute them.

        Args:
            binding: From the browser's cookie.
            salt: From the login's row, 32 bytes.
        """
        return cls(_derived(binding, salt, b"nonce"), _derived(binding, salt, b"pkce verifier"))

    @property
    def challenge(self) -> str:
        """PKCE's S256 of the verifier."""
        return str(create_s256_code_challenge(self.verifier))


def _derived(binding: str, salt: bytes, purpose: bytes) -> str:
    material = HKDF(SHA256(), RANDOM_BYTES, salt, b"troupe login " + purpose).derive(
        binding.encode()
    )
    return base64.urlsafe_b64encode(material).rstrip(b"=").decode()
