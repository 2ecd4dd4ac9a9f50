"""SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677), computed here instead of by the server.

``ALTER ROLE … PASSWORD 'secret'`` carries the secret to the server, where it may reach a log or a
statistics view. PostgreSQL also accepts the verifier that it would store, so only that travels.
"""

import base64
import hashlib
import hmac
import secrets

from troupe.common.errors import ConfigurationError

ITERATIONS = 4096  # PostgreSQL's default (scram_iterations); our own passwords have 256 bits
_SALT_BYTES = 16


def scram_verifier(password: str, *, salt: bytes | None = None) -> str:
    """What PostgreSQL stores for ``password``: ``SCRAM-SHA-256$iterations:salt$stored:server``.

    Args:
        password: Printable ASCII only, which needs no normalisation (SASLprep).
        salt: Random by default.

    Raises:
        ConfigurationError: The password is empty or has other characters.
    """
    if not password or not password.isascii() or not password.isprintable():
        raise ConfigurationError("A database password must consist of printable ASCII characters.")
    salt = secrets.token_bytes(_SALT_BYTES) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, stored_key, server_key)]
    return f"SCRAM-SHA-256${ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"
