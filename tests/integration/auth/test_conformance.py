"""Relying-party conformance, walked by a browser: a hostile provider breaks one rule at a time.

The negative modules of OpenID's basic, config and logout profiles for relying parties, and what
belongs beside them. In each case somebody logs in twice in the same way. The first time one rule is
broken, and nobody may be logged in, nor anything be left behind; the second time nothing is, and
the person is. So no refusal can come from something else than the fault. Cases share a site and
have a provider and a browser of their own.
"""

import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc.jwk import OctKey

from tests.integration.auth.hostile import (
    CURVE,
    ONE,
    TWO,
    WEAK,
    HostileProvider,
    encoded,
    open_provider,
)
from tests.integration.auth.site import CLIENT_SECRET, Browser, Site
from troupe.actors.auth.logout_token import EVENT
from troupe.http.credentials import LOOPBACK_SESSION_COOKIE

NOW: Final = int(time.time())
OTHER: Final = "https://other.example"
Fault = Callable[[HostileProvider], None]


@pytest.fixture
async def hostile(site: Site) -> AsyncIterator[HostileProvider]:
    """The hostile provider, at which the people of Harbor log in."""
    async with open_provider() as provider:
        await set_up(site, provider)
        yield provider


async def set_up(site: Site, provider: HostileProvider, **changes: Any) -> None:
    settings = {
        "issuer": provider.issuer,
        "client_id": "troupe",
        "allowed_email_domains": ["harbor.example"],
        "api_audience": "https://api.example",
        "scopes": ("openid", "email"),
    }
    await site.put_provider(site.harbor, **settings | changes)


async def walk(site: Site, browser: Browser) -> int:
    """Log in at the provider that was set up last; the status of the last answer of ours."""
    provider = str(site.providers[site.harbor])
    begun = await browser.get("/api/v1/login", params={"provider": provider})
    if begun.status_code != 303:
        return int(begun.status_code)
    sent_back = await browser.get(begun.headers["Location"])
    finished = await browser.get(sent_back.headers["Location"])
    return int(finished.status_code)


async def is_in(browser: Browser) -> bool:
    return (await browser.api("/api/v1/me")).status_code == 200


def public(key: Any, kid: str | None = None) -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": kid or key.kid}


def claims(**changes: Any) -> Fault:
    return lambda provider: provider.claims.update(changes)


def header(**changes: Any) -> Fault:
    return lambda provider: provider.header.update(changes)


def metadata(**changes: Any) -> Fault:
    return lambda provider: provider.metadata.update(changes)


def callback(**changes: Any) -> Fault:
    return lambda provider: provider.callback.update(changes)


def answer(**changes: Any) -> Fault:
    return lambda provider: provider.answer.update(changes)


def signed_by(key: Any, **changes: Any) -> Fault:
    def fault(provider: HostileProvider) -> None:
        provider.signer = key
        provider.header.update(changes)

    return fault


def published(*keys: Any, **changes: Any) -> Fault:
    def fault(provider: HostileProvider) -> None:
        provider.published = [public(key) for key in keys]
        provider.header.update(changes)

    return fault


def mangled(change: Callable[[str], str]) -> Fault:
    return lambda provider: setattr(provider, "mangle", change)


def userinfo(**said: Any) -> Fault:
    """The address only lies there."""

    def fault(provider: HostileProvider) -> None:
        provider.claims.update(email=None, email_verified=None)
        provider.userinfo = {"email": "p@harbor.example", "email_verified": True, **said}

    return fault


def hmac_with_the_public_key(provider: HostileProvider) -> None:
    provider.signer = OctKey.import_key(ONE.as_pem(private=False).decode().strip("-\n"))
    provider.header["alg"] = "HS256"


def other_signature(token: str) -> str:
    head, body, signature = token.split(".")
    return f"{head}.{body}.{'A' * 8}{signature[8:]}"


def other_claims(token: str) -> str:
    head, _, signature = token.split(".")
    return f"{head}.{encoded({'sub': 'somebody else'})}.{signature}"


def twice(token: str) -> str:
    """The claims name two subjects; readers differ in which they see."""
    head, _, signature = token.split(".")
    raw = json.dumps({"sub": "person"})[:-1] + ', "sub": "admin"}'
    return f"{head}.{encoded(json.loads(raw))}x.{signature}"


FAULTS: dict[str, dict[str, Fault]] = {}
FAULTS["the ID token's claims"] = {
    "iss: another issuer": claims(iss=OTHER),
    "iss: with a slash more": lambda p: p.claims.update(iss=p.issuer + "/"),
    "iss: missing": claims(iss=None),
    "sub: missing": claims(sub=None),
    "sub: empty": claims(sub=""),
    "aud: another client": claims(aud="somebody else"),
    "aud: missing": claims(aud=None),
    "aud: a further one": claims(aud=["troupe", "somebody else"]),
    "azp: another client": claims(azp="somebody else"),
    "exp: over": claims(exp=NOW - 3600),
    "exp: missing": claims(exp=None),
    "exp: a text": claims(exp="2100-01-01"),
    "iat: missing": claims(iat=None),
    "iat: long ago": claims(iat=NOW - 86400),
    "iat: in two days": claims(iat=NOW + 2 * 86400),
    "nbf: in two days": claims(nbf=NOW + 2 * 86400),
    "nonce: missing": claims(nonce=None),
    "nonce: another": claims(nonce="x" * 43),
    "nonce: of an earlier login": lambda p: p.claims.update(nonce=p.nonces[0]),
    "at_hash: of another token": claims(at_hash="AAAAAAAAAAAAAAAAAAAAAA"),
}
FAULTS["its header and signature"] = {
    "alg: none": header(alg="none"),
    "alg: none, with a kid of ours": header(alg="none", kid="one"),
    "alg: HS256 with the public key": hmac_with_the_public_key,
    "alg: HS256 with the client's secret": signed_by(OctKey.import_key(CLIENT_SECRET), alg="HS256"),
    "alg: RS512, which was not agreed": header(alg="RS512"),
    "alg: ES256, which was not agreed": signed_by(CURVE, alg="ES256", kid="curve"),
    "sig: by another key": signed_by(TWO),
    "sig: by another key, brought along": signed_by(TWO, jwk=public(TWO), kid="two"),
    "sig: changed": mangled(other_signature),
    "sig: of other claims": mangled(other_claims),
    "sig: missing": mangled(lambda token: token.rpartition(".")[0] + "."),
    "kid: unknown": header(kid="nobody's"),
    "kid: missing with several keys": published(ONE, TWO, kid=None),
    "kid: two keys of that name": lambda p: setattr(
        p,
        "published",
        [dict(ONE.as_dict(private=False)), {**TWO.as_dict(private=False), "kid": "one"}],
    ),
    "crit: asks for more than we know": header(crit=["exp"]),
    "typ: an access token": header(typ="at+jwt"),
    "typ: a logout token": header(typ="logout+jwt"),
    "claims: cannot be read": mangled(twice),
    "no ID token": answer(id_token=None),
    "no access token": answer(access_token=None),
    "another type of access token": answer(token_type="DPoP"),
}
FAULTS["userinfo"] = {
    "userinfo: about somebody else": userinfo(sub="somebody else"),
    "userinfo: about nobody": userinfo(),
}
FAULTS["discovery"] = {
    "discovery: another issuer": metadata(issuer=OTHER),
    "discovery: issuer with a slash more": lambda p: p.metadata.update(issuer=p.issuer + "/"),
    "discovery: no issuer": metadata(issuer=None),
    "discovery: no token endpoint": metadata(token_endpoint=None),
    "discovery: no authorization endpoint": metadata(authorization_endpoint=None),
    "discovery: no keys": metadata(jwks_uri=None),
    "discovery: an address that is none": metadata(token_endpoint="javascript:alert(1)"),
    "discovery: a private address": metadata(jwks_uri="http://10.0.0.1/jwks"),
    "keys: none": published(),
    "keys: only a short one": published(WEAK),
    "keys: not for signatures": lambda p: setattr(p, "published", [public(ONE) | {"use": "enc"}]),
}
FAULTS["what the browser brings back"] = {
    "state: missing": callback(state=None),
    "state: another": callback(state="x" * 43),
    "iss in the address: another (RFC 9207)": callback(iss=OTHER),
    "iss in the address: missing although promised": lambda p: (
        p.metadata.update(authorization_response_iss_parameter_supported=True),
        p.callback.update(iss=None),
    )[0],
    "an error instead of a code": callback(code=None, error="access_denied"),
    "neither code nor error": callback(code=None),
    "a code that the provider does not know": lambda p: (
        setattr(p, "status", 400),
        p.answer.update(error="invalid_grant"),
    )[0],
}


async def attempt(site: Site, fault: Fault) -> tuple[int, bool, int]:
    """Log in at a fresh provider with a fresh browser.

    Returns:
        The last status, whether the browser is logged in, and how much is left behind.
    """
    async with open_provider() as provider:
        await set_up(site, provider)
        fault(provider)
        browser = Browser(site)
        async with browser.client:
            status = await walk(site, browser)
            inside = await is_in(browser) or LOOPBACK_SESSION_COOKIE in browser.client.cookies
    left = await site.admin(
        "WITH gone AS (DELETE FROM auth.users RETURNING user_id)"
        " SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM auth.login_sessions)"
    )
    return status, inside, left[0][0]


@pytest.mark.parametrize("group", FAULTS)
async def test_broken_rules(site: Site, group: str) -> None:
    wrong = {}
    for name, fault in FAULTS[group].items():
        broken = await attempt(site, fault)
        twin = await attempt(site, lambda _: None)
        if broken[0] not in {403, 409, 502} or broken[1:] != (False, 0) or twin != (303, True, 2):
            wrong[name] = (broken, twin)
    assert not wrong


def rotated(provider: HostileProvider) -> None:
    provider.key = TWO


VARIANTS: dict[str, tuple[Fault, dict[str, Any]]] = {
    "aud: in a list": (claims(aud=["troupe"]), {}),
    "azp: us": (claims(azp="troupe"), {}),
    "kid: missing with one key": (header(kid=None), {}),
    "kid: missing with one key of that kind": (published(ONE, CURVE, kid=None), {}),
    "sig: ES256, agreed": (
        lambda p: setattr(p, "key", CURVE),
        {"signing_algorithms": ["ES256"]},
    ),
    "keys: rotated before": (rotated, {}),
    "keys: a short one beside": (
        lambda p: setattr(
            p,
            "published",
            [{**WEAK.as_dict(private=False), "kid": "weak"}, dict(ONE.as_dict(private=False))],
        ),
        {},
    ),
    "userinfo: about the same": (userinfo(sub="person"), {}),
    "iss in the address: missing, never promised": (callback(iss=None), {}),
    "a public client": (lambda _: None, {"client_secret": None, "client_id": "troupe"}),
    "the secret in the form": (
        metadata(token_endpoint_auth_methods_supported=["client_secret_post"]),
        {},
    ),
    "claims and members that nobody knows": (
        lambda p: (p.claims.update(extra={"a": 1}), p.metadata.update(extra=1))[0],
        {},
    ),
}


@pytest.mark.parametrize(("variant", "settings"), VARIANTS.values(), ids=VARIANTS)
async def test_a_rule_kept_in_another_way(
    site: Site,
    hostile: HostileProvider,
    browser: Browser,
    variant: Fault,
    settings: dict[str, Any],
) -> None:
    if settings:
        await set_up(site, hostile, **settings)
    variant(hostile)
    assert await walk(site, browser) == 303
    assert await is_in(browser)


async def test_keys_rotated_between_two_logins(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    assert await walk(site, browser) == 303
    hostile.key = TWO
    assert await walk(site, browser) == 303
    assert hostile.key_fetches == 2
    # A token of the old key does not come back into favour.
    hostile.signer, hostile.header = ONE, {"kid": "one"}
    assert await walk(site, browser) == 502


# --- back-channel logout ---

LOGOUT_FAULTS: dict[str, dict[str, Any]] = {
    "iss: another issuer": {"iss": OTHER},
    "iss: missing": {"iss": None},
    "aud: another client": {"aud": "somebody else"},
    "aud: a further one": {"aud": ["troupe", "somebody else"]},
    "aud: missing": {"aud": None},
    "exp: over": {"exp": NOW - 3600},
    "exp: missing": {"exp": None},
    "iat: missing": {"iat": None},
    "iat: long ago": {"iat": NOW - 86400},
    "jti: missing": {"jti": None},
    "events: missing": {"events": None},
    "events: another": {"events": {"https://other.example/event": {}}},
    "events: no object": {"events": EVENT},
    "events: the event is no object": {"events": {EVENT: True}},
    "nonce": {"nonce": "x"},
    "neither sub nor sid": {"sub": None, "sid": None},
    "sub: a number": {"sub": 7},
    "sid: empty": {"sid": ""},
}
LOGOUT_TOKEN_FAULTS: dict[str, Fault] = {
    "alg: none": header(alg="none"),
    "alg: HS256 with the public key": hmac_with_the_public_key,
    "alg: ES256, which was not agreed": signed_by(CURVE, alg="ES256", kid="curve"),
    "sig: by another key": signed_by(TWO),
    "kid: unknown": header(kid="nobody's"),
    "typ: an access token": header(typ="at+jwt"),
    "crit": header(crit=["exp"]),
}


async def send_logout(site: Site, browser: Browser, token: str) -> int:
    """As the provider would: without cookies."""
    cookies = browser.client.cookies
    browser.client.cookies = {}  # type: ignore[assignment]
    try:
        answered = await browser.client.post(
            f"{site.url}/api/v1/backchannel-logout", data={"logout_token": token}
        )
    finally:
        browser.client.cookies = cookies
    assert answered.headers["Cache-Control"] == "no-store"
    if answered.status_code != 200:
        assert answered.headers["Content-Type"] == "application/problem+json"
        assert token not in answered.text
    return int(answered.status_code)


async def sessions(site: Site) -> int:
    return len(await site.admin("SELECT FROM auth.login_sessions"))


async def obeyed(site: Site, fault: Fault, **changes: Any) -> tuple[int, int]:
    """Log in, and have the provider log that session out.

    Returns:
        How the token was answered, and how many sessions are left.
    """
    async with open_provider() as provider:
        await set_up(site, provider)
        browser = Browser(site)
        async with browser.client:
            assert await walk(site, browser) == 303
            fault(provider)
            status = await send_logout(site, browser, provider.logout_token(**changes))
    left = await site.admin("WITH gone AS (DELETE FROM auth.users) SELECT FROM auth.login_sessions")
    return status, len(left)


async def test_logout_tokens_that_do_not_hold(site: Site) -> None:
    wrong = {}
    for name, changes in LOGOUT_FAULTS.items():
        refused = await obeyed(site, lambda _: None, **changes)
        twin = await obeyed(site, lambda _: None)
        if (refused, twin) != ((400, 1), (200, 0)):
            wrong[name] = (refused, twin)
    assert not wrong


async def test_logout_tokens_that_nobody_signed(site: Site) -> None:
    wrong = {}
    for name, fault in LOGOUT_TOKEN_FAULTS.items():
        refused = await obeyed(site, fault)
        twin = await obeyed(site, lambda _: None)
        if (refused, twin) != ((400, 1), (200, 0)):
            wrong[name] = (refused, twin)
    assert not wrong


async def test_an_id_token_is_no_logout_token_and_the_other_way_round(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    assert await walk(site, browser) == 303
    assert await send_logout(site, browser, hostile.id_token()) == 400
    hostile.mangle = lambda _: hostile.logout_token(nonce=hostile.nonces[-1])
    assert await walk(site, browser) == 502
    assert await sessions(site) == 1


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({}, 0),
        ({"sub": None}, 0),
        ({"sid": None}, 0),
        ({"sid": "another session"}, 1),
        ({"sub": None, "sid": "another session"}, 1),
        ({"sub": "somebody else", "sid": None}, 1),
        ({"sub": "somebody else"}, 1),
    ],
)
async def test_whom_a_logout_token_means(
    site: Site,
    hostile: HostileProvider,
    browser: Browser,
    changes: dict[str, Any],
    left: int,
) -> None:
    assert await walk(site, browser) == 303
    assert await send_logout(site, browser, hostile.logout_token(**changes)) == 200
    assert await sessions(site) == left


async def test_a_session_whose_name_was_never_told_ends_with_its_person(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    hostile.claims = {"sid": None}
    assert await walk(site, browser) == 303
    assert await send_logout(site, browser, hostile.logout_token(sub=None)) == 200
    assert await sessions(site) == 1
    assert await send_logout(site, browser, hostile.logout_token()) == 200
    assert await sessions(site) == 0


async def test_a_logout_token_is_obeyed_once(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    """A copy of it does not end the session of the next login."""
    assert await walk(site, browser) == 303
    token = hostile.logout_token()
    assert await send_logout(site, browser, token) == 200
    assert await walk(site, browser) == 303
    assert await send_logout(site, browser, token) == 400
    assert await sessions(site) == 1


async def test_a_logout_reaches_every_tenant_with_that_client_and_no_other(
    site: Site, hostile: HostileProvider, browser: Browser, other_browser: Browser
) -> None:
    assert await walk(site, browser) == 303
    harbor = site.providers[site.harbor]
    await site.put_provider(
        site.tools,
        issuer=hostile.issuer,
        client_id="troupe",
        allowed_email_domains=["harbor.example"],
    )
    site.providers[site.harbor] = site.providers[site.tools]
    assert await walk(site, other_browser) == 303
    await site.put_provider(
        site.tools,
        issuer=hostile.issuer,
        client_id="another",
        allowed_email_domains=["harbor.example"],
    )
    site.providers[site.harbor] = site.providers[site.tools]
    hostile.claims = {"aud": "another"}
    fresh = Browser(site)
    async with fresh.client:
        assert await walk(site, fresh) == 303
    site.providers[site.harbor] = harbor
    assert await sessions(site) == 3
    assert await send_logout(site, browser, hostile.logout_token(sid=None)) == 200
    rows = await site.admin("SELECT client_id FROM auth.login_sessions")
    assert [row["client_id"] for row in rows] == ["another"]


@pytest.mark.parametrize(
    "data",
    [{}, {"logout_token": ""}, {"logout_token": "x"}, {"logout_token": "a.b.c"}],
)
async def test_a_logout_without_a_token(site: Site, browser: Browser, data: dict[str, str]) -> None:
    answered = await browser.client.post(f"{site.url}/api/v1/backchannel-logout", data=data)
    assert answered.status_code in {400, 415, 422}
    assert answered.headers["Content-Type"] == "application/problem+json"


async def test_a_logout_token_from_nowhere_makes_us_ask_nobody(
    site: Site, hostile: HostileProvider, browser: Browser
) -> None:
    await set_up(site, hostile, enabled=False)
    assert await send_logout(site, browser, hostile.logout_token()) == 400
    assert hostile.key_fetches == 0
    await set_up(site, hostile)
    assert await send_logout(site, browser, hostile.logout_token()) == 200
    assert hostile.key_fetches == 1


# --- RP-initiated logout


@pytest.mark.parametrize("state", ["x" * 43, "", "é"])
async def test_a_way_back_from_somebody_elses_logout(
    site: Site, hostile: HostileProvider, browser: Browser, state: str
) -> None:
    hostile.metadata = {"end_session_endpoint": f"{hostile.issuer}/end"}
    assert await walk(site, browser) == 303
    token = (await browser.api("/api/v1/me")).json()["csrf_token"]
    page = await browser.client.post(f"{site.url}/api/v1/logout", data={"csrf_token": token})
    link = page.text.split('content="0; url=')[1].split('"')[0].replace("&amp;", "&")
    query = parse_qs(urlsplit(link).query)
    assert query["post_logout_redirect_uri"] == [f"{site.url}/"]
    assert query["client_id"] == ["troupe"]
    assert "id_token_hint" in query
    wrong = await browser.get("/", params={"state": state})
    assert wrong.status_code == 409
    assert (await browser.get("/", params={"state": query["state"][0]})).status_code == 200
    assert (await browser.get("/")).status_code == 200, "a provider need not send any state"
    assert not await is_in(browser)
