"""Members, settings and the end of a tenant, as its people do it."""

from typing import Any
from uuid import UUID

import pytest
import trio

from tests.integration.auth.site import Browser, Site
from troupe.actors.auth import audit
from troupe.actors.auth.members import Role, change_role, remove_member
from troupe.actors.auth.tenants import set_tenant_state
from troupe.common.errors import Conflict


async def as_role(site: Site, browser: Browser, role: Role) -> str:
    """Ada logs in with this role; the tenant's path."""
    await site.add(site.harbor, "ada", role)
    await browser.log_in(site.harbor, "ada")
    return f"/api/v1/tenants/{site.harbor}"


def invitation(site: Site, subject: str, role: str) -> dict[str, Any]:
    provider = site.providers[site.harbor]
    return {"provider_id": str(provider), "subject": subject, "role": role}


async def test_whoever_was_invited_is_let_in(
    site: Site, browser: Browser, other_browser: Browser
) -> None:
    path = await as_role(site, browser, "admin")
    body = {**invitation(site, "sub-grace", "analyst"), "email": "grace@tools.example"}
    key = {"Idempotency-Key": "once"}
    invited = await browser.send("POST", f"{path}/members", key, json=body)
    assert invited.status_code == 201, invited.text
    assert invited.json()["role"] == "analyst"
    replayed = await browser.send("POST", f"{path}/members", key, json=body)
    assert replayed.json() == invited.json()
    again = await browser.send("POST", f"{path}/members", json=body)
    assert again.status_code == 409
    await other_browser.log_in(site.harbor, "grace")
    me = (await other_browser.api("/api/v1/me")).json()
    assert (me["subject_id"], me["tenant"]["role"]) == (invited.json()["user_id"], "analyst")


async def test_who_is_removed_is_out(site: Site, browser: Browser, other_browser: Browser) -> None:
    path = await as_role(site, browser, "admin")
    grace = await site.add(site.harbor, "grace", "viewer")
    await other_browser.log_in(site.harbor, "grace")
    made = await other_browser.send("POST", "/api/v1/tokens", json={"name": "script"})
    token = {"Authorization": f"Bearer {made.json()['token']}"}
    assert (await browser.client.get(f"{site.url}/api/v1/me", headers=token)).status_code == 200

    member = f"{path}/members/{grace}"
    promoted = await browser.send("PATCH", member, json={"role": "analyst"})
    assert promoted.json()["role"] == "analyst"
    assert (await browser.api(member)).json()["role"] == "analyst"
    assert (await browser.send("DELETE", member)).status_code == 204
    assert (await browser.api(member)).status_code == 404
    assert (await browser.send("DELETE", member)).status_code == 404
    await trio.sleep(1.6)  # what a credential is remembered for
    assert (await other_browser.api("/api/v1/me")).status_code == 401
    other = await other_browser.client.get(f"{site.url}/api/v1/me", headers=token)
    assert other.status_code == 401
    actions = [entry["action"] for entry in (await browser.api(f"{path}/audit")).json()["data"]]
    assert actions[:2] == ["member.removed", "member.changed"]


async def test_nobody_gives_away_more_than_they_have(site: Site, browser: Browser) -> None:
    path = await as_role(site, browser, "admin")
    grace = await site.add(site.harbor, "grace", "owner")
    eve = await site.add(site.harbor, "eve", "viewer")
    for method, target, body in (
        ("POST", f"{path}/members", invitation(site, "somebody", "owner")),
        ("PATCH", f"{path}/members/{eve}", {"role": "owner"}),
        ("PATCH", f"{path}/members/{grace}", {"role": "viewer"}),
        ("DELETE", f"{path}/members/{grace}", None),
    ):
        sent = {} if body is None else {"json": body}
        answer = await browser.send(method, target, **sent)
        assert answer.status_code == 403, (method, target, answer.text)


async def test_the_last_owner_stays(site: Site, browser: Browser) -> None:
    path = await as_role(site, browser, "owner")
    ada = (await browser.api("/api/v1/me")).json()["subject_id"]
    for method, body in (("PATCH", {"role": "admin"}), ("DELETE", None)):
        sent = {} if body is None else {"json": body}
        assert (await browser.send(method, f"{path}/members/{ada}", **sent)).status_code == 409
    same = await browser.send("PATCH", f"{path}/members/{ada}", json={"role": "owner"})
    assert same.status_code == 200


async def test_two_owners_who_remove_each_other(site: Site) -> None:
    ada = await site.add(site.harbor, "ada", "owner")
    grace = await site.add(site.harbor, "grace", "owner")
    refused: list[Conflict] = []

    async def remove(user: UUID) -> None:
        try:
            await remove_member(site.database, site.harbor, user, by="owner", actor=audit.OPERATOR)
        except Conflict as error:
            refused.append(error)

    async def demote(user: UUID) -> None:
        try:
            await change_role(
                site.database, site.harbor, user, "viewer", by="owner", actor=audit.OPERATOR
            )
        except Conflict as error:
            refused.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(remove, ada)
        nursery.start_soon(demote, grace)
    assert len(refused) == 1
    owners = await site.admin("SELECT FROM auth.members WHERE role = 'owner'")
    assert len(owners) == 1


async def test_invitations_that_cannot_be(site: Site, browser: Browser) -> None:
    path = await as_role(site, browser, "owner")
    good = invitation(site, "somebody", "viewer")
    for changes, status in (
        ({"provider_id": str(site.providers[site.tools])}, 404),  # another tenant's
        ({"subject": ""}, 422),
        ({"subject": "a\u0000b"}, 422),
        ({"subject": "x" * 256}, 422),
        ({"role": "emperor"}, 422),
    ):
        answer = await browser.send("POST", f"{path}/members", json=good | changes)
        assert answer.status_code == status, answer.text


async def test_settings_have_a_route_of_their_own(site: Site, browser: Browser) -> None:
    path = f"{await as_role(site, browser, 'admin')}/settings"
    seen = await browser.api(path)
    assert seen.json()["cart_idle_hours"] == 24
    tag = {"If-Match": seen.headers["ETag"]}
    body = {"settings": {"cart_idle_hours": 48}}
    assert (await browser.send("PATCH", path, json=body)).status_code == 428
    changed = await browser.send("PATCH", path, tag, json=body)
    assert changed.json()["cart_idle_hours"] == 48
    assert (await browser.send("PATCH", path, tag, json=body)).status_code == 412
    again = {"If-Match": changed.headers["ETag"]}
    refused = await browser.send("PATCH", path, again, json={"settings": {"cart_idle_hours": 0}})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/settings/cart_idle_hours"
    assert (await browser.api(path)).json()["cart_idle_hours"] == 48


async def test_a_deactivated_tenant_lets_nobody_in(
    site: Site, browser: Browser, other_browser: Browser
) -> None:
    path = await as_role(site, browser, "owner")
    tag = {"If-Match": (await browser.api(path)).headers["ETag"]}
    assert (await browser.send("POST", f"{path}/deactivate")).status_code == 428
    closed = await browser.send("POST", f"{path}/deactivate", tag)
    assert closed.json()["state"] == "deactivated"
    await trio.sleep(1.6)  # what a credential is remembered for
    assert (await browser.api("/api/v1/me")).status_code == 401
    start = await other_browser.get("/api/v1/login", params={"tenant": str(site.harbor)})
    assert site.provider.issuer not in start.headers.get("Location", "")
    await set_tenant_state(site.database, site.harbor, "active")
    await trio.sleep(1.6)  # likewise
    assert (await browser.api("/api/v1/me")).status_code == 200
    found = await audit.entries(site.database, site.harbor, before=None, limit=2)
    assert [entry.action for entry in found] == ["tenant.activated", "tenant.deactivated"]


async def test_the_audit_logs_verdict(site: Site, browser: Browser) -> None:
    path = await as_role(site, browser, "admin")
    whole = await browser.api(f"{path}/audit/verdict")
    assert whole.json() == {"whole": True, "broken_at": None}
    await site.admin("UPDATE auth.audit_log SET detail = '{}' WHERE sequence = 2")
    broken = await browser.api(f"{path}/audit/verdict")
    assert broken.json() == {"whole": False, "broken_at": 2}


@pytest.mark.parametrize("username", ["eve"])
async def test_a_refused_login_leaves_no_name(site: Site, browser: Browser, username: str) -> None:
    await browser.log_in(site.harbor, username)
    (entry, *_) = await audit.entries(site.database, site.harbor, before=None, limit=1)
    assert entry.action == "session.refused"
    assert "eve" not in entry.target
    UUID(entry.target)
