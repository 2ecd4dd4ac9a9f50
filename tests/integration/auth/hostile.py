"""An identity provider that does what a test tells it to, right or wrong.

Told nothing, it plays by the rules: it sends every browser straight back, vouches for one person
and signs with one key. Each attribute is one way to break one rule; `behave` takes all of it back.
"""

import base64
import json
import secrets
import time
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import parse_qs, urlencode, urlsplit

import trio
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, RSAKey

from troupe.actors.auth.login_secrets import LoginSecrets
from troupe.actors.auth.logout_token import EVENT

LOGIN: Final = LoginSecrets.derive("b" * 43, b"s" * 32)
ONE: Final = RSAKey.generate_key(2048, {"kid": "one"}, private=True)
TWO: Final = RSAKey.generate_key(2048, {"kid": "two"}, private=True)
with warnings.catch_warnings(action="ignore"):
    WEAK: Final = RSAKey.generate_key(1024, {"kid": "one"}, private=True)
CURVE: Final = ECKey.generate_key("P-256", {"kid": "curve"}, private=True)
Json = dict[str, Any]
Key = RSAKey | ECKey | OctKey


def encoded(document: Json) -> str:
    """A part of a token."""
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


@dataclass
class HostileProvider:
    """Its answers are attributes, and it remembers what it was asked.

    Attributes:
        key: That it publishes, and signs with.
        published: Instead of `key`.
        signer: Signs instead of `key`, in its name.
        header: Changes of a token's header; None takes a member away.
        claims: Likewise of an ID token's claims.
        mangle: Changes an ID token that is complete.
        metadata: Likewise of the discovery document.
        answer: Likewise of the token endpoint's answer.
        userinfo: The whole answer there.
        introspected: What is said about an opaque token; None: it is void.
        introspections: How often that was asked.
        released: Until it is set, that question is not answered.
        callback: Likewise of what the browser brings back.
        status: Of the token endpoint.
        key_fetches: How often its keys were asked for.
        asked: What the token endpoint was asked last.
        authorization: How it was asked.
        rotation: What becomes of a refresh token that comes a second time: ``strict`` ends the
            grant, ``grace`` gives the same successor again; None: there are no refresh tokens.
        refreshes: Refresh tokens that were presented.
    """

    issuer: str
    key: Key = field(default_factory=lambda: ONE)
    published: list[Json] | None = None
    signer: Key | None = None
    header: Json = field(default_factory=dict)
    claims: Json = field(default_factory=dict)
    mangle: Callable[[str], str] | None = None
    metadata: Json = field(default_factory=dict)
    answer: Json = field(default_factory=dict)
    userinfo: Json = field(default_factory=dict)
    introspected: Json | None = None
    introspections: int = 0
    released: trio.Event | None = None
    callback: Json = field(default_factory=dict)
    status: int = 200
    key_fetches: int = 0
    asked: Json = field(default_factory=dict)
    authorization: str = ""
    rotation: Literal["strict", "grace"] | None = None
    refreshes: list[str] = field(default_factory=list)
    successors: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    nonces: list[str] = field(default_factory=lambda: [LOGIN.nonce])

    def behave(self) -> None:
        """Play by the rules again; keys that were rotated stay so."""
        self.published = self.signer = self.mangle = None
        self.status = 200
        self.header, self.claims, self.answer = {}, {}, {}
        self.metadata, self.userinfo, self.callback = {}, {}, {}

    def reply(  # noqa: PLR0911  # one for each address
        self, path: str, query: str, body: str, headers: Json
    ) -> tuple[int, Json, Json]:
        """Status, headers and document."""
        match path:
            case "/.well-known/openid-configuration":
                return 200, {}, _without_none(self._document() | self.metadata)
            case "/jwks":
                self.key_fetches += 1
                own = [dict(self.key.as_dict(private=False))]
                return 200, {}, {"keys": own if self.published is None else self.published}
            case "/userinfo":
                return 200, {}, self.userinfo
            case "/introspect":
                self.introspections += 1
                self.authorization = headers.get("authorization", "")
                void: Json = {"active": False}
                said = self.introspected
                return self.status, {}, void if said is None else {"active": True, **said}
            case "/authorize":
                return 303, {"Location": self._authorized(parse_qs(query))}, {}
            case _:
                self.asked = {name: values[0] for name, values in parse_qs(body).items()}
                self.authorization = headers.get("authorization", "")
                if "refresh_token" in self.asked:
                    return self._refreshed(self.asked["refresh_token"])
                tokens = {
                    "refresh_token": None if self.rotation is None else self._new_token(),
                    "access_token": "at",
                    "token_type": "Bearer",
                    "id_token": self.id_token(),
                }
                return self.status, {}, _without_none(tokens | self.answer)

    def _new_token(self) -> str:
        token = secrets.token_hex(8)
        self.successors[token] = ""
        return token

    def _refreshed(self, token: str) -> tuple[int, Json, Json]:
        self.refreshes.append(token)
        if self.status != 200:
            return self.status, {}, _without_none({"error": "later"} | self.answer)
        successor = self.successors.get(token)
        if successor and self.rotation == "strict":
            self.ended = True
        if successor is None or self.ended:
            return 400, {}, {"error": "invalid_grant"}
        if not successor:
            successor = self.successors[token] = self._new_token()
        tokens = {
            "access_token": "at",
            "token_type": "Bearer",
            "id_token": self.id_token(),
            "refresh_token": successor,
        }
        return 200, {}, _without_none(tokens | self.answer)

    def _document(self) -> Json:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "introspection_endpoint": f"{self.issuer}/introspect",
        }

    def _authorized(self, query: dict[str, list[str]]) -> str:
        self.nonces.append(query["nonce"][0])
        given = {"code": secrets.token_hex(8), "state": query["state"][0], "iss": self.issuer}
        return f"{query['redirect_uri'][0]}?{urlencode(_without_none(given | self.callback))}"

    def id_token(self) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": "person",
            "aud": "troupe",
            "iat": now,
            "exp": now + 60,
            "nonce": self.nonces[-1],
            "sid": "their-session",
            "email": "p@harbor.example",
            "email_verified": True,
            "name": "Person",
            "jti": secrets.token_hex(8),
        }
        token = self.sign(_without_none(claims | self.claims))
        return token if self.mangle is None else self.mangle(token)

    def logout_token(self, **changes: Any) -> str:
        """A logout token; None takes a claim away."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": "troupe",
            "iat": now,
            "exp": now + 120,
            "jti": secrets.token_hex(8),
            "sub": "person",
            "sid": "their-session",
            "events": {EVENT: {}},
        }
        return self.sign(_without_none(claims | changes), typ="logout+jwt")

    def access_token(self, **changes: Any) -> str:
        """An access token for our API (RFC 9068); None takes a claim away."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": "https://api.example",
            "sub": "person",
            "client_id": "a program",
            "iat": now,
            "exp": now + 300,
            "jti": secrets.token_hex(8),
            "scope": "analytics:read auth:read unrelated",
        }
        return self.sign(_without_none(claims | changes), typ="at+jwt")

    def sign(self, claims: Json, **header: Any) -> str:
        """A token with these claims, in the provider's present manner."""
        signer = self.signer or self.key
        algorithm = "ES256" if isinstance(signer, ECKey) else "RS256"
        full = _without_none({"alg": algorithm, "kid": self.key.kid} | header | self.header)
        if full.get("alg") == "none":
            return f"{encoded(full)}.{encoded(claims)}."
        # Not by way of the library's own checks of a header, some of which are to fail with us.
        algorithm = jws.JWSRegistry(algorithms=[full["alg"]]).get_alg(full["alg"])
        signed = f"{encoded(full)}.{encoded(claims)}"
        signature = algorithm.sign(signed.encode(), signer)
        return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"

    async def serve(self, stream: trio.SocketStream) -> None:
        raw = b""
        while b"\r\n\r\n" not in raw:
            chunk = await stream.receive_some(65536)
            if not chunk:
                return
            raw += chunk
        head, _, body = raw.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])
        }
        while len(body) < int(headers.get("content-length", 0)):
            body += await stream.receive_some(65536)
        target = urlsplit(lines[0].split(" ")[1])
        status, given, document = self.reply(target.path, target.query, body.decode(), headers)
        if target.path == "/introspect" and self.released is not None:
            await self.released.wait()
        content = json.dumps(document).encode()
        fields = {"Content-Length": len(content), "Connection": "close", **given}
        written = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await stream.send_all(f"HTTP/1.1 {status} X\r\n{written}\r\n".encode() + content)


def _without_none(document: Json) -> Json:
    return {name: value for name, value in document.items() if value is not None}


@asynccontextmanager
async def open_provider() -> AsyncIterator[HostileProvider]:
    """One of its own port, while the context is open."""
    async with trio.open_nursery() as nursery:
        provider = HostileProvider("")
        listeners = await nursery.start(trio.serve_tcp, provider.serve, 0)
        provider.issuer = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        yield provider
        nursery.cancel_scope.cancel()
