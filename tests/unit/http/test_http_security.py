"""Headers, other sites, other origins, rates, proxies."""

import ipaddress
import json
from typing import Any

import pytest
from trio.testing import MockClock

from tests.unit.http.sites import CSRF, ELSEWHERE, HERE, KnownPeople, bearer, make_app
from troupe.common.errors import Unauthenticated
from troupe.http.application import Application
from troupe.http.conventions import AnswerModel
from troupe.http.principal import EVERY_SCOPE, SESSION_COOKIE, Access, Principal, Role
from troupe.http.request import Client, client_of, request_id_of
from troupe.http.security import Rate, TokenBuckets, bearer_of, page_policy


class Nothing(AnswerModel):
    done: bool = True


def guarded_app(**settings: Any) -> Application:
    app = make_app(**settings)

    @app.api.get("/read", requires=Role.VIEWER, answers={200: Nothing}, summary="Read")
    async def read() -> Nothing:
        return Nothing()

    @app.api.post("/write", requires=Role.ANALYST, answers={200: Nothing}, summary="Write")
    async def write() -> Nothing:
        return Nothing()

    @app.api.post("/me", requires=Access.SIGNED_IN, answers={200: Nothing}, summary="Me")
    async def me(*, principal: Principal) -> Nothing:
        return Nothing(done=bool(principal.name))

    @app.api.get("/open", requires=Access.PUBLIC, answers={200: Nothing}, summary="Open")
    async def open_to_all() -> Nothing:
        return Nothing()

    return app


async def status(app: Application, method: str, path: str, **headers: Any) -> int:
    client: Any = app.test_client()
    response = await client.open(path, method=method, headers=headers)
    return int(response.status_code)


# --- who may ---


@pytest.mark.parametrize(
    ("path", "method", "expected"),
    [
        ("/read", "GET", {"viewer": 200, "analyst": 200, "admin": 200, "owner": 200}),
        ("/write", "POST", {"viewer": 403, "analyst": 200, "admin": 200, "owner": 200}),
        ("/me", "POST", {"viewer": 200, "analyst": 200, "admin": 200, "owner": 200}),
    ],
)
async def test_roles_include_the_ones_before(
    path: str, method: str, expected: dict[str, int]
) -> None:
    app = guarded_app()
    for role, code in expected.items():
        assert await status(app, method, path, **bearer(role)) == code
    assert await status(app, method, path) == 401
    assert await status(app, method, path, **bearer("stranger")) == 401


async def test_scopes_narrow_tokens_only() -> None:
    app = guarded_app()
    assert await status(app, "GET", "/read", **bearer("owner+data:read")) == 200
    assert await status(app, "GET", "/read", **bearer("owner+analytics:read")) == 403
    assert await status(app, "POST", "/write", **bearer("owner+data:read")) == 403
    assert await status(app, "POST", "/write", **bearer("owner+data:write")) == 200
    assert await status(app, "GET", "/read", Cookie=f"{SESSION_COOKIE}=viewer+none") == 200


def test_the_star_is_every_scope() -> None:
    principal = Principal("token", HERE, HERE, Role.VIEWER, frozenset({EVERY_SCOPE}), "x")
    assert principal.has_scope("anything")


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "Bearer ", "Bearer ü", "owner"])
async def test_other_authorization_headers_are_refused(header: str) -> None:
    app = guarded_app()
    assert await status(app, "GET", "/read", Authorization=header) == 401
    with pytest.raises(Unauthenticated):
        bearer_of(header)


async def test_a_bearer_token_wins_over_a_cookie() -> None:
    app = guarded_app()
    cookie = f"{SESSION_COOKIE}=owner"
    assert await status(app, "POST", "/write", Cookie=cookie, **bearer("viewer")) == 403
    assert await status(app, "GET", "/read", Cookie=cookie, **bearer("stranger")) == 401


async def test_the_tenant_header_only_chooses() -> None:
    app = guarded_app()
    for tenant, code in ((HERE, 200), (ELSEWHERE, 403), ("nonsense", 422)):
        assert await status(app, "GET", "/read", **bearer("owner", X_Tenant_Id=str(tenant))) == code


async def test_a_resolver_that_ignores_the_tenant_is_not_believed() -> None:
    app = guarded_app()
    people = app.api._guard._resolver
    assert isinstance(people, KnownPeople)
    people.forbids_other_tenants = False
    headers = bearer("owner", X_Tenant_Id=str(ELSEWHERE))
    assert await status(app, "GET", "/read", **headers) == 403


async def test_an_enormous_token_is_not_even_looked_up() -> None:
    app = guarded_app()
    assert await status(app, "GET", "/read", **bearer("x" * 9000)) == 401
    people = app.api._guard._resolver
    assert isinstance(people, KnownPeople)
    assert people.asked == []


# --- other sites ---


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-CSRF-Token": CSRF, "Origin": "http://localhost"}, 200),
        ({"X-CSRF-Token": CSRF, "Sec-Fetch-Site": "same-origin"}, 200),
        ({"X-CSRF-Token": CSRF, "Origin": "https://friend.example"}, 200),
        ({"X-CSRF-Token": CSRF, "Origin": "https://evil.example"}, 403),
        ({"X-CSRF-Token": CSRF, "Origin": "null"}, 403),
        ({"X-CSRF-Token": CSRF, "Sec-Fetch-Site": "cross-site"}, 403),
        ({"X-CSRF-Token": CSRF}, 403),
        ({"X-CSRF-Token": "wrong", "Origin": "http://localhost"}, 403),
        ({"X-CSRF-Token": "ü", "Origin": "http://localhost"}, 403),
        ({"Origin": "http://localhost"}, 403),
    ],
)
async def test_a_cookie_alone_changes_nothing(headers: dict[str, str], expected: int) -> None:
    app = guarded_app(cors_origins=("https://friend.example",))
    cookie = f"{SESSION_COOKIE}=owner"
    for path in ("/write", "/me"):
        assert await status(app, "POST", path, Cookie=cookie, **headers) == expected
    assert await status(app, "GET", "/read", Cookie=cookie) == 200


async def test_the_own_origin_can_be_fixed() -> None:
    app = guarded_app(public_origins=("https://troupe.example",))
    cookie = f"{SESSION_COOKIE}=owner"
    for origin, code in (("https://troupe.example", 200), ("http://localhost", 403)):
        headers = {"Cookie": cookie, "X-CSRF-Token": CSRF, "Origin": origin}
        assert await status(app, "POST", "/write", **headers) == code


# --- headers and origins ---


@pytest.mark.parametrize("path", ["/open", "/read", "/nowhere", "/docs", "/health/live"])
async def test_every_answer_carries_the_headers(path: str) -> None:
    response = await guarded_app().test_client().get(path, headers={"X-Request-Id": "a-request-1"})
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Frame-Options"] == "DENY"
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Request-Id"] == "a-request-1"
    assert "Strict-Transport-Security" not in response.headers
    assert "Origin" in response.headers.getlist("Vary")
    assert "Access-Control-Allow-Origin" not in response.headers


async def test_cors_is_a_fixed_list() -> None:
    client = guarded_app(cors_origins=("https://friend.example",)).test_client()
    preflight = {"Access-Control-Request-Method": "POST"}
    response = await client.options(
        "/write", headers={"Origin": "https://friend.example", **preflight}
    )
    assert response.status_code == 204
    assert response.headers["Access-Control-Allow-Origin"] == "https://friend.example"
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert "X-CSRF-Token" in response.headers["Access-Control-Allow-Headers"]
    for origin in ("https://evil.example", "https://friend.example.evil.example", "null"):
        response = await client.options("/write", headers={"Origin": origin, **preflight})
        assert "Access-Control-Allow-Origin" not in response.headers
    response = await client.get("/nowhere", headers={"Origin": "https://friend.example"})
    assert response.headers["Access-Control-Allow-Origin"] == "https://friend.example"
    assert "Access-Control-Allow-Methods" not in response.headers


def test_a_page_policy_names_the_other_ports() -> None:
    policy = page_policy(connect=["http://localhost:8003"])
    assert "connect-src 'self' http://localhost:8003;" in policy
    assert "unsafe" not in policy


# --- rates ---


def test_a_bucket_empties_and_fills() -> None:
    buckets = TokenBuckets("x", Rate(requests=60, window=60, burst=3))
    assert [buckets.take("a", 0.0).allowed for _ in range(4)] == [True, True, True, False]
    refused = buckets.take("a", 0.0)
    assert (refused.remaining, refused.retry_after, refused.reset) == (0, 1.0, 3.0)
    assert buckets.take("b", 0.0).allowed
    assert buckets.take("a", 1.0).allowed
    assert not buckets.take("a", 1.0).allowed
    assert [buckets.take("a", 100.0).allowed for _ in range(4)] == [True, True, True, False]


def test_looking_takes_nothing() -> None:
    buckets = TokenBuckets("x", Rate(requests=1, window=60))
    assert buckets.take("a", 0.0, tokens=0).allowed
    assert buckets.take("a", 0.0).allowed
    assert not buckets.take("a", 0.0, tokens=0).allowed


def test_whether_there_is_a_token_is_asked_without_taking_it() -> None:
    buckets = TokenBuckets("test", Rate(requests=1, window=10.0))
    assert [buckets.has("a", 0.0) for _ in range(3)] == [True] * 3
    assert len(buckets) == 0
    assert buckets.take("a", 0.0).allowed
    assert [buckets.has("a", now) for now in (0.0, 9.9, 10.0)] == [False, False, True]


def test_the_memory_for_buckets_is_bounded() -> None:
    buckets = TokenBuckets("x", Rate(requests=1), capacity=100)
    for number in range(1000):
        buckets.take(str(number), 0.0)
    assert len(buckets) == 100


async def test_a_subject_over_its_rate_is_told_when(mock_clock: MockClock) -> None:
    app = guarded_app(principal_rate=Rate(requests=60, window=60, burst=2))
    client = app.test_client()
    first = await client.get("/read", headers=bearer("owner"))
    assert first.headers["RateLimit-Policy"] == ('"subject";q=60;w=60, "tenant";q=240000;w=60')
    assert first.headers["RateLimit"] == '"subject";r=1;t=1, "tenant";r=19999;t=1'
    await client.get("/read", headers=bearer("owner"))
    refused = await client.get("/read", headers=bearer("owner"))
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "1"
    assert json.loads(await refused.get_data())["type"].endswith(":too-many-requests")
    assert (await client.get("/read", headers=bearer("viewer"))).status_code == 200
    mock_clock.jump(1)
    assert (await client.get("/read", headers=bearer("owner"))).status_code == 200


async def test_a_tenant_over_its_rate_is_told_when(mock_clock: MockClock) -> None:
    app = guarded_app(tenant_rate=Rate(requests=60, window=60, burst=3))
    client = app.test_client()
    for role in ("owner", "viewer", "analyst"):
        assert (await client.get("/read", headers=bearer(role))).status_code == 200
    refused = await client.get("/read", headers=bearer("admin"))
    assert refused.status_code == 429
    assert refused.headers["RateLimit"].endswith(', "tenant";r=0;t=3')
    assert refused.headers["Retry-After"] == "1"
    mock_clock.jump(1)
    assert (await client.get("/read", headers=bearer("admin"))).status_code == 200


async def test_one_member_who_runs_wild_does_not_spend_the_tenants_rate() -> None:
    app = guarded_app(
        principal_rate=Rate(requests=60, window=60, burst=2),
        tenant_rate=Rate(requests=60, window=60, burst=4),
    )
    wild = [await status(app, "GET", "/read", **bearer("owner")) for _ in range(10)]
    assert wild == [200] * 2 + [429] * 8
    assert await status(app, "GET", "/read", **bearer("viewer")) == 200


async def test_an_address_pays_for_failures(mock_clock: MockClock) -> None:
    app = guarded_app(address_rate=Rate(requests=60, window=60, burst=3))
    for _ in range(3):
        assert await status(app, "GET", "/read", **bearer("owner")) == 200
    assert [await status(app, "GET", "/read", **bearer("guess")) for _ in range(4)] == [
        401,
        401,
        401,
        429,
    ]
    assert await status(app, "GET", "/open") == 429
    assert await status(app, "GET", "/health/live") == 200, "probes are not counted"
    mock_clock.jump(5)
    assert await status(app, "GET", "/open") == 200


# --- proxies and identities ---


@pytest.mark.parametrize(
    ("peer", "chain", "proto", "expected"),
    [
        ("203.0.113.9", "1.1.1.1", "https", Client("203.0.113.9", "http")),
        ("10.0.0.1", None, None, Client("10.0.0.1", "http")),
        ("10.0.0.1", "198.51.100.7", "https", Client("198.51.100.7", "https")),
        ("10.0.0.1", "6.6.6.6, 198.51.100.7, 10.0.0.2", None, Client("198.51.100.7", "http")),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", None, Client("10.0.0.3", "http")),
        ("10.0.0.1", "6.6.6.6, nonsense", None, Client("10.0.0.1", "http")),
        ("10.0.0.1", "", "gopher", Client("10.0.0.1", "http")),
        ("<local>", "1.1.1.1", "https", Client("<local>", "http")),
    ],
)
def test_only_trusted_proxies_are_believed(
    peer: str, chain: str | None, proto: str | None, expected: Client
) -> None:
    trusted = [ipaddress.ip_network("10.0.0.0/8")]
    assert client_of(peer, "http", chain, proto, trusted) == expected


def test_one_client_is_an_address_or_a_slash_64() -> None:
    assert Client("203.0.113.9", "http").key == "203.0.113.9"
    assert Client("2001:db8::1", "http").key == Client("2001:db8::2", "http").key
    assert Client("2001:db8:0:1::1", "http").key != Client("2001:db8::2", "http").key
    assert Client("<local>", "http").key == "<local>"


async def test_tls_in_front_is_known_by_the_proxys_word() -> None:
    app = guarded_app(trusted_proxies=("127.0.0.0/8",))
    client = app.test_client()
    scope: Any = {"client": ("127.0.0.1", 1)}
    response = await client.get("/open", headers={"X-Forwarded-Proto": "https"}, scope_base=scope)
    assert "Strict-Transport-Security" in response.headers


@pytest.mark.parametrize("given", [None, "short", "with space", "x" * 65, "a\nb" * 4, "ümlaut12"])
def test_a_strange_request_id_is_replaced(given: str | None) -> None:
    assert request_id_of(given) != given
    assert len(request_id_of(given)) == 36
