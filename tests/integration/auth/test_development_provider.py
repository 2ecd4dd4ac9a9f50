"""The development provider itself, as a relying party that is strict about it sees it."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest

from tests.integration.auth.site import CLIENT_ID, CLIENT_SECRET, PASSWORD, DevelopmentProvider
from troupe_demo.oidc.tokens import challenge_of

CALLBACK: Final = "http://127.0.0.1:18003/callback?fixed=1"
HOME: Final = "http://127.0.0.1:18003/"
VERIFIER: Final = "v" * 64
AUTH: Final = (CLIENT_ID, "client-secret-canary%3A+%2B%2F%25")  # form-encoded, RFC 6749 2.3.1


class Visitor:
    def __init__(self, provider: DevelopmentProvider) -> None:
        self.issuer = provider.issuer
        self.http = httpx2.Client()

    def request(self, **changes: str | None) -> dict[str, str]:
        full: dict[str, str | None] = {
            "client_id": CLIENT_ID,
            "redirect_uri": CALLBACK,
            "response_type": "code",
            "scope": "openid email profile offline_access",
            "state": "the-state",
            "nonce": "the-nonce",
            "code_challenge": challenge_of(VERIFIER),
            "code_challenge_method": "S256",
        }
        return {name: value for name, value in (full | changes).items() if value is not None}

    def authorize(self, **changes: str | None) -> httpx2.Response:
        return self.http.get(f"{self.issuer}/authorize", params=self.request(**changes))

    def log_in(self, page: httpx2.Response, **changes: str) -> httpx2.Response:
        found = re.search('name="interaction" value="([^"]+)"', page.text)
        assert found is not None
        form = {"interaction": found[1], "username": "ada", "password": PASSWORD}
        return self.http.post(f"{self.issuer}/login", data=form | changes)

    def code(self) -> str:
        answer = self.authorize()
        if answer.status_code == 200:
            answer = self.log_in(answer)
        return str(httpx2.URL(answer.headers["Location"]).params["code"])

    def token(self, auth: Any = AUTH, **form: str) -> httpx2.Response:
        full = {
            "grant_type": "authorization_code",
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
        } | form
        return self.http.post(f"{self.issuer}/token", data=full, auth=auth)


@pytest.fixture
def visitor(provider: DevelopmentProvider) -> Iterator[Visitor]:
    provider.register(callback=CALLBACK, home=HOME)
    one = Visitor(provider)
    with one.http:
        yield one


def test_discovery_says_where_it_is(visitor: Visitor) -> None:
    document = visitor.http.get(f"{visitor.issuer}/.well-known/openid-configuration").json()
    assert document["issuer"] == visitor.issuer
    assert document["code_challenge_methods_supported"] == ["S256"]
    keys = visitor.http.get(document["jwks_uri"]).json()["keys"]
    assert keys[0]["alg"] == "RS256"
    assert "d" not in keys[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "unknown"},
        {"redirect_uri": CALLBACK + "2"},
        {"redirect_uri": "http://evil.example/"},
        {"redirect_uri": None},
    ],
)
def test_whom_it_sends_nowhere(visitor: Visitor, changes: dict[str, str | None]) -> None:
    answer = visitor.authorize(**changes)
    assert answer.status_code == 400
    assert "Location" not in answer.headers


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "email"}, "invalid_scope"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"prompt": "none"}, "login_required"),
        ({"request": "e30.e30."}, "request_not_supported"),
        ({"response_mode": "fragment"}, "invalid_request"),
    ],
)
def test_what_it_tells_the_application(
    visitor: Visitor, changes: dict[str, str | None], error: str
) -> None:
    answer = visitor.authorize(**changes)
    assert answer.status_code == 303
    parameters = httpx2.URL(answer.headers["Location"]).params
    assert parameters["error"] == error
    assert parameters["state"] == "the-state"
    assert parameters["iss"] == visitor.issuer
    assert parameters["fixed"] == "1"


def test_the_login_page_belongs_to_one_browser(
    visitor: Visitor, provider: DevelopmentProvider
) -> None:
    page = visitor.authorize()
    stranger = Visitor(provider)
    with stranger.http:
        assert stranger.log_in(page).status_code == 400
        stranger.authorize()
        assert stranger.log_in(page).status_code == 400
    assert visitor.log_in(page).status_code == 303
    assert visitor.log_in(page).status_code == 400  # once


def test_guessing_ends(visitor: Visitor) -> None:
    page = visitor.authorize()
    statuses = [visitor.log_in(page, password="guess").status_code for _ in range(10)]
    assert statuses == [400] * 9 + [429]
    assert visitor.log_in(page).status_code == 400


def test_a_code_works_once(visitor: Visitor) -> None:
    code = visitor.code()
    tokens = visitor.token(code=code)
    assert tokens.status_code == 200
    assert tokens.headers["Cache-Control"] == "no-store"
    access = {"Authorization": f"Bearer {tokens.json()['access_token']}"}
    information = visitor.http.get(f"{visitor.issuer}/userinfo", headers=access)
    assert information.json()["email"] == "ada@harbor.example"
    assert visitor.token(code=code).json()["error"] == "invalid_grant"
    # A code that comes twice may have been stolen: what it gave is void.
    assert visitor.http.get(f"{visitor.issuer}/userinfo", headers=access).status_code == 401


@pytest.mark.parametrize(
    "form",
    [
        {"code_verifier": "w" * 64},
        {"code_verifier": ""},
        {"redirect_uri": HOME},
        {"code": "unknown"},
    ],
)
def test_codes_that_do_not_work(visitor: Visitor, form: dict[str, str]) -> None:
    answer = visitor.token(**{"code": visitor.code()} | form)
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_grant"


def test_clients_that_are_not_who_they_say(visitor: Visitor) -> None:
    code = visitor.code()
    assert visitor.token(code=code, auth=(CLIENT_ID, "wrong")).status_code == 401
    assert visitor.token(code=code, auth=None, client_id=CLIENT_ID).status_code == 401
    both = visitor.token(code=code, client_secret=CLIENT_SECRET)
    assert both.json()["error"] == "invalid_request"
    posted = visitor.token(code=code, auth=None, client_id=CLIENT_ID, client_secret=CLIENT_SECRET)
    assert posted.status_code == 200


def test_refresh_tokens_rotate(visitor: Visitor) -> None:
    first = visitor.token(code=visitor.code()).json()["refresh_token"]
    second = visitor.token(grant_type="refresh_token", refresh_token=first).json()
    assert second["refresh_token"] != first
    again = visitor.token(grant_type="refresh_token", refresh_token=first)
    assert again.json()["error"] == "invalid_grant"
    # Reuse ends the whole family.
    family = visitor.token(grant_type="refresh_token", refresh_token=second["refresh_token"])
    assert family.json()["error"] == "invalid_grant"


def test_logging_out(visitor: Visitor) -> None:
    tokens = visitor.token(code=visitor.code()).json()
    url = f"{visitor.issuer}/end-session"
    foreign = visitor.http.get(
        url,
        params={
            "id_token_hint": tokens["id_token"],
            "post_logout_redirect_uri": "http://evil.example/",
        },
    )
    assert foreign.status_code == 400
    asked = visitor.http.get(url)
    assert "Sign out?" in asked.text
    assert visitor.http.post(url, data={"confirmation": "x"}).status_code == 400
    ended = visitor.http.get(
        url,
        params={
            "id_token_hint": tokens["id_token"],
            "post_logout_redirect_uri": HOME,
            "state": "s",
        },
    )
    assert ended.headers["Location"] == f"{HOME}?state=s"
    assert visitor.authorize().status_code == 200  # asks for the password again


def test_confirming_a_logout(visitor: Visitor) -> None:
    visitor.code()
    url = f"{visitor.issuer}/end-session"
    confirmation = re.search('name="confirmation" value="([^"]+)"', visitor.http.get(url).text)
    assert confirmation is not None
    done = visitor.http.post(url, data={"confirmation": confirmation[1]})
    assert "You are signed out" in done.text
    assert visitor.authorize().status_code == 200


def test_a_broken_edit_of_the_file_keeps_the_last_good_one(
    visitor: Visitor, provider: DevelopmentProvider
) -> None:
    assert visitor.authorize().status_code == 200
    provider.path.write_text("{", encoding="utf-8")
    assert visitor.authorize().status_code == 200
    provider.path.write_text('{"clients": []}', encoding="utf-8")
    assert visitor.authorize().status_code == 400


@pytest.mark.parametrize("way", ["terminate", "end of input"])
def test_it_ends_quickly(provider: DevelopmentProvider, way: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "troupe_demo.oidc", "--config", str(provider.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        assert b"issuer" in process.stdout.readline()
        began = time.monotonic()
        if way == "terminate":
            process.send_signal(signal.SIGTERM)
        else:
            process.stdin.close()
        assert process.wait(5) == 0
    assert time.monotonic() - began < 2


def test_a_configuration_that_is_none(provider: DevelopmentProvider) -> None:
    bad = provider.path.with_name("bad.json")
    bad.write_text('{"users": 7}', encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "troupe_demo.oidc", "--config", str(bad)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert not done.stdout
