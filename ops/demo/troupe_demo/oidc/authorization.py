"""The authorization request: what is checked before anybody sees a login page."""

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from troupe_demo.oidc.memory import Request
from troupe_demo.oidc.settings import Settings

SCOPES: Final = ("openid", "profile", "email", "offline_access")
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9\-_]{43}")
_PROMPTS: Final = frozenset({"", "none", "login", "consent", "select_account"})


class Untrusted(Exception):
    """The request names no known client or redirect address: nobody may be sent anywhere."""


class Refused(Exception):
    """The request is wrong, and its client is told so.

    Args:
        error: A code of RFC 6749, section 4.1.2.1, or of OpenID Connect.
        description: For the client's developer.
        redirect_uri: Of the client, already checked.
        state: As the client gave it.
    """

    def __init__(self, error: str, description: str, redirect_uri: str, state: str | None) -> None:
        super().__init__(description)
        self.error = error
        self.redirect_uri = redirect_uri
        self.state = state


def check(parameters: Mapping[str, Sequence[str]], settings: Settings) -> tuple[Request, str]:
    """The request that the parameters describe, and its ``prompt``.

    Args:
        parameters: Each with all of its values; one given twice is an error.
        settings: Who may ask.

    Raises:
        Untrusted: Unknown client, or a redirect address that is not on its list.
        Refused: Anything else that is wrong.
    """
    single = {name: values[0] for name, values in parameters.items() if len(values) == 1}
    client = settings.client(single.get("client_id"))
    if client is None:
        raise Untrusted("The application is not registered here.")
    redirect_uri = single.get("redirect_uri")
    if redirect_uri not in client.redirect_uris:
        raise Untrusted("The application did not register the address to return to.")
    state = single.get("state")

    scopes = frozenset(single.get("scope", "").split()) & frozenset(SCOPES)
    challenge = single.get("code_challenge", "")
    prompt = single.get("prompt", "")
    repeated = ", ".join(sorted(set(parameters) - set(single)))
    for is_wrong, error, description in (
        (repeated, "invalid_request", f"given twice: {repeated}"),
        ("request" in single, "request_not_supported", "request objects are not supported"),
        ("request_uri" in single, "request_uri_not_supported", "likewise, by reference"),
        (
            single.get("response_type") != "code",
            "unsupported_response_type",
            "only response_type=code is supported",
        ),
        (
            single.get("response_mode", "query") != "query",
            "invalid_request",
            "only response_mode=query is supported",
        ),
        ("openid" not in scopes, "invalid_scope", "the scope openid is needed"),
        (
            single.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(challenge),
            "invalid_request",
            "PKCE is required: code_challenge with code_challenge_method=S256",
        ),
        (prompt not in _PROMPTS, "invalid_request", "prompt is not understood"),
    ):
        if is_wrong:
            raise Refused(error, description, redirect_uri, state)
    request = Request(
        client_id=client.client_id,
        redirect_uri=redirect_uri,
        scopes=scopes,
        state=state,
        nonce=single.get("nonce"),
        code_challenge=challenge,
    )
    return request, prompt


def with_parameters(url: str, parameters: Mapping[str, str | None]) -> str:
    """`url` with further query parameters; those that are None are left out."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    pairs += [(name, value) for name, value in parameters.items() if value is not None]
    return urlunsplit(parts._replace(query=urlencode(pairs)))
