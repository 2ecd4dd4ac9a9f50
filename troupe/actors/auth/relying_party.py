"""Our side of OpenID Connect: sending a person to their provider, and what comes back.

Authorization code flow with PKCE, always; no implicit or hybrid flow, no request objects, no
dynamic registration. Discovery documents and key sets are remembered per issuer. Of authlib it uses
the pieces that are pure functions; its client is not used, because it does not bound the size of an
answer and writes credentials into the Basic header without the encoding of RFC 6749, 2.3.1. Tokens
are verified with joserfc under the rules of `signed_token` and `keys`.
"""

import base64
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit, urlunsplit

from troupe.actors.auth import discovery, id_token, keys, signed_token
from troupe.actors.auth.discovery import ProviderMetadata
from troupe.actors.auth.errors import (
    ClientRejected,
    GrantEnded,
    LoginExpired,
    ProviderMisbehaved,
    TokenInvalid,
)
from troupe.actors.auth.id_token import Expectations
from troupe.actors.auth.keys import IssuerKeys, UnknownKey
from troupe.actors.auth.login_secrets import LoginSecrets
from troupe.actors.auth.peer_http import PeerHttp
from troupe.actors.auth.remembered import Remembered
from troupe.actors.auth.signed_token import ID_TOKEN, Kind

MAX_ISSUERS: Final = 256
_MAX_CLAIM: Final = 320
_MAX_NAME: Final = 255
_ROTATIONS: Final = 2
"""Key sets that are tried after the one at hand: one that somebody else has just fetched, and one
that is fetched for us."""


@dataclass(frozen=True, slots=True)
class Client:
    """What we are at one provider.

    Attributes:
        secret: None for a public client.
        algorithms: Of ID tokens, pinned.
    """

    issuer: str
    client_id: str
    secret: str | None = field(repr=False)
    scopes: tuple[str, ...]
    algorithms: frozenset[str]


@dataclass(frozen=True, slots=True)
class Identity:
    """A person as their provider vouches for them.

    Attributes:
        email: Empty when the provider does not say.
        claims: Of the ID token, for rules about who may join.
        id_token: As it came, for logout.
        refresh_token: If there is one.
        sid: What the provider calls its own session, if it says.
    """

    issuer: str
    subject: str
    email: str
    email_verified: bool
    name: str
    claims: Mapping[str, Any] = field(repr=False)
    id_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    sid: str | None = field(repr=False, default=None)


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a provider gives for a refresh token.

    Attributes:
        id_token: A new one; None: it gives none with a refresh, and the old one stays.
        refresh_token: Takes the place of the old one; None: the old one stays good.
    """

    id_token: str | None = field(repr=False)
    refresh_token: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Issuer:
    metadata: Remembered[ProviderMetadata]
    keys: Remembered[IssuerKeys]


class RelyingParty:
    """Talks to providers.

    Args:
        http: How.
        now: Seconds since 1970.
    """

    def __init__(self, http: PeerHttp, *, now: Callable[[], float] = time.time) -> None:
        self._http = http
        self._now = now
        self._issuers: OrderedDict[str, _Issuer] = OrderedDict()

    async def metadata(self, issuer: str) -> ProviderMetadata:
        """What a provider says about itself.

        Raises:
            PeerError: It cannot be had, or cannot be used.
        """
        return await self._issuer(issuer).metadata.get()

    async def authorization_url(
        self, client: Client, *, redirect_uri: str, state: str, login: LoginSecrets
    ) -> str:
        """Where to send the browser.

        Raises:
            PeerError: The provider cannot be reached.
        """
        metadata = await self.metadata(client.issuer)
        return with_parameters(
            metadata.authorization_endpoint,
            {
                "response_type": "code",
                "client_id": client.client_id,
                "redirect_uri": redirect_uri,
                "scope": " ".join(client.scopes),
                "state": state,
                "nonce": login.nonce,
                "code_challenge": login.challenge,
                "code_challenge_method": "S256",
            },
        )

    async def check_answer(self, client: Client, issuer: str | None) -> None:
        """Whether an answer that the browser brought is from this provider (RFC 9207).

        Args:
            client: Of the login that the answer's state names.
            issuer: The parameter ``iss``, if there was one.

        Raises:
            ProviderMisbehaved: It is another provider's answer.
        """
        metadata = await self.metadata(client.issuer)
        if issuer is None and not metadata.returns_issuer:
            return
        if issuer != client.issuer:
            raise ProviderMisbehaved("The answer came from another identity provider.")

    async def redeem(
        self, client: Client, *, code: str, redirect_uri: str, login: LoginSecrets
    ) -> Identity:
        """Trade the code for a person.

        Raises:
            LoginExpired: The provider does not know the code any more.
            ClientRejected: Our id or secret is wrong.
            PeerError: No answer, or one that does not hold.
        """
        metadata = await self.metadata(client.issuer)
        answer = await self._token_request(
            metadata,
            client,
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": redirect_uri,
                "code_verifier": login.verifier,
            },
        )
        token, access_token = answer.get("id_token"), answer.get("access_token")
        if not isinstance(token, str) or not isinstance(access_token, str):
            raise ProviderMisbehaved("The identity provider's answer lacks a token.")
        if str(answer.get("token_type", "")).lower() != "bearer":
            raise ProviderMisbehaved("The identity provider's access token is of an unknown type.")
        claims = await self._checked(
            token,
            Expectations(
                issuer=client.issuer,
                client_id=client.client_id,
                algorithms=client.algorithms,
                nonce=login.nonce,
                access_token=access_token,
                now=self._now(),
            ),
        )
        if "email" not in claims and "email" in client.scopes and metadata.userinfo_endpoint:
            claims = await self._with_userinfo(metadata.userinfo_endpoint, access_token, claims)
        refresh_token = answer.get("refresh_token")
        return Identity(
            issuer=client.issuer,
            subject=claims["sub"],
            email=_text(claims, "email"),
            email_verified=claims.get("email_verified") is True,
            name=_text(claims, "name") or _text(claims, "preferred_username"),
            claims=claims,
            id_token=token,
            refresh_token=refresh_token if isinstance(refresh_token, str) else None,
            sid=_name(claims, "sid"),
        )

    async def refresh(self, client: Client, *, refresh_token: str, subject: str) -> Refreshed:
        """Ask the provider whether it still stands by a login, and take its new tokens.

        Args:
            client: What we are there.
            refresh_token: May be void afterwards, whatever becomes of the answer.
            subject: Whose login it is.

        Raises:
            GrantEnded: It does not.
            ClientRejected: Our id or secret is wrong.
            PeerError: No answer, or one that does not hold.
        """
        metadata = await self.metadata(client.issuer)
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        try:
            answer = await self._token_request(metadata, client, form)
        except LoginExpired:
            raise GrantEnded("The identity provider does not stand by the login.") from None
        token, access_token = answer.get("id_token"), answer.get("access_token")
        if not isinstance(access_token, str):
            raise ProviderMisbehaved("The identity provider's answer lacks a token.")
        if token is not None:
            if not isinstance(token, str):
                raise TokenInvalid("The identity provider's ID token cannot be read.")
            await self._checked(
                token,
                Expectations(
                    issuer=client.issuer,
                    client_id=client.client_id,
                    algorithms=client.algorithms,
                    nonce=None,
                    access_token=access_token,
                    now=self._now(),
                    subject=subject,
                ),
            )
        successor = answer.get("refresh_token")
        return Refreshed(token, successor if isinstance(successor, str) and successor else None)

    async def introspect(self, client: Client, token: str) -> Mapping[str, Any] | None:
        """What the provider says about a token that only it can read (RFC 7662); None: void.

        Raises:
            ClientRejected: Our id or secret is wrong.
            PeerError: No answer, or one that does not hold.
        """
        metadata = await self.metadata(client.issuer)
        if metadata.introspection_endpoint is None:
            raise ProviderMisbehaved("The identity provider does not introspect tokens.")
        form = {"token": token, "token_type_hint": "access_token"}
        fields, authorization = authenticated(metadata, client, form)
        status, answer = await self._http.post_form(
            metadata.introspection_endpoint, fields, authorization=authorization
        )
        if status in {401, 403}:
            raise ClientRejected("The identity provider does not let this client introspect.")
        if status != 200 or not isinstance(answer.get("active"), bool):
            raise ProviderMisbehaved("The identity provider's introspection cannot be read.")
        return answer if answer["active"] else None

    async def verified(
        self, token: str, kind: Kind, *, issuer: str, algorithms: frozenset[str]
    ) -> dict[str, Any]:
        """The claims of a token that the issuer has signed, with keys fetched again if need be.

        Raises:
            TokenInvalid: It has not.
            PeerError: Its keys cannot be had.
        """
        # Size, form and algorithm first: a token that cannot be good does not cost a fetch.
        signed_token.require_algorithm(signed_token.read_header(token, kind), algorithms, kind)
        remembered = self._issuer(issuer).keys
        known = await remembered.get()
        for _ in range(_ROTATIONS):
            try:
                return signed_token.verified(token, kind, known, algorithms)
            except UnknownKey:
                newer = await remembered.renew(instead_of=known)
                if newer is known:
                    raise
                known = newer
        return signed_token.verified(token, kind, known, algorithms)

    async def logout_url(
        self, client: Client, *, token: str | None, return_to: str, state: str
    ) -> str | None:
        """Where to send the browser so that it is logged out at the provider too, if it can be.

        Raises:
            PeerError: The provider cannot be reached.
        """
        metadata = await self.metadata(client.issuer)
        if metadata.end_session_endpoint is None:
            return None
        parameters = {"client_id": client.client_id, "post_logout_redirect_uri": return_to}
        if token is not None:
            parameters["id_token_hint"] = token
        return with_parameters(metadata.end_session_endpoint, {**parameters, "state": state})

    def _issuer(self, issuer: str) -> _Issuer:
        known = self._issuers.get(issuer)
        if known is None:

            async def fetch_metadata() -> ProviderMetadata:
                document = await self._http.get(discovery.document_url(issuer))
                return discovery.read(document, issuer)

            metadata = Remembered(f"metadata of {issuer}", fetch_metadata)

            async def fetch_keys() -> IssuerKeys:
                return keys.admit(await self._http.get((await metadata.get()).jwks_uri))

            known = _Issuer(metadata, Remembered(f"keys of {issuer}", fetch_keys))
            self._issuers[issuer] = known
        self._issuers.move_to_end(issuer)
        while len(self._issuers) > MAX_ISSUERS:
            self._issuers.popitem(last=False)
        return known

    async def _token_request(
        self, metadata: ProviderMetadata, client: Client, form: Mapping[str, str]
    ) -> dict[str, Any]:
        fields, authorization = authenticated(metadata, client, form)
        status, answer = await self._http.post_form(
            metadata.token_endpoint, fields, authorization=authorization
        )
        if status == 200 and "error" not in answer:
            return answer
        if status == 401 or answer.get("error") in {"invalid_client", "unauthorized_client"}:
            raise ClientRejected(
                "The identity provider does not accept the client id and secret of this tenant."
            )
        if answer.get("error") == "invalid_grant":
            raise LoginExpired("The identity provider does not accept this login any more.")
        raise ProviderMisbehaved("The identity provider refused to complete the login.")

    async def _checked(self, token: str, expected: Expectations) -> dict[str, Any]:
        claims = await self.verified(
            token, ID_TOKEN, issuer=expected.issuer, algorithms=expected.algorithms
        )
        id_token.judge(token, claims, expected)
        return claims

    async def _with_userinfo(
        self, url: str, access_token: str, claims: dict[str, Any]
    ) -> dict[str, Any]:
        information = await self._http.get(url, bearer=access_token)
        if information.get("sub") != claims["sub"]:
            raise TokenInvalid("The identity provider's userinfo is about somebody else (sub).")
        return {**information, **claims}


def authenticated(
    metadata: ProviderMetadata, client: Client, form: Mapping[str, str]
) -> tuple[dict[str, str], str | None]:
    """The form and the Authorization header with which a client proves who it is."""
    if client.secret is None:
        return {**form, "client_id": client.client_id}, None
    if "client_secret_basic" in metadata.client_authentication:
        pair = f"{quote_plus(client.client_id)}:{quote_plus(client.secret)}"
        return dict(form), f"Basic {base64.b64encode(pair.encode()).decode()}"
    if "client_secret_post" in metadata.client_authentication:
        return {**form, "client_id": client.client_id, "client_secret": client.secret}, None
    raise ProviderMisbehaved("The identity provider offers no way to authenticate that we know.")


def _text(claims: Mapping[str, Any], name: str) -> str:
    """A claim for people: only if it is a text of sane length; control characters are dropped."""
    value = claims.get(name)
    if not isinstance(value, str):
        return ""
    return "".join(character for character in value[:_MAX_CLAIM] if character.isprintable()).strip()


def _name(claims: Mapping[str, Any], claim: str) -> str | None:
    """An identifier of the provider's that we only compare; None when it is odd."""
    value = claims.get(claim)
    fit = isinstance(value, str) and 0 < len(value) <= _MAX_NAME and value.isprintable()
    return str(value) if fit else None


def with_parameters(url: str, parameters: Mapping[str, str]) -> str:
    """`url` with further query parameters, its own kept."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True) + list(parameters.items())
    return urlunsplit(parts._replace(query=urlencode(pairs)))
