from typing import Any

import pytest

from troupe.actors.auth.discovery import document_url, read
from troupe.actors.auth.errors import ProviderMisbehaved

ISSUER = "https://issuer.example/realm"
DOCUMENT: dict[str, Any] = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize?tenant=1",
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": "https://keys.example/jwks",
}


def test_a_document() -> None:
    metadata = read(DOCUMENT, ISSUER)
    assert metadata.userinfo_endpoint is None
    assert metadata.returns_issuer is False
    assert metadata.client_authentication == {"client_secret_basic"}
    assert document_url(ISSUER + "/") == f"{ISSUER}/.well-known/openid-configuration"


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://evil.example"},
        {"issuer": ISSUER + "/"},
        {"issuer": None},
        {"authorization_endpoint": None},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": "http://issuer.example/authorize"},
        {"token_endpoint": "/token"},
        {"token_endpoint": "https://"},
        {"token_endpoint": ["https://issuer.example"]},
        {"jwks_uri": "https://[::1/"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "https://keys.example/" + "x" * 2000},
        {"userinfo_endpoint": "ftp://issuer.example"},
        {"end_session_endpoint": ""},
        {"token_endpoint_auth_methods_supported": "client_secret_basic"},
    ],
)
def test_documents_that_cannot_be_used(change: dict[str, Any]) -> None:
    with pytest.raises(ProviderMisbehaved):
        read(DOCUMENT | change, ISSUER)
