"""What an identity provider says about itself (OpenID Connect Discovery)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from troupe.actors.auth.errors import ProviderMisbehaved

_MAX_URL: Final = 2000


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """The part of the document that a login uses; addresses are checked for form, not for reach.

    Attributes:
        issuer: Exactly the configured one.
        returns_issuer: Every answer to the browser carries ``iss`` (RFC 9207), so one without it
            is not from this provider.
        client_authentication: Methods that the token endpoint takes.
    """

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    end_session_endpoint: str | None
    introspection_endpoint: str | None
    returns_issuer: bool
    client_authentication: frozenset[str]


def document_url(issuer: str) -> str:
    """Where the document lies."""
    return issuer.removesuffix("/") + "/.well-known/openid-configuration"


def read(document: Mapping[str, Any], issuer: str) -> ProviderMetadata:
    """Check the document.

    Raises:
        ProviderMisbehaved: Another issuer's, or an address is missing or odd.
    """
    if document.get("issuer") != issuer:
        raise ProviderMisbehaved("The identity provider says that it is another issuer.")
    return ProviderMetadata(
        issuer=issuer,
        authorization_endpoint=_url(document, "authorization_endpoint", issuer),
        token_endpoint=_url(document, "token_endpoint", issuer),
        jwks_uri=_url(document, "jwks_uri", issuer),
        userinfo_endpoint=_optional_url(document, "userinfo_endpoint", issuer),
        end_session_endpoint=_optional_url(document, "end_session_endpoint", issuer),
        introspection_endpoint=_optional_url(document, "introspection_endpoint", issuer),
        returns_issuer=document.get("authorization_response_iss_parameter_supported") is True,
        client_authentication=_methods(document),
    )


def _optional_url(document: Mapping[str, Any], name: str, issuer: str) -> str | None:
    return _url(document, name, issuer) if document.get(name) is not None else None


def _url(document: Mapping[str, Any], name: str, issuer: str) -> str:
    """An address; over https whenever the issuer is (the guard decides about plain http)."""
    value = document.get(name)
    try:
        parts = urlsplit(value) if isinstance(value, str) and len(value) <= _MAX_URL else None
    except ValueError:
        parts = None
    schemes = {"https"} if issuer.startswith("https:") else {"https", "http"}
    if parts is None or parts.scheme not in schemes or not parts.hostname or parts.fragment:
        raise ProviderMisbehaved(f"The identity provider's document has no usable {name}.")
    return str(value)


def _methods(document: Mapping[str, Any]) -> frozenset[str]:
    listed = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    if not isinstance(listed, list):
        raise ProviderMisbehaved("The identity provider's document is malformed.")
    return frozenset(method for method in listed if isinstance(method, str))
