"""Tenants' settings, connections and the audit log; what the database and the logs never hold."""

import json
from typing import Any

import asyncpg
import pytest

from tests.integration.auth.site import CLIENT_SECRET, KEYS, PASSWORD, Browser, Site
from troupe.actors.auth import audit
from troupe.actors.auth.connections import put_connection
from troupe.actors.auth.tenants import create_tenant, load_tenant
from troupe.common.connections import NotConnected, load_connection
from troupe.common.errors import InvalidInput, NotFound
from troupe.common.ids import TenantId, new_id
from troupe.common.secrets import KeyRing, Place, UnreadableSecret, Vault
from troupe.http.credentials import LOOPBACK_SESSION_COOKIE

SERVICE_ACCOUNT = json.dumps({"type": "service_account", "private_key": "private-key-canary"})
BIGQUERY = {"project": "harbor-shop", "dataset": "analytics_1234", "location": "EU"}


@pytest.fixture
async def owner(site: Site, browser: Browser) -> Browser:
    await site.add(site.harbor, "ada", "owner")
    await browser.log_in(site.harbor, "ada")
    return browser


async def test_settings_change_under_a_precondition(site: Site, owner: Browser) -> None:
    path = f"/api/v1/tenants/{site.harbor}"
    seen = await owner.api(path)
    tag = {"If-Match": seen.headers["ETag"]}
    change = {"name": "Harbor & Sons", "settings": {"branch_parameter": "store"}}
    assert (await owner.send("PATCH", path, json=change)).status_code == 428
    changed = await owner.send("PATCH", path, tag, json=change)
    assert changed.status_code == 200, changed.text
    assert changed.json()["name"] == "Harbor & Sons"
    assert changed.json()["settings"]["branch_parameter"] == "store"
    assert changed.json()["settings"]["retention_days"] == seen.json()["settings"]["retention_days"]
    outdated = await owner.send("PATCH", path, tag, json={"name": "Lost update"})
    assert outdated.status_code == 412
    unchanged = await owner.get(path, headers={"If-None-Match": changed.headers["ETag"]})
    assert unchanged.status_code == 304


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"reporting_time_zone": "Mars/Olympus"}, "/reporting_time_zone"),
        ({"reporting_currency": "eur"}, "/reporting_currency"),
        ({"name": " Harbor"}, "/name"),
        ({"settings": {"branch_paramter": "x"}}, "/settings/branch_paramter"),
        ({"week_start": 8}, "/week_start"),
    ],
)
async def test_settings_that_are_not_valid(
    site: Site, owner: Browser, change: dict[str, Any], pointer: str
) -> None:
    path = f"/api/v1/tenants/{site.harbor}"
    tag = {"If-Match": (await owner.api(path)).headers["ETag"]}
    refused = await owner.send("PATCH", path, tag, json=change)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == pointer
    assert (await owner.api(path)).headers["ETag"] == tag["If-Match"]


async def test_roles(site: Site, browser: Browser) -> None:
    await site.add(site.harbor, "ada", "viewer")
    await browser.log_in(site.harbor, "ada")
    base = f"/api/v1/tenants/{site.harbor}"
    assert (await browser.api(base)).status_code == 200
    for path in ("members", "audit", "connections/sftp"):
        assert (await browser.api(f"{base}/{path}")).status_code == 403, path
    refused = await browser.send("PATCH", base, {"If-Match": "*"}, json={"name": "Mine"})
    assert refused.status_code == 403


async def test_members_are_listed_in_pages(site: Site, owner: Browser) -> None:
    await site.add(site.harbor, "grace", "analyst")
    await site.add(site.tools, "eve", "owner")
    path = f"/api/v1/tenants/{site.harbor}/members"
    first = (await owner.api(path, params={"limit": 1})).json()
    assert first["total"] == 2
    assert [row["name"] for row in first["data"]] == ["Ada Lovelace"]
    second = (await owner.api(path, params={"limit": 1, "cursor": first["next_cursor"]})).json()
    assert [row["role"] for row in second["data"]] == ["analyst"]
    assert second["next_cursor"] is None


async def test_a_connection_keeps_its_secret_to_itself(site: Site, owner: Browser) -> None:
    path = f"/api/v1/tenants/{site.harbor}/connections/bigquery"
    assert (await owner.api(path)).status_code == 404
    put = await owner.send("PUT", path, json={"config": BIGQUERY, "secret": SERVICE_ACCOUNT})
    assert put.status_code == 200, put.text
    shown = await owner.api(path)
    assert shown.json()["has_secret"] is True
    assert shown.json()["config"]["project"] == "harbor-shop"
    assert "private-key-canary" not in put.text + shown.text

    loaded = await load_connection(site.database, Vault(KEYS), site.harbor, "bigquery")
    assert loaded.secret == SERVICE_ACCOUNT.encode()
    assert "private-key-canary" not in repr(loaded)

    # Without a secret the present one stays.
    changed = {**BIGQUERY, "location": "US"}
    tag = {"If-Match": shown.headers["ETag"]}
    assert (await owner.send("PUT", path, tag, json={"config": changed})).status_code == 200
    assert (await owner.send("PUT", path, tag, json={"config": changed})).status_code == 412
    loaded = await load_connection(site.database, Vault(KEYS), site.harbor, "bigquery")
    assert loaded.version == 2
    assert loaded.secret == SERVICE_ACCOUNT.encode()


async def test_a_connection_that_is_not_valid(site: Site, owner: Browser) -> None:
    path = f"/api/v1/tenants/{site.harbor}/connections/bigquery"
    misspelt = await owner.send("PUT", path, json={"config": {**BIGQUERY, "projekt": "x"}})
    assert misspelt.status_code == 422
    assert misspelt.json()["errors"][0]["pointer"] == "/config/projekt"
    no_account = await owner.send("PUT", path, json={"config": BIGQUERY, "secret": "canary"})
    assert no_account.status_code == 422
    assert "canary" not in no_account.text
    assert (await owner.api(path.replace("bigquery", "ftp"))).status_code == 404


async def test_another_tenants_connection_is_not_there(site: Site) -> None:
    await put_connection(
        site.database, site.vault, site.harbor, "bigquery", BIGQUERY, SERVICE_ACCOUNT.encode()
    )
    with pytest.raises(NotConnected):
        await load_connection(site.database, site.vault, site.tools, "bigquery")


async def test_a_ciphertext_opens_only_where_it_belongs(site: Site) -> None:
    vault, here = Vault(KEYS), Place("auth.connections", "secret", "sftp")

    async def sealed_in(tenant: TenantId) -> bytes:
        return await site.database.run(
            lambda connection: vault.seal(connection, tenant, here, b"canary"), tenant=tenant
        )

    async def opened_in(tenant: TenantId, place: Place, sealed: bytes, with_: Vault) -> bytes:
        return await site.database.run(
            lambda connection: with_.unseal(connection, tenant, place, sealed), tenant=tenant
        )

    sealed = await sealed_in(site.harbor)
    assert b"canary" not in sealed
    assert await sealed_in(site.harbor) != sealed
    assert await opened_in(site.harbor, here, sealed, Vault(KEYS)) == b"canary"
    for place in (
        Place("auth.connections", "secret", "smtp"),
        Place("auth.connections", "config", "sftp"),
        Place("auth.identity_providers", "secret", "sftp"),
        Place("auth.connectionss", "ecret", "sftp"),
    ):
        with pytest.raises(UnreadableSecret):
            await opened_in(site.harbor, place, sealed, vault)
    await sealed_in(site.tools)
    for of_vault in (vault, Vault(KEYS)):
        with pytest.raises(UnreadableSecret):
            await opened_in(site.tools, here, sealed, of_vault)
    for position in (0, 5, 20, 29, len(sealed) - 1):
        altered = bytearray(sealed)
        altered[position] ^= 1
        with pytest.raises(UnreadableSecret):
            await opened_in(site.harbor, here, bytes(altered), vault)
    with pytest.raises(UnreadableSecret, match="key_encryption_key_file"):
        await opened_in(site.harbor, here, sealed, Vault(KeyRing([b"other".ljust(32)])))
    both = KeyRing([b"new".ljust(32), b"k" * 32])
    assert await opened_in(site.harbor, here, sealed, Vault(both)) == b"canary"


async def test_tenants_that_cannot_be(site: Site) -> None:
    with pytest.raises(NotFound):
        await load_tenant(site.database, TenantId(new_id()))
    with pytest.raises(InvalidInput):
        await create_tenant(site.database, "", reporting_time_zone="Europe/Berlin")


async def test_the_audit_log_tells_what_happened(site: Site, owner: Browser) -> None:
    path = f"/api/v1/tenants/{site.harbor}"
    tag = {"If-Match": (await owner.api(path)).headers["ETag"]}
    await owner.send("PATCH", path, tag, json={"name": "Renamed"})
    entries = (await owner.api(f"{path}/audit")).json()["data"]
    assert [entry["action"] for entry in entries] == [
        "tenant.changed",
        "session.started",
        "member.added",
        "provider.put",
        "tenant.created",
    ]
    assert entries[0]["actor_kind"] == "user"
    assert entries[0]["detail"] == {"fields": ["name"]}
    assert [entry["sequence"] for entry in entries] == [5, 4, 3, 2, 1]
    page = (await owner.api(f"{path}/audit", params={"limit": 2})).json()
    rest = (await owner.api(f"{path}/audit", params={"cursor": page["next_cursor"]})).json()
    assert [entry["sequence"] for entry in page["data"] + rest["data"]] == [5, 4, 3, 2, 1]
    # Tools has a chain of its own.
    other = await audit.entries(site.database, site.tools, before=None, limit=10)
    assert [entry.action for entry in other] == ["provider.put", "tenant.created"]


@pytest.mark.parametrize(
    ("tampering", "broken_at"),
    [
        ("UPDATE auth.audit_log SET detail = '{}' WHERE tenant_id = $1 AND sequence = 1", 1),
        ("DELETE FROM auth.audit_log WHERE tenant_id = $1 AND sequence = 2", 2),
        ("DELETE FROM auth.audit_log WHERE tenant_id = $1 AND sequence = 4", 4),
        ("DELETE FROM auth.audit_log WHERE tenant_id = $1", 1),
        ("UPDATE auth.audit_log SET at = at + interval '1 us' WHERE tenant_id = $1", 1),
        ("SELECT $1::uuid", None),
    ],
)
async def test_tampering_with_the_log_shows(
    site: Site, owner: Browser, tampering: str, broken_at: int | None
) -> None:
    assert owner.site is site
    assert len(await audit.entries(site.database, site.harbor, before=None, limit=9)) == 4
    await site.admin(tampering, site.harbor)
    assert await audit.broken_entry(site.database, site.harbor) == broken_at
    assert await audit.broken_entry(site.database, site.tools) is None


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT FROM auth.users",
        "SELECT FROM auth.login_sessions",
        "SELECT FROM auth.login_states",
        "UPDATE auth.audit_log SET action = 'x'",
        "DELETE FROM auth.audit_log",
        "TRUNCATE auth.audit_log",
        "INSERT INTO auth.audit_log SELECT * FROM auth.audit_log",
        "UPDATE auth.audit_heads SET sequence = 0",
        "SELECT auth.write_audit(platform.current_tenant(), 'system', NULL, 'x', '', '{}')",
    ],
)
async def test_what_the_program_itself_may_not_do(site: Site, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await site.database.execute(statement, tenant=site.harbor)


async def test_doors_show_the_tenant_of_the_transaction_only(site: Site) -> None:
    await site.add(site.harbor, "ada", "owner")
    await site.add(site.tools, "grace", "owner")
    for tenant, expected in ((site.harbor, 1), (site.tools, 1), (None, 0)):
        rows = await site.database.fetch("SELECT * FROM auth.list_members(NULL, 10)", tenant=tenant)
        assert len(rows) == expected
    # A provider of another tenant completes no login in this one.
    rows = await site.database.fetch(
        "SELECT * FROM auth.complete_login($1, 's', NULL, false, '', 'admin', $2, $3,"
        " sha256('x'), NULL, NULL, interval '1 h', interval '1 h')",
        site.providers[site.tools],
        new_id(),
        new_id(),
        tenant=site.harbor,
    )
    assert rows == []
    with pytest.raises(asyncpg.RaiseError):
        await site.database.execute("SELECT auth.append_audit('system', NULL, 'x', '', '{}')")


async def dump(site: Site) -> str:
    """Every value of every table, as text; bytes also as text, not only as hexadecimal."""
    found: list[str] = []
    tables = await site.admin(
        "SELECT c.oid::regclass::text AS name FROM pg_class c"
        " WHERE c.relnamespace IN ('auth'::regnamespace, 'platform'::regnamespace)"
        " AND c.relkind = 'r'"
    )
    for table in tables:
        for row in await site.admin(f"SELECT * FROM {table['name']}"):
            found += [
                value.decode("latin-1") if isinstance(value, bytes) else str(value)
                for value in row.values()
            ]
    return "\n".join(found)


async def test_neither_database_nor_log_holds_a_secret(
    site: Site, owner: Browser, capfd: pytest.CaptureFixture[str]
) -> None:
    """The happy way and several unhappy ones, then a look at everything that was written."""
    secrets = {"client secret": CLIENT_SECRET, "password": PASSWORD, "key": "private-key-canary"}
    path = f"/api/v1/tenants/{site.harbor}/connections/bigquery"
    await owner.send("PUT", path, json={"config": BIGQUERY, "secret": SERVICE_ACCOUNT})
    made = await owner.send("POST", "/api/v1/tokens", json={"name": "canary"})
    secrets["token"] = made.json()["token"]
    form = await owner.to_provider(site.harbor, next="/")
    begun = await owner.callback_url(site.harbor, "ada")
    secrets["code and state"] = begun.split("?")[1]
    for name in ("code", "state"):
        secrets[name] = begun.split(f"{name}=")[1].split("&")[0]
    await owner.get(begun)
    await owner.get(begun)
    await owner.api(begun)
    await site.put_provider(site.harbor, client_secret="other-canary")
    await owner.log_in(site.harbor, "ada")
    secrets["other client secret"] = "other-canary"
    secrets["session"] = owner.client.cookies[LOOPBACK_SESSION_COOKIE]
    secrets["binding"] = owner.client.cookies["troupe_login"]
    secrets["CSRF token"] = (await owner.api("/api/v1/me")).json()["csrf_token"]
    assert form.status_code == 303  # known at the provider

    stored = await dump(site)
    assert "Ada Lovelace" in stored  # the dump sees what is there
    out, err = capfd.readouterr()
    assert "request_answered" in out + err
    for name, secret in secrets.items():
        assert secret not in stored, f"{name} is in the database"
        assert secret not in out + err, f"{name} is in the log"
