"""Who may call what: every operation of the three documents, as everybody, in the real program."""

import json
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest

from tests.support import roles
from tests.support.program import Program
from tests.support.roles import Operation, Reply

GROUPS = ("auth", "data", "analytics")
WAIT = 60


@pytest.fixture(scope="module")
def operations(troupe: Program) -> list[Operation]:
    found = []
    for group in GROUPS:
        document = httpx2.get(f"{troupe.urls[group]}/openapi.json", timeout=WAIT).json()
        found += roles.operations(group, document)
    return found


def sender(troupe: Program, client: httpx2.AsyncClient) -> roles.Send:
    async def send(operation: Operation, path: str, headers: Mapping[str, str], body: Any) -> Reply:
        content = None if body is None else json.dumps(body).encode()
        typed = {} if body is None else {"Content-Type": "application/json"}
        async with client.stream(
            operation.method,
            f"{troupe.urls[operation.group]}{path}",
            headers={**headers, **typed},
            content=content,
        ) as response:
            if response.status_code < 400:
                return Reply(response.status_code)  # it may be a stream without an end
            problem = json.loads(await response.aread())
            return Reply(response.status_code, problem.get("detail", ""))

    return send


async def test_every_operation_asks_for_what_it_declares(
    troupe: Program, operations: list[Operation]
) -> None:
    async def session(role: str) -> Mapping[str, str]:
        return troupe.session(troupe.here, role)

    async def token(role: str, scope: str) -> Mapping[str, str]:
        return troupe.token(troupe.here, role, scope)

    async with httpx2.AsyncClient(timeout=WAIT) as client:
        found, count = await roles.matrix(
            operations,
            sender(troupe, client),
            session,
            token,
            {"tenant_id": troupe.here.tenant_id},
        )
    assert found == []
    assert count > 300


def test_no_operation_is_declared_too_openly(operations: list[Operation]) -> None:
    assert roles.declarations(operations) == []
    assert len(operations) > 40


async def test_nothing_of_another_tenant_is_seen_or_changed(
    troupe: Program, operations: list[Operation]
) -> None:
    async def session(role: str) -> Mapping[str, str]:
        return troupe.session(troupe.here, role)

    before = troupe.digest(troupe.there)
    others = troupe.values(troupe.there)
    # Proven only for what is there: each kind of thing in a path has one of the other tenant's.
    variables = {name for operation in operations for name in operation.variables}
    assert {
        "tenant_id",
        "job_id",
        "token_id",
        "user_id",
        "invitation_id",
    } <= variables & others.keys()
    async with httpx2.AsyncClient(timeout=WAIT) as client:
        found, count = await roles.across(
            operations,
            sender(troupe, client),
            session,
            {"tenant_id": troupe.here.tenant_id},
            others,
        )
    assert found == []
    assert count > 50
    assert troupe.digest(troupe.there) == before
