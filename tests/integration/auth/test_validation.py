"""What a request's credentials cost, and how soon they are refused everywhere."""

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import httpx2
import pytest
import trio
from joserfc.jwk import OctKey

from tests.integration.auth.hostile import CURVE, ONE, TWO, HostileProvider, open_provider
from tests.integration.auth.site import Browser, Site
from tests.support.postgres import TestDatabase
from troupe.actors.auth.access_tokens import issue_token
from troupe.actors.auth.peer_http import PeerHttp
from troupe.actors.auth.provider_tokens import LEFT_ALONE, MAX_AGE, MAX_AT_ONCE
from troupe.common.units import SECONDS
from troupe.http.credentials import LOOPBACK_SESSION_COOKIE, Credentials

PROMISE: Final = 2.0
PATIENCE: Final = 30 * SECONDS
AUDIENCE: Final = "https://api.example"
NOW: Final = int(time.time())
OPAQUE: Final = "an-opaque-token"
GOOD: Final = {
    "sub": "person",
    "aud": AUDIENCE,
    "exp": NOW + 86400,  # longer than any run of all tests
    "scope": "analytics:read auth:read unrelated *",
    "token_type": "Bearer",
}


@pytest.fixture
async def hostile(site: Site) -> AsyncIterator[HostileProvider]:
    """A provider of Harbor whose access tokens our API takes; its person is an analyst there."""
    async with open_provider() as provider:
        await set_up(site, provider)
        yield provider


async def set_up(site: Site, provider: HostileProvider, **changes: Any) -> None:
    settings = {
        "issuer": provider.issuer,
        "client_id": "troupe",
        "allowed_email_domains": ["harbor.example"],
        "joining_role": "analyst",
        "api_audience": AUDIENCE,
        "introspection": True,
        "scopes": ("openid", "email"),
    }
    await site.put_provider(site.harbor, **settings | changes)


async def log_in(site: Site, browser: Browser) -> str:
    """The session's cookie; afterwards the person is a member."""
    provider = str(site.providers[site.harbor])
    begun = await browser.get("/api/v1/login", params={"provider": provider})
    sent_back = await browser.get(begun.headers["Location"])
    assert (await browser.get(sent_back.headers["Location"])).status_code == 303
    cookie: str = browser.client.cookies[LOOPBACK_SESSION_COOKIE]
    return cookie


async def ask(
    site: Site, token: str, tenant: UUID | None = None, path: str = "validate"
) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {token}"}
    if tenant is not None:
        headers["X-Tenant-Id"] = str(tenant)
    async with httpx2.AsyncClient() as client:
        return await client.get(f"{site.url}/api/v1/{path}", headers=headers)


# --- what it costs ---


@dataclass
class Costs:
    """Round trips."""

    database: int = 0
    network: int = 0


@contextmanager
def counted(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Costs]:
    """Count every connection that is borrowed and every request to a provider."""
    costs = Costs()
    borrow, exchange = site.database._enter, PeerHttp._exchange

    async def borrowed(borrower: object) -> None:
        costs.database += 1
        await borrow(borrower)

    async def exchanged(self: PeerHttp, request: Any) -> Any:
        costs.network += 1
        return await exchange(self, request)

    with monkeypatch.context() as patch:
        patch.setattr(site.database, "_enter", borrowed)
        patch.setattr(PeerHttp, "_exchange", exchanged)
        yield costs


@pytest.mark.parametrize("kind", ["session", "own token", "signed token", "opaque token"])
async def test_a_warm_validation_asks_nobody(
    site: Site,
    hostile: HostileProvider,
    browser: Browser,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    session = await log_in(site, browser)
    hostile.introspected = GOOD
    own = await issue_token(site.database, site.harbor, name="tests", role="viewer")
    headers = {
        "session": {"Cookie": f"{LOOPBACK_SESSION_COOKIE}={session}"},
        "own token": {"Authorization": f"Bearer {own.token}"},
        "signed token": {"Authorization": f"Bearer {hostile.access_token()}"},
        "opaque token": {
            "Authorization": f"Bearer {OPAQUE}",
            "X-Tenant-Id": str(site.harbor),
        },
    }[kind]

    async with httpx2.AsyncClient() as client:

        async def validate() -> None:
            answer = await client.get(f"{site.url}/api/v1/validate", headers=headers)
            assert answer.status_code == 200, answer.text

        with counted(site, monkeypatch) as cold:
            await validate()
        # Of the provider's documents the login has left the metadata and the keys.
        assert cold.database >= 1
        assert cold.network == (1 if kind == "opaque token" else 0)
        began = trio.current_time()
        with counted(site, monkeypatch) as warm:
            for _ in range(20):
                await validate()
        if trio.current_time() - began < 1.2:
            assert warm == Costs(0, 0)
        else:
            assert warm.database <= 3


async def test_a_signed_token_costs_one_statement_and_no_request(
    site: Site, hostile: HostileProvider, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the issuer's keys at hand, also when what is remembered is over."""
    await log_in(site, browser)
    assert (await ask(site, hostile.access_token())).status_code == 200
    with counted(site, monkeypatch) as costs:
        assert (await ask(site, hostile.access_token())).status_code == 200
    assert costs == Costs(database=1, network=0)


async def test_a_token_about_nobody_makes_us_ask_nobody(
    site: Site, hostile: HostileProvider, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert site.harbor
    with counted(site, monkeypatch) as costs:
        for changes in ({"sub": "nobody"}, {"iss": "http://127.0.0.1:9"}, {"aud": "other"}):
            assert (await ask(site, hostile.access_token(**changes))).status_code == 401
        hostile.header = {"kid": "nobody's"}
        assert (await ask(site, hostile.access_token())).status_code == 401
    assert costs == Costs(database=4, network=0)


# --- how soon it ends ---


@asynccontextmanager
async def elsewhere(url: str, kind: str, secret: str) -> AsyncIterator[trio.Process]:
    """Another process, in which the credential is good and remembered."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "tests.integration.auth.credential_worker", url, kind, secret],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        with trio.fail_after(PATIENCE):
            assert await process.stdout.receive_some(64) == b"in\n"
        await trio.sleep(0.5)
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            if process.stdout is not None:
                await process.stdout.aclose()


async def until_out(process: trio.Process) -> float:
    began = trio.current_time()
    assert process.stdout is not None
    with trio.fail_after(PATIENCE):
        assert await process.stdout.receive_some(64) == b"out\n"
    return trio.current_time() - began


ENDINGS: Final[dict[str, tuple[str, str]]] = {
    "a session ended from the list": ("session", "DELETE /api/v1/sessions/{session_id}"),
    "a session logged out at the provider": ("session", "logout token"),
    "a session whose tenant was deactivated": (
        "session",
        "UPDATE platform.tenants SET state = 'deactivated'",
    ),
    "a session whose provider was switched off": (
        "session",
        "UPDATE auth.identity_providers SET enabled = false",
    ),
    "a token that was revoked": ("own", "DELETE /api/v1/tokens/{token_id}"),
    "a token whose maker left": ("own", "DELETE FROM auth.members"),
    "a provider's token whose person left": ("signed", "DELETE FROM auth.members"),
}


@pytest.mark.parametrize(("what", "how"), ENDINGS.values(), ids=ENDINGS)
async def test_it_ends_in_other_processes(
    site: Site,
    hostile: HostileProvider,
    browser: Browser,
    other_browser: Browser,
    fresh_database: TestDatabase,
    what: str,
    how: str,
) -> None:
    session = await log_in(site, browser)
    await log_in(site, other_browser)
    made = (await other_browser.send("POST", "/api/v1/tokens", json={"name": "x"})).json()
    listed = (await browser.api("/api/v1/sessions")).json()["data"]
    mine = next(one["session_id"] for one in listed if one["is_current"])
    kind, secret = {
        "session": ("session", session),
        "own": ("bearer", made["token"]),
        "signed": ("bearer", hostile.access_token()),
    }[what]
    async with elsewhere(fresh_database.runtime_url, kind, secret) as process:
        if how == "logout token":
            answer = await other_browser.client.post(
                f"{site.url}/api/v1/backchannel-logout",
                data={"logout_token": hostile.logout_token()},
            )
            assert answer.status_code == 200
        elif how.startswith("DELETE /"):
            path = how.removeprefix("DELETE ").format(session_id=mine, token_id=made["token_id"])
            assert (await other_browser.send("DELETE", path)).status_code == 204
        else:
            await site.admin(how)
        assert await until_out(process) < PROMISE


# --- signed access tokens ---

Fault = Callable[[HostileProvider], None]
CLAIMS: Final[dict[str, dict[str, Any]]] = {
    "iss: another": {"iss": "https://other.example"},
    "iss: missing": {"iss": None},
    "sub: missing": {"sub": None},
    "sub: half a character": {"sub": "\ud800"},
    "sub: with U+0000": {"sub": "person\0"},
    "aud: another": {"aud": "https://other.example"},
    "aud: our client id": {"aud": "troupe"},
    "aud: missing": {"aud": None},
    "aud: too many": {"aud": [AUDIENCE, *map(str, range(20))]},
    "exp: over": {"exp": NOW - 3600},
    "exp: missing": {"exp": None},
    "iat: missing": {"iat": None},
    "iat: in two days": {"iat": NOW + 2 * 86400},
    "iat: too long ago": {"iat": NOW - MAX_AGE - 300},
    "nbf: in two days": {"nbf": NOW + 2 * 86400},
    "client_id: missing": {"client_id": None},
    "jti: missing": {"jti": None},
    "cnf: bound to a key": {"cnf": {"jkt": "x"}},
}


def hmac(provider: HostileProvider) -> None:
    provider.signer = OctKey.import_key(ONE.as_pem(private=False).decode().strip("-\n"))
    provider.header["alg"] = "HS256"


def signed_by(key: Any, **header: Any) -> Fault:
    def fault(provider: HostileProvider) -> None:
        provider.signer = key
        provider.header.update(header)

    return fault


HEADERS: Final[dict[str, Fault]] = {
    "alg: none": lambda p: p.header.update(alg="none"),
    "alg: HS256 with the public key": hmac,
    "alg: ES256, which was not agreed": signed_by(CURVE, alg="ES256", kid="curve"),
    "alg: RS512, which was not agreed": lambda p: p.header.update(alg="RS512"),
    "sig: by another key": signed_by(TWO),
    "kid: unknown": lambda p: p.header.update(kid="nobody's"),
    "typ: missing": lambda p: p.header.update(typ=None),
    "typ: an ID token": lambda p: p.header.update(typ="JWT"),
    "typ: a logout token": lambda p: p.header.update(typ="logout+jwt"),
    "crit": lambda p: p.header.update(crit=["exp"]),
    "zip": lambda p: p.header.update(zip="DEF"),
}


async def test_signed_tokens_that_do_not_hold(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    await log_in(site, browser)
    wrong = {}
    for name, changes in CLAIMS.items():
        refused = (await ask(site, hostile.access_token(**changes))).status_code
        twin = (await ask(site, hostile.access_token())).status_code
        if (refused, twin) != (401, 200):
            wrong[name] = (refused, twin)
    for name, fault in HEADERS.items():
        fault(hostile)
        refused = (await ask(site, hostile.access_token())).status_code
        hostile.behave()
        twin = (await ask(site, hostile.access_token())).status_code
        if (refused, twin) != (401, 200):
            wrong[name] = (refused, twin)
    assert not wrong


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": [AUDIENCE, "https://other.example"]},
        {"scope": None},
        {"scope": ["analytics:read"]},
        {"extra": {"a": 1}},
        {"nbf": NOW},
    ],
)
async def test_signed_tokens_that_hold(
    site: Site, hostile: HostileProvider, browser: Browser, changes: dict[str, Any]
) -> None:
    await log_in(site, browser)
    assert (await ask(site, hostile.access_token(**changes))).status_code == 200
    hostile.header = {"typ": "application/at+jwt"}
    assert (await ask(site, hostile.access_token(**changes))).status_code == 200


async def test_what_a_signed_token_may_do(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    await log_in(site, browser)
    said = (await ask(site, hostile.access_token(scope="auth:read * analytics:write"))).json()
    assert said["scopes"] == ["analytics:write", "auth:read"], "a star is not ours to take"
    assert said["role"] == "analyst"
    path = f"tenants/{site.harbor}"
    assert (await ask(site, hostile.access_token(), path=path)).status_code == 200
    narrow = hostile.access_token(scope="analytics:read")
    assert (await ask(site, narrow, path=path)).status_code == 403
    assert (await ask(site, hostile.access_token(), path=f"{path}/audit")).status_code == 403
    assert (await ask(site, hostile.access_token(), tenant=site.tools)).status_code == 403
    async with httpx2.AsyncClient() as client:
        made = await client.post(
            f"{site.url}/api/v1/tokens",
            json={"name": "x"},
            headers={"Authorization": f"Bearer {hostile.access_token(scope='auth:write')}"},
        )
    assert made.status_code == 403


async def test_a_token_that_is_good_in_several_tenants(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    await log_in(site, browser)
    harbor = site.providers[site.harbor]
    await site.put_provider(
        site.tools,
        issuer=hostile.issuer,
        client_id="troupe",
        allowed_email_domains=["harbor.example"],
        api_audience=AUDIENCE,
    )
    site.providers[site.harbor] = site.providers[site.tools]
    await log_in(site, browser)
    site.providers[site.harbor] = harbor
    token = hostile.access_token()
    assert (await ask(site, token)).status_code == 403
    assert (await ask(site, token, site.tools)).json()["role"] == "viewer"
    assert (await ask(site, token, site.harbor)).json()["role"] == "analyst"
    # The other tenant wants another audience: the token is not good there any more.
    await site.put_provider(
        site.tools, issuer=hostile.issuer, client_id="troupe", api_audience="https://tools.example"
    )
    assert (await ask(site, hostile.access_token())).json()["tenant_id"] == str(site.harbor)


async def test_a_provider_whose_tokens_nobody_wants(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    await log_in(site, browser)
    await set_up(site, hostile, api_audience=None, introspection=False)
    assert (await ask(site, hostile.access_token())).status_code == 401
    await set_up(site, hostile)
    assert (await ask(site, hostile.access_token())).status_code == 200


async def test_rotated_keys_fail_no_request(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    await log_in(site, browser)
    old = hostile.access_token()
    assert (await ask(site, old)).status_code == 200
    hostile.key = TWO
    answers: list[int] = []

    async def one() -> None:
        answers.append((await ask(site, hostile.access_token())).status_code)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
    assert answers == [200] * 20
    assert hostile.key_fetches == 2, "once for all of them"


# --- opaque ones ---

SAID: Final[dict[str, dict[str, Any]]] = {
    "aud: another": {"aud": "https://other.example"},
    "aud: missing": {"aud": None},
    "sub: missing": {"sub": None},
    "sub: somebody else": {"sub": "somebody else"},
    "exp: over": {"exp": NOW - 3600},
    "exp: missing": {"exp": None},
    "iss: another": {"iss": "https://other.example"},
    "nbf: in two days": {"nbf": NOW + 2 * 86400},
    "cnf: bound to a key": {"cnf": {"jkt": "x"}},
    "token_type: another": {"token_type": "DPoP"},
}


async def test_introspections_that_do_not_hold(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    await log_in(site, browser)
    wrong = {}
    for number, (name, changes) in enumerate(SAID.items()):
        hostile.introspected = GOOD | changes
        refused = (await ask(site, f"opaque-{number}", site.harbor)).status_code
        hostile.introspected = GOOD | {"iss": hostile.issuer}
        twin = (await ask(site, f"opaque-{number}-twin", site.harbor)).status_code
        if (refused, twin) != (401, 200):
            wrong[name] = (refused, twin)
    assert not wrong


async def test_an_opaque_token_needs_a_tenant_that_introspects(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    await log_in(site, browser)
    hostile.introspected = GOOD
    assert (await ask(site, "opaque")).status_code == 401
    assert (await ask(site, "opaque", site.tools)).status_code == 401
    assert hostile.introspections == 0
    said = await ask(site, "opaque", site.harbor)
    assert said.status_code == 200
    assert said.json()["scopes"] == ["analytics:read", "auth:read"]
    assert hostile.authorization.startswith("Basic ")


async def test_what_is_void_is_asked_once_for_a_while(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    await log_in(site, browser)
    for _ in range(10):
        assert (await ask(site, "void", site.harbor)).status_code == 401
    assert hostile.introspections == 1


@pytest.mark.parametrize(("status", "expected"), [(503, 503), (500, 503), (401, 502), (400, 502)])
async def test_a_provider_that_cannot_say(
    site: Site, hostile: HostileProvider, browser: Browser, status: int, expected: int
) -> None:
    """Nobody is told that a token is bad because its provider is."""
    await log_in(site, browser)
    hostile.status, hostile.introspected = status, GOOD
    answer = await ask(site, "opaque", site.harbor)
    assert answer.status_code == expected
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "opaque" not in answer.text
    hostile.status = 200
    if expected == 503:
        before = hostile.introspections
        assert (await ask(site, "opaque", site.harbor)).status_code == 503
        assert hostile.introspections == before, "it is left alone for a moment"
        await trio.sleep(LEFT_ALONE)
    assert (await ask(site, "opaque", site.harbor)).status_code == 200


async def test_a_provider_that_hangs_costs_nobody_else(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    session = await log_in(site, browser)
    hostile.introspected = GOOD
    hostile.released = trio.Event()
    answers: list[int] = []

    async def one(number: int) -> None:
        answers.append((await ask(site, f"opaque-{number}", site.harbor)).status_code)

    async with trio.open_nursery() as nursery:
        for number in range(3 * MAX_AT_ONCE):
            nursery.start_soon(one, number)
        with trio.fail_after(PATIENCE):
            while len(answers) < 2 * MAX_AT_ONCE:
                await trio.sleep(0.01)
        assert answers == [503] * 2 * MAX_AT_ONCE
        assert hostile.introspections == MAX_AT_ONCE
        cookie = {"Cookie": f"{LOOPBACK_SESSION_COOKIE}={session}"}
        assert (await browser.get("/api/v1/me", headers=cookie)).status_code == 200
        hostile.released.set()
    assert answers.count(200) == MAX_AT_ONCE


async def test_another_tenants_provider_vouches_for_nobody_here(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    """Tools may say about its tokens what it likes: it reaches Tools."""
    await log_in(site, browser)
    async with open_provider() as other:
        await site.put_provider(
            site.tools,
            issuer=other.issuer,
            client_id="troupe",
            api_audience=AUDIENCE,
            introspection=True,
        )
        other.key = TWO
        other.introspected = GOOD | {"iss": hostile.issuer}
        assert (await ask(site, "opaque", site.tools)).status_code == 401
        other.introspected = GOOD
        assert (await ask(site, "opaque-2", site.tools)).status_code == 401
        forged = other.access_token(iss=hostile.issuer)
        assert (await ask(site, forged)).status_code == 401
        principal = await Credentials(site.database).resolve(forged, None, None)
        assert principal is None
