"""What is ended at one port stops working at all three within two seconds.

Each port is served by a process of its own, which knows of the others' requests only what is in
PostgreSQL. All endings happen while every credential is in use at every port, so that each process
remembers each of them when it ends; a request that is sent later than promised must be refused.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import httpx2
import trio

from tests.integration.auth.hostile import HostileProvider, open_provider
from tests.support.program import Party, Program, furnish
from troupe.common.units import SECONDS

PROMISE: Final = 2 * SECONDS
PACE: Final = 0.1 * SECONDS
WARM: Final = 2 * SECONDS
"""For which everything is used before it ends: longer than a credential is remembered."""
ANSWERED: Final = 0.5 * SECONDS
"""What was asked so long before an ending may have been answered after it."""
WAIT: Final = 30 * SECONDS
LEAST: Final = 5
"""Requests of each credential at each port before it ends, and after the promise."""
ROUTES: Final = {
    "auth": "/api/v1/validate",
    "data": "/api/v1/jobs",
    "analytics": "/api/v1/stats?preset=7d",
}

Headers = dict[str, str]


@dataclass
class Credential:
    """One that is in use, and what came of it.

    Attributes:
        headers: That carry it.
        ending: From when on it may be refused, and from when on it has ended; None: it stays.
        answers: By group: when it was asked, and the status.
    """

    headers: Headers
    ending: tuple[float, float] | None = None
    answers: dict[str, list[tuple[float, int]]] = field(
        default_factory=lambda: {group: [] for group in ROUTES}
    )

    def findings(self, name: str) -> list[str]:
        """What was not as promised."""
        found = []
        for group, answers in self.answers.items():
            good = answers
            if self.ending is not None:
                begins, ended = self.ending
                good = [(asked, status) for asked, status in answers if asked < begins - ANSWERED]
                late = [(asked, status) for asked, status in answers if asked >= ended + PROMISE]
                if len(late) < LEAST or {status for _, status in late} != {401}:
                    found.append(f"{name} at {group}, after the promise: {late}")
            if len(good) < LEAST or {status for _, status in good} != {200}:
                found.append(f"{name} at {group}, while it was good: {good}")
        return found


class Scene:
    """A tenant of its own, whose people have come from a provider of its own."""

    def __init__(
        self, name: str, troupe: Program, client: httpx2.AsyncClient, provider: HostileProvider
    ) -> None:
        self.troupe = troupe
        self.client = client
        self.issuer = provider.issuer
        self.party = Party(name)
        furnish(troupe, self.party)
        troupe.sql(
            "UPDATE auth.identity_providers SET issuer = $1 WHERE tenant_id = $2",
            self.issuer,
            self.party.tenant_id,
        )
        people = list(self.party.users.values())
        troupe.sql(
            "UPDATE auth.users SET issuer = $1 WHERE user_id = ANY ($2)", self.issuer, people
        )

    def session(self, role: str, sid: str | None = None) -> Headers:
        """Headers of a fresh session, which the provider calls `sid`."""
        headers = self.troupe.session(self.party, role)
        self.troupe.sql(
            "UPDATE auth.login_sessions SET issuer = $1, provider_sid = $3"
            " WHERE tenant_id = $2 AND issuer <> $1",
            self.issuer,
            self.party.tenant_id,
            sid,
        )
        return headers

    async def token(self, headers: Headers) -> tuple[UUID, Headers]:
        """A token that somebody makes: its identifier, and headers with it."""
        made = await self.send("POST", "/tokens", headers, json={"name": "script"})
        return made["token_id"], {"Authorization": f"Bearer {made['token']}"}

    async def send(self, method: str, path: str, headers: Headers, **content: Any) -> Any:
        """A request to the auth group that is obeyed; its answer's document."""
        url = f"{self.troupe.urls['auth']}/api/v1{path}"
        answer = await self.client.request(method, url, headers=headers, **content)
        assert answer.is_success, (method, path, answer.text)
        return answer.json() if answer.content else None


@asynccontextmanager
async def in_use(troupe: Program, credentials: Mapping[str, Credential]) -> AsyncIterator[None]:
    """Use all of them at every port: a while before, during, and long enough after the context."""

    async def use(credential: Credential, group: str) -> None:
        url = troupe.urls[group] + ROUTES[group]
        async with httpx2.AsyncClient(timeout=WAIT, headers=credential.headers) as client:
            while not stop.is_set():
                began = trio.current_time()
                answer = await client.get(url)
                credential.answers[group].append((began, answer.status_code))
                with trio.move_on_after(PACE):
                    await stop.wait()

    stop = trio.Event()

    async def asked_often_since(start: float) -> None:
        with trio.fail_after(WAIT):
            for credential in credentials.values():
                for answers in credential.answers.values():
                    while sum(asked >= start for asked, _ in answers) < LEAST:
                        await trio.sleep(PACE)

    async with trio.open_nursery() as nursery:
        for credential in credentials.values():
            for group in ROUTES:
                nursery.start_soon(use, credential, group)
        began = trio.current_time()
        await trio.sleep(WARM)
        await asked_often_since(began)
        await trio.sleep(ANSWERED)
        yield
        await trio.sleep(PROMISE)
        await asked_often_since(trio.current_time())
        stop.set()


async def test_it_is_refused_at_every_port(troupe: Program) -> None:
    async with open_provider() as provider, httpx2.AsyncClient(timeout=WAIT) as client:
        scene = Scene("People", troupe, client, provider)
        owner, admin, analyst = map(scene.session, ("owner", "admin", "analyst"))
        revoked, revoked_headers = await scene.token(analyst)
        _, of_member = await scene.token(admin)
        listed = scene.session("viewer")
        told = (await scene.send("GET", "/sessions", listed))["data"]
        mine = next(one["session_id"] for one in told if one["is_current"])
        closed = Scene("Closed", troupe, client, provider)
        closer = closed.session("owner")
        path = f"/tenants/{closed.party.tenant_id}"
        shown = await client.get(f"{troupe.urls['auth']}/api/v1{path}", headers=closer)

        ends = {
            "a session ended from the list": Credential(listed),
            "a token that was revoked": Credential(revoked_headers),
            "the session of who was removed": Credential(admin),
            "the token of who was removed": Credential(of_member),
            "a session logged out at the provider": Credential(scene.session("analyst", "theirs")),
            "a session of a closed tenant": Credential(closer),
            "a token of a closed tenant": Credential(troupe.token(closed.party, "viewer")),
        }
        stays = {
            "the owner": Credential(owner),
            "another session at the provider": Credential(scene.session("analyst", "another")),
            "the operator's token": Credential(troupe.token(scene.party, "viewer")),
        }
        logout = {"sub": "People-analyst", "sid": "theirs"}
        async with in_use(troupe, ends | stays):
            begins = trio.current_time()
            await scene.send("DELETE", f"/sessions/{mine}", listed)
            await scene.send("DELETE", f"/tokens/{revoked}", analyst)
            user = scene.party.users["admin"]
            await scene.send("DELETE", f"/tenants/{scene.party.tenant_id}/members/{user}", owner)
            await scene.send(
                "POST",
                "/backchannel-logout",
                {},
                data={"logout_token": provider.logout_token(**logout)},
            )
            tag = {"If-Match": shown.headers["ETag"]}
            await scene.send("POST", f"{path}/deactivate", closer | tag)
            for credential in ends.values():
                credential.ending = begins, trio.current_time()
    found = [text for name, one in (ends | stays).items() for text in one.findings(name)]
    assert found == []
