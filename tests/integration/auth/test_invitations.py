"""One address is invited, and whoever logs in with it comes in, once."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio

from tests.integration.auth.site import USERS, Browser, Site
from troupe.actors.auth import invitations
from troupe.actors.auth.audit import OPERATOR, entries
from troupe.actors.auth.invitations import invite
from troupe.actors.auth.members import Role, change_role, remove_member
from troupe.common.errors import Conflict, TooManyRequests
from troupe.common.units import DAYS, HOURS

GRACE = USERS["grace"]["email"]


async def as_role(site: Site, browser: Browser, role: Role) -> str:
    """Ada logs in with this role; the path of the tenant's invitations."""
    await site.add(site.harbor, "ada", role)
    await browser.log_in(site.harbor, "ada")
    return f"/api/v1/tenants/{site.harbor}/invitations"


async def offer(site: Site, email: str = GRACE, role: Role = "analyst", **changes: Any) -> UUID:
    """The operator invites somebody to Harbor."""
    given: dict[str, Any] = {
        "email": email, "role": role, "lifetime": 1 * DAYS, "by": "owner", "invited_by": None,
        "actor": OPERATOR,
    }  # fmt: skip
    made = await invite(site.database, site.harbor, **given | changes)
    return made.invitation_id


async def waiting(site: Site) -> int:
    return (await invitations.list_invitations(site.database, site.harbor, after=None, limit=9))[1]


async def actions(site: Site) -> list[str]:
    found = await entries(site.database, site.harbor, before=None, limit=50)
    return [entry.action for entry in found]


def told(site: Site, username: str, **changes: Any) -> None:
    """Have the provider say something else about a person."""
    said = json.loads(site.provider.path.read_text(encoding="utf-8"))
    for user in said["users"]:
        if user["username"] == username:
            user.update(changes)
    site.provider.path.write_text(json.dumps(said), encoding="utf-8")


async def test_whoever_logs_in_with_the_address_comes_in_once(
    site: Site, browser: Browser, other_browser: Browser
) -> None:
    path = await as_role(site, browser, "admin")
    body = {"email": GRACE.upper(), "role": "analyst", "lifetime_days": 3}
    key = {"Idempotency-Key": "once"}
    made = await browser.send("POST", path, key, json=body)
    assert made.status_code == 201, made.text
    assert made.json()["email"] == GRACE
    assert made.json()["login_url"] == f"{site.url}/?tenant={site.harbor}"
    assert (await browser.send("POST", path, key, json=body)).json() == made.json()
    assert (await browser.send("POST", path, json=body)).status_code == 409
    listed = (await browser.api(path)).json()
    assert listed["data"] == [made.json()]
    assert listed["data"][0]["state"] == "waiting"
    assert listed["total"] == 1

    answer = await other_browser.log_in(site.harbor, "grace")
    assert answer.status_code == 303, answer.text
    me = (await other_browser.api("/api/v1/me")).json()
    assert (me["email"], me["tenant"]["role"]) == (GRACE, "analyst")
    assert (await browser.api(path)).json() == {"data": [], "next_cursor": None, "total": 0}
    log = await entries(site.database, site.harbor, before=None, limit=4)
    assert [entry.action for entry in log] == [
        "invitation.accepted", "session.started", "member.joined", "invitation.made",
    ]  # fmt: skip
    accepted = log[0]
    assert (accepted.target, str(accepted.actor_id)) == (
        made.json()["invitation_id"], me["subject_id"],
    )  # fmt: skip
    assert GRACE not in str(log), "the log names nobody"
    assert GRACE not in str(await site.admin("SELECT * FROM auth.invitations"))
    # It was for one: the address has another owner now.
    await remove_member(
        site.database, site.harbor, UUID(me["subject_id"]), by="owner", actor=OPERATOR
    )
    told(site, "eve", email=GRACE)
    for username in ("eve", "grace"):
        async with (another := Browser(site)).client:
            assert (await another.log_in(site.harbor, username)).status_code == 403


async def test_an_address_that_nobody_has_verified_lets_nobody_in(
    site: Site, browser: Browser
) -> None:
    await offer(site)
    for username, changes in (
        ("grace", {"email_verified": False}),
        ("eve", {}),
        ("eve", {"email": "grace@tools.example.elsewhere.example"}),
        ("eve", {"email": ""}),
    ):
        told(site, username, **changes)
        async with (other := Browser(site)).client:
            assert (await other.log_in(site.harbor, username)).status_code == 403
    # Another tenant is not meant.
    told(site, "grace", email_verified=True)
    assert (await browser.log_in(site.tools, "grace")).status_code == 403
    assert await waiting(site) == 1
    assert (await browser.log_in(site.harbor, "grace")).status_code == 303
    assert await waiting(site) == 0


async def test_one_of_two_who_log_in_at_once_comes_in(site: Site) -> None:
    await offer(site)
    told(site, "eve", email=GRACE)
    statuses = []

    async def log_in(username: str) -> None:
        async with (one := Browser(site)).client:
            statuses.append((await one.log_in(site.harbor, username)).status_code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(log_in, "grace")
        nursery.start_soon(log_in, "eve")
    assert sorted(statuses) == [303, 403]
    (row,) = await site.admin("SELECT count(*) FROM auth.members")
    assert row["count"] == 1


async def test_an_invitation_that_was_taken_back_or_has_expired(
    site: Site, browser: Browser, other_browser: Browser
) -> None:
    path = await as_role(site, browser, "admin")
    first = await offer(site)
    assert (await browser.send("DELETE", f"{path}/{first}")).status_code == 204
    assert (await browser.send("DELETE", f"{path}/{first}")).status_code == 404
    assert (await browser.send("DELETE", f"{path}/{uuid4()}")).status_code == 404
    assert (await other_browser.log_in(site.harbor, "grace")).status_code == 403
    assert (await actions(site))[1] == "invitation.taken_back"
    # An owner's is an owner's to take back.
    high = await offer(site, "chief@harbor.example", "owner")
    assert (await browser.send("DELETE", f"{path}/{high}")).status_code == 403

    late = await offer(site)
    await site.admin("UPDATE auth.invitations SET expires_at = now() WHERE email = $1", GRACE)
    assert (await other_browser.log_in(site.harbor, "grace")).status_code == 403
    states = {
        one["invitation_id"]: one["state"] for one in (await browser.api(path)).json()["data"]
    }
    assert states == {str(high): "waiting", str(late): "expired"}
    # Its place may be taken by a new one.
    again = await offer(site)
    assert again != late
    assert (await other_browser.log_in(site.harbor, "grace")).status_code == 303

    # Addresses of those who never came are forgotten a month later.
    await site.admin("UPDATE auth.invitations SET expires_at = now() - interval '31 days'")
    await other_browser.to_provider(site.harbor)
    assert await site.admin("SELECT FROM auth.invitations") == []


async def test_it_gives_what_its_maker_may_give_now(site: Site, browser: Browser) -> None:
    ada = await site.add(site.harbor, "ada", "owner")
    await site.add(site.harbor, "eve", "owner")
    await offer(site, role="owner", invited_by=ada)
    await change_role(site.database, site.harbor, ada, "admin", by="owner", actor=OPERATOR)
    assert (await browser.log_in(site.harbor, "grace")).status_code == 403
    await change_role(site.database, site.harbor, ada, "owner", by="owner", actor=OPERATOR)
    assert (await browser.log_in(site.harbor, "grace")).status_code == 303
    # With the membership of the maker it is gone.
    await offer(site, "late@harbor.example", invited_by=ada)
    assert await waiting(site) == 1
    await remove_member(site.database, site.harbor, ada, by="owner", actor=OPERATOR)
    assert await waiting(site) == 0


async def test_who_makes_it_by_a_token_answers_for_it(site: Site, browser: Browser) -> None:
    path = await as_role(site, browser, "admin")
    ada = (await browser.api("/api/v1/me")).json()["subject_id"]
    token = (await browser.send("POST", "/api/v1/tokens", json={"name": "script"})).json()["token"]
    async with (program := Browser(site)).client:
        made = await program.client.post(
            site.url + path,
            json={"email": GRACE, "role": "viewer"},
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
        )
    assert made.status_code == 201, made.text
    assert made.json()["invited_by"] == ada


async def test_who_is_a_member_stays_what_they_are(site: Site, browser: Browser) -> None:
    """Invited and made a member by hand meanwhile: the invitation is over and changes nothing."""
    await offer(site, role="admin")
    await site.add(site.harbor, "grace", "viewer")
    assert (await browser.log_in(site.harbor, "grace")).status_code == 303
    assert (await browser.api("/api/v1/me")).json()["tenant"]["role"] == "viewer"
    assert await waiting(site) == 0
    with pytest.raises(Conflict, match="A member has this address"):
        await offer(site)


async def test_a_rule_does_not_take_away_what_an_invitation_gives(
    site: Site, browser: Browser
) -> None:
    await site.put_provider(site.harbor, allowed_email_domains=["tools.example"])
    await offer(site, role="admin")
    assert (await browser.log_in(site.harbor, "grace")).status_code == 303
    assert (await browser.api("/api/v1/me")).json()["tenant"]["role"] == "admin"


async def test_invitations_that_cannot_be(site: Site, browser: Browser) -> None:
    path = await as_role(site, browser, "admin")
    good = {"email": GRACE, "role": "viewer"}
    for changes, status in (
        ({"email": "grace"}, 422),
        ({"email": f"{GRACE}, eve@elsewhere.example"}, 422),
        ({"email": f"Grace <{GRACE}>"}, 422),
        ({"email": "x" * 250 + "@y.example"}, 422),
        ({"email": None}, 422),
        ({"role": "owner"}, 403),
        ({"role": "emperor"}, 422),
        ({"lifetime_days": 0}, 422),
        ({"lifetime_days": 31}, 422),
        ({"provider_id": str(uuid4())}, 404),
        ({"provider_id": str(site.providers[site.tools])}, 404),
    ):
        answer = await browser.send("POST", path, json=good | changes)
        assert answer.status_code == status, (changes, answer.text)
    assert (await browser.send("POST", path, json=good)).status_code == 201
    # With a second provider it must be said which one vouches; one that is off cannot.
    await site.put_provider(site.harbor, client_id="another", label="Another")
    other = {"email": "x@y.example", "role": "viewer"}
    several = await browser.send("POST", path, json=other)
    assert several.status_code == 422
    assert several.json()["errors"][0]["pointer"] == "/provider_id"
    named = other | {"provider_id": str(site.providers[site.harbor])}
    assert (await browser.send("POST", path, json=named)).status_code == 201
    await site.put_provider(site.harbor, client_id="another", label="Another", enabled=False)
    elsewhere = named | {"email": "z@y.example"}
    assert (await browser.send("POST", path, json=elsewhere)).status_code == 404


async def test_there_are_only_so_many(
    site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invitations, "MAX_AN_HOUR", 2)
    path = await as_role(site, browser, "admin")
    one = await offer(site, "a@x.example")
    await browser.send("DELETE", f"{path}/{one}")
    await offer(site, "b@x.example")
    with pytest.raises(TooManyRequests) as refused:
        await offer(site, "c@x.example")
    assert 0 < refused.value.retry_after <= 1 * HOURS
    answer = await browser.send("POST", path, json={"email": "c@x.example", "role": "viewer"})
    assert answer.status_code == 429
    assert 3500 < int(answer.headers["Retry-After"]) <= 3600
    await site.admin("UPDATE auth.invitations SET created_at = now() - interval '61 minutes'")
    await offer(site, "c@x.example")

    monkeypatch.setattr(invitations, "MAX_WAITING", 2)
    with pytest.raises(Conflict, match="wait already"):
        await offer(site, "d@x.example")
    page = (await browser.api(f"{path}?limit=1")).json()
    rest = (await browser.api(f"{path}?limit=1&cursor={page['next_cursor']}")).json()
    assert [one["email"] for one in page["data"] + rest["data"]] == ["b@x.example", "c@x.example"]
    assert (page["total"], rest["next_cursor"]) == (2, None)


async def test_another_tenant_sees_none(site: Site, browser: Browser) -> None:
    invitation = await offer(site)
    await site.add(site.tools, "eve", "owner")
    await browser.log_in(site.tools, "eve")
    tools = f"/api/v1/tenants/{site.tools}/invitations"
    assert (await browser.api(tools)).json()["total"] == 0
    assert (await browser.send("DELETE", f"{tools}/{invitation}")).status_code == 404
    rows = await site.database.fetch("SELECT FROM auth.invitations", tenant=site.tools)
    assert rows == []
    assert await waiting(site) == 1
