"""What is revoked at one port stops working at all three within two seconds."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urljoin

import httpx2
import pytest

from tests.e2e.conftest import Demo, Tenant

PROMISE = 2.0
PATIENCE = 30.0
PATHS = {
    "auth": "/api/v1/validate",
    "data": "/api/v1/jobs",
    "analytics": "/api/v1/locations",
}


@dataclass
class Person:
    """A browser that is logged in, as far as HTTP goes."""

    client: httpx2.Client
    tenant: Tenant

    def send(self, method: str, path: str, body: object = None) -> httpx2.Response:
        me = self.client.get(f"{self.tenant.urls['auth']}/api/v1/me").json()
        headers = {"X-CSRF-Token": me["csrf_token"], "Origin": self.tenant.urls["auth"]}
        url = self.tenant.urls["auth"] + path
        return self.client.request(method, url, json=body, headers=headers)

    def statuses(self) -> dict[str, int]:
        return {
            group: self.client.get(self.tenant.urls[group] + path).status_code
            for group, path in PATHS.items()
        }


@pytest.fixture
def person(demo: Demo) -> Iterator[Person]:
    tenant = demo.tenants[0]
    with httpx2.Client(timeout=PATIENCE) as client:
        answer = client.get(f"{tenant.urls['auth']}/api/v1/login", params={"tenant": tenant.id})
        form = client.get(answer.headers["Location"])
        found = re.search('name="interaction" value="([^"]+)"', form.text)
        assert found is not None, form.text
        sent_back = client.post(
            urljoin(str(form.url), "/login"),
            data={
                "interaction": found[1],
                "username": demo.ready["login"]["user"],
                "password": demo.ready["login"]["password"],
                "action": "login",
            },
        )
        assert client.get(sent_back.headers["Location"]).status_code == 303
        yield Person(client, tenant)


def seconds_until_refused(ask: Callable[[], dict[str, int]]) -> float:
    """Until every port says 401; any other answer on the way must be the usual one."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE:
        statuses = ask()
        assert set(statuses.values()) <= {200, 401}, statuses
        if set(statuses.values()) == {401}:
            return time.monotonic() - began
        time.sleep(0.02)
    raise AssertionError("it was never refused")


def test_a_session(person: Person) -> None:
    for _ in range(3):
        assert set(person.statuses().values()) == {200}
    sessions = person.client.get(f"{person.tenant.urls['auth']}/api/v1/sessions").json()["data"]
    mine = next(one["session_id"] for one in sessions if one["is_current"])
    began = time.monotonic()
    assert person.send("DELETE", f"/api/v1/sessions/{mine}").status_code == 204
    seconds_until_refused(person.statuses)
    assert time.monotonic() - began < PROMISE + 0.5  # the last round of requests is in it


def test_a_token(person: Person) -> None:
    made = person.send("POST", "/api/v1/tokens", {"name": "to be revoked"}).json()

    def ask() -> dict[str, int]:
        headers = {"Authorization": f"Bearer {made['token']}"}
        return {
            group: httpx2.get(
                person.tenant.urls[group] + path, headers=headers, timeout=PATIENCE
            ).status_code
            for group, path in PATHS.items()
        }

    for _ in range(3):
        assert set(ask().values()) == {200}
    began = time.monotonic()
    assert person.send("DELETE", f"/api/v1/tokens/{made['token_id']}").status_code == 204
    seconds_until_refused(ask)
    assert time.monotonic() - began < PROMISE + 0.5
    assert set(person.statuses().values()) == {200}, "the session goes on"
