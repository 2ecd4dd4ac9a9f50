"""Exporting and erasing: what is left of a person or a tenant afterwards, in the whole database."""

import json
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from tests.support.postgres import MakeDatabase
from tests.support.program import Party, Program, program

PATIENCE = 60
VISITOR = "1699999999.4242424242"
OTHER_VISITOR = "1699999999.1111111111"
ORDERING_VISITOR = "1699999999.7777777777"
CUSTOMER = "K-42"
EMAIL = "clara@customer.example"
PHONE = "+49 431 555"


@pytest.fixture(scope="module")
def troupe(
    make_database: MakeDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    """A program of its own: a tenant that is gone is gone for every test."""
    with (
        make_database() as database,
        program(database, tmp_path_factory.mktemp("troupe")) as started,
    ):
        yield started


def api(
    troupe: Program, party: Party, method: str, path: str, body: Any = None, role: str = "owner"
) -> httpx2.Response:
    return httpx2.request(
        method,
        f"{troupe.urls['auth']}/api/v1/tenants/{party.tenant_id}{path}",
        json=body,
        headers=troupe.session(party, role),
        timeout=PATIENCE,
    )


def furnish(troupe: Program, tenant: UUID, visitor: str) -> None:
    """What a customer leaves behind, wherever it may be."""
    troupe.sql(
        "SELECT set_config('troupe.tenant_id', $1, false),"
        " data.stage_day($2, '2026-09-01', gen_random_uuid())",
        str(tenant),
        tenant,
    )
    (staged,) = troupe.sql("SELECT table_name FROM data.staged_days WHERE tenant_id = $1", tenant)
    event = (
        f"INSERT INTO staging.{staged['table_name']} (tenant_id, source_day, event_at, event_name,"
        " user_pseudo_id, customer_id, user_id, page_location, transaction_id, parameters, city,"
        " erp_customer_id)"
        " VALUES ($1, '2026-09-01', '2026-09-01 10:00+00', $2, $3, $4, $4, $5, $6, $7, 'Kiel', $8)"
    )
    page = f"https://shop.example/account?mail={EMAIL}"
    parameters = json.dumps({"login": EMAIL, "customer": CUSTOMER})
    troupe.sql(event, tenant, "purchase", visitor, CUSTOMER, page, "T-1001", parameters, None)
    troupe.sql(event, tenant, "page_view", OTHER_VISITOR, None, page, None, "{}", None)
    # Never logged in with the customer's number, only ordering for it.
    troupe.sql(event, tenant, "page_view", ORDERING_VISITOR, None, page, None, "{}", CUSTOMER)
    troupe.sql(
        "SELECT set_config('troupe.tenant_id', $1, false), data.seal_day($2, $3),"
        " data.publish_day($2, $3)",
        str(tenant),
        tenant,
        staged["table_name"],
    )
    troupe.sql(
        "INSERT INTO data.customers (tenant_id, customer_id, company, email, phone)"
        " VALUES ($1, $2, 'Clara Ltd', $3, $4) ON CONFLICT DO NOTHING",
        tenant,
        CUSTOMER,
        EMAIL,
        PHONE,
    )
    troupe.sql(
        "INSERT INTO auth.invitations"
        " (tenant_id, invitation_id, provider_id, email, role, expires_at)"
        " SELECT $1, gen_random_uuid(), provider_id, $2, 'viewer', now() + '1 day'"
        " FROM auth.identity_providers WHERE tenant_id = $1",
        tenant,
        EMAIL,
    )
    troupe.sql(
        "INSERT INTO data.purchases (tenant_id, purchase_id, source_day, day, purchased_at,"
        " user_pseudo_id, customer_id, transaction_id, currency, currency_missing, revenue,"
        " counted, value_mismatch) VALUES ($1, 1, '2026-09-01', '2026-09-01', now(), $2, $3,"
        " 'T-1001', 'EUR', false, 99.90, true, false)",
        tenant,
        visitor,
        CUSTOMER,
    )
    troupe.sql(
        "INSERT INTO data.user_day VALUES ($1, '2026-09-01', 'l-1', $2, true, true, false, true)",
        tenant,
        visitor,
    )
    troupe.sql(
        "INSERT INTO platform.job_history (tenant_id, job_id, group_name, kind, state, run_at,"
        " priority, attempt, max_attempts, arguments, progress_detail, error_message, result,"
        " created_at, finished_at)"
        " VALUES ($1, gen_random_uuid(), 'data', 'mail', 'failed', now(), 0, 1, 1, $2, '{}', $3,"
        " $4, now(), now())",
        tenant,
        json.dumps({"to": EMAIL, "customer_id": CUSTOMER}),
        f"No mail to {EMAIL}",
        json.dumps([{"visitor": VISITOR}]),
    )
    troupe.sql(
        "INSERT INTO platform.idempotency_keys"
        " (tenant_id, key, route, request_sha256, status, body)"
        " VALUES ($1, 'k', 'r', '', 200, $2)",
        tenant,
        EMAIL.encode(),
    )


def everything(troupe: Program) -> str:
    """Every value of every table of the database, as text; bytes also as text."""
    tables = troupe.sql(
        "SELECT c.oid::regclass::text AS name FROM pg_class AS c JOIN pg_namespace AS n"
        " ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'm')"
        " AND n.nspname IN ('platform', 'auth', 'data', 'analytics', 'staging')"
    )
    found = []
    for table in tables:
        for row in troupe.sql(f"SELECT * FROM {table['name']}"):
            found += [
                value.decode("latin-1") if isinstance(value, bytes) else str(value)
                for value in row.values()
            ]
    return "\n".join(found)


def of_others(troupe: Program, party: Party) -> dict[str, str]:
    """What must not change; tasks follow by themselves, whenever they find the time."""
    return {name: told for name, told in troupe.digest(party).items() if name != "analytics.tasks"}


def ended(troupe: Program, party: Party, job: str) -> dict[str, Any]:
    """A job of the tenant, once it has finished."""
    end = time.monotonic() + PATIENCE
    while True:
        found: dict[str, Any] = httpx2.get(
            f"{troupe.urls['data']}/api/v1/jobs/{job}", headers=troupe.session(party, "owner")
        ).json()
        if found["state"] in {"done", "failed", "dead"}:
            return found
        assert time.monotonic() < end, found
        time.sleep(0.1)


def test_an_export_holds_everything_and_no_secret(troupe: Program) -> None:
    party = troupe.there
    furnish(troupe, party.tenant_id, VISITOR)
    assert api(troupe, party, "POST", "/export", {}, role="admin").status_code == 403
    answer = api(troupe, party, "POST", "/export", {})
    assert answer.status_code == 200
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[-1] == {"end": True, "rows": len(lines) - 1}
    tables = {line["table"] for line in lines[:-1]}
    assert {"data.events", "data.customers", "auth.people", "auth.audit_log"} <= tables
    assert VISITOR in answer.text
    assert "token_hash" not in answer.text
    assert str(troupe.here.tenant_id) not in answer.text

    person = api(troupe, party, "POST", "/export", {"person": EMAIL})
    rows = [json.loads(line) for line in person.text.splitlines()][:-1]
    named = {row["table"] for row in rows}
    assert {"data.events", "data.customers", "data.purchases", "platform.job_history"} <= named
    assert "auth.invitations" in named
    assert "Branch" not in person.text


def hold(troupe: Program, tenant: UUID, purpose: str, file: UUID, content: bytes) -> None:
    """A file on its way."""
    is_upload = purpose == "upload"
    troupe.sql(
        "INSERT INTO data.held_files"
        " (tenant_id, file_id, purpose, content, name, size, sha256, found)"
        " VALUES ($1, $2, $3, 'customers', 'c.csv', $4, $5, $6)",
        tenant,
        file,
        purpose,
        len(content),
        bytes(32) if is_upload else None,
        None if is_upload else "as it was",
    )
    troupe.sql("INSERT INTO data.held_pieces VALUES ($1, $2, 0, $3)", tenant, file, content)


def test_nothing_leads_to_a_person_who_was_erased(troupe: Program) -> None:
    party = troupe.there
    waiting = uuid4()
    hold(troupe, party.tenant_id, "transfer", uuid4(), f"{CUSTOMER};{EMAIL}".encode())
    hold(troupe, party.tenant_id, "upload", uuid4(), f"{CUSTOMER};{EMAIL}".encode())
    hold(troupe, party.tenant_id, "upload", waiting, b"a job waits for this one")
    troupe.sql(
        "INSERT INTO platform.jobs"
        " (tenant_id, job_id, group_name, kind, max_attempts, run_at, arguments)"
        " VALUES ($1, gen_random_uuid(), 'data', 'waiting', 1, now() + '1 day', $2)",
        party.tenant_id,
        json.dumps({"upload": str(waiting)}),
    )
    before = everything(troupe)
    traces = (VISITOR, ORDERING_VISITOR, CUSTOMER, EMAIL, PHONE, "T-1001")
    for identifier in traces:
        assert identifier in before, identifier
    version = troupe.sql("SELECT count(*) AS n, sum(revenue) AS sum FROM data.purchases")[0]

    body = {"what": "person", "identifiers": [EMAIL]}
    answer = api(troupe, party, "POST", "/erase", body, role="admin")
    assert answer.status_code == 202, answer.text
    job = ended(troupe, party, answer.json()["job_id"])
    assert job["state"] == "done", job

    after = everything(troupe)
    for identifier in traces:
        assert identifier not in after, identifier
    held = troupe.sql("SELECT file_id FROM data.held_files")
    assert [row["file_id"] for row in held] == [waiting]
    # Others and the figures are as they were.
    assert OTHER_VISITOR in after
    assert troupe.sql("SELECT count(*) AS n, sum(revenue) AS sum FROM data.purchases")[0] == version
    events = troupe.sql("SELECT user_pseudo_id, parameters, city FROM data.events ORDER BY 1")
    erased = [row for row in events if row["user_pseudo_id"].startswith("erased-")]
    assert (len(events), len(erased)) == (3, 2)
    assert len({row["user_pseudo_id"] for row in erased}) == 2  # still two visitors
    assert {row["parameters"] for row in erased} == {None}
    (bought,) = troupe.sql("SELECT user_pseudo_id FROM data.purchases")
    assert bought["user_pseudo_id"] in {row["user_pseudo_id"] for row in erased}
    assert EMAIL not in troupe.process.text()


def test_who_was_erased_does_not_come_back(troupe: Program) -> None:
    """With the next load of the same day, or the next file."""
    tenant = troupe.there.tenant_id
    setting = "SELECT set_config('troupe.tenant_id', $1, false), "
    troupe.sql(
        f"{setting} data.stage_day($2, '2026-09-02', gen_random_uuid())", str(tenant), tenant
    )
    (staged,) = troupe.sql("SELECT table_name FROM data.staged_days WHERE tenant_id = $1", tenant)
    table = staged["table_name"]
    for visitor, customer in ((VISITOR, None), ("new-device", CUSTOMER), (OTHER_VISITOR, None)):
        troupe.sql(
            f"INSERT INTO staging.{table} (tenant_id, source_day, event_at, event_name,"
            " user_pseudo_id, customer_id, city)"
            " VALUES ($1, '2026-09-02', now(), 'x', $2, $3, 'Kiel')",
            tenant,
            visitor,
            customer,
        )
    (touched,) = troupe.sql(
        f"{setting} data.apply_erasures($2, $3) AS n", str(tenant), tenant, table
    )
    assert touched["n"] == 2
    rows = troupe.sql(f"SELECT user_pseudo_id, customer_id, city FROM staging.{table} ORDER BY 1")
    assert [row["city"] for row in rows] == ["Kiel", None, None]
    assert all(row["user_pseudo_id"].startswith("erased-") for row in rows[1:])
    assert {row["customer_id"] for row in rows} == {None}
    troupe.sql(
        "INSERT INTO data.customers (tenant_id, customer_id, email) VALUES ($1, $2, 'x@y.example')",
        tenant,
        CUSTOMER,
    )
    assert troupe.sql("SELECT FROM data.customers WHERE customer_id = $1", CUSTOMER) == []


def test_a_member_who_was_erased(troupe: Program) -> None:
    party = troupe.there
    user = party.users["analyst"]
    session = troupe.session(party, "analyst")
    # Somebody invited them once more, to another role, before they were known.
    invitation = {"email": "analyst@there.example", "role": "admin"}
    assert api(troupe, party, "POST", "/invitations", invitation).status_code == 201
    answer = api(
        troupe, party, "POST", "/erase", {"what": "person", "user_id": str(user)}, role="admin"
    )
    assert answer.status_code == 202, answer.text
    assert ended(troupe, party, answer.json()["job_id"])["state"] == "done"
    me = httpx2.get(f"{troupe.urls['auth']}/api/v1/me", headers=session)
    assert me.status_code == 401
    left = everything(troupe)
    for identifier in ("analyst@there.example", "There-analyst", "analyst of There"):
        assert identifier not in left, identifier
    assert "analyst@here.example" in left
    verdict = api(troupe, party, "GET", "/audit/verdict").json()
    assert verdict == {"whole": True, "broken_at": None}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"what": "person"}, 422),
        ({"what": "person", "identifiers": [""]}, 422),
        ({"what": "person", "identifiers": ["x\u0000y"]}, 422),
        ({"what": "person", "identifiers": ["x"] * 21}, 422),
        ({"what": "person", "identifiers": ["x"], "tenant_name": "There"}, 422),
        ({"what": "person", "user_id": str(uuid4())}, 404),
        ({"what": "tenant", "tenant_name": "Here"}, 422),
        ({"what": "tenant", "tenant_name": "There", "identifiers": ["x"]}, 422),
    ],
)
def test_erasures_that_are_refused(troupe: Program, body: dict[str, Any], status: int) -> None:
    assert api(troupe, troupe.there, "POST", "/erase", body).status_code == status


def test_who_may_erase_whom(troupe: Program) -> None:
    party = troupe.there
    owner = {"what": "person", "user_id": str(party.users["owner"])}
    assert api(troupe, party, "POST", "/erase", owner, role="admin").status_code == 403
    assert api(troupe, party, "POST", "/erase", owner).status_code == 409  # the last one
    tenant = {"what": "tenant", "tenant_name": "There"}
    assert api(troupe, party, "POST", "/erase", tenant, role="admin").status_code == 403


def test_nothing_is_left_of_a_tenant(troupe: Program) -> None:
    """Last in this module: the tenant is gone afterwards."""
    party, other = troupe.there, troupe.here
    furnish(troupe, other.tenant_id, OTHER_VISITOR)
    before = of_others(troupe, other)
    session = troupe.session(party, "viewer")
    answer = api(troupe, party, "POST", "/erase", {"what": "tenant", "tenant_name": "There"})
    assert answer.status_code == 202, answer.text
    end = time.monotonic() + PATIENCE
    while troupe.sql("SELECT FROM platform.tenants WHERE tenant_id = $1", party.tenant_id):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert httpx2.get(f"{troupe.urls['auth']}/api/v1/me", headers=session).status_code == 401
    left = everything(troupe)
    for identifier in (str(party.tenant_id), "There", "there.example", "There-owner"):
        assert identifier not in left, identifier
    partition = f"events_{party.tenant_id.hex}"
    assert troupe.sql("SELECT FROM pg_class WHERE starts_with(relname, $1)", partition) == []
    assert of_others(troupe, other) == before
    assert '"tenant_erased"' in troupe.process.text()
