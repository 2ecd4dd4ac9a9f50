"""The walker of routes finds what is wrong: twins of an application, each with one mistake."""

import json
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.support import roles
from tests.support.roles import Operation, Reply
from tests.unit.http.sites import CSRF, HERE, make_app
from troupe.common.errors import NotFound
from troupe.http.application import Application
from troupe.http.conventions import AnswerModel, BodyModel
from troupe.http.principal import SESSION_COOKIE, Access, Principal, Role
from troupe.http.security import Guard

ELSEWHERE = uuid4()
JOB = uuid4()


class Done(AnswerModel):
    done: bool = True


class Wish(BodyModel):
    text: str


Declare = Callable[[Application], None]


def right(app: Application) -> None:
    @app.api.get("/api/v1/jobs", requires=Role.VIEWER, answers={200: Done}, summary="List")
    async def jobs() -> Done:
        return Done()

    @app.api.post(
        "/api/v1/jobs/<uuid:job_id>/cancel",
        requires=Role.ANALYST,
        body=Wish,
        answers={200: Done},
        summary="Cancel",
    )
    async def cancel(*, job_id: UUID, body: Wish) -> Done:
        raise NotFound(f"There is no {job_id} for {body.text}.")

    @app.api.patch(
        "/api/v1/tenants/<uuid:tenant_id>",
        requires=Role.ADMIN,
        body=Wish,
        answers={200: Done},
        summary="Change",
    )
    async def change(*, principal: Principal, tenant_id: UUID, body: Wish) -> Done:
        if principal.tenant_id != tenant_id:
            raise NotFound(f"There is no such tenant for {body.text}.")
        return Done()

    @app.api.get("/api/v1/me", requires=Access.SIGNED_IN, answers={200: Done}, summary="Me")
    async def me() -> Done:
        return Done()


def too_open(app: Application) -> None:
    @app.api.delete(
        "/api/v1/tenants/<uuid:tenant_id>/members/<uuid:user_id>",
        requires=Role.VIEWER,
        answers={204: None},
        summary="Remove",
    )
    async def remove(*, tenant_id: UUID, user_id: UUID) -> None:
        raise NotFound(f"{tenant_id} {user_id}")


def forgotten(app: Application) -> None:
    @app.api.post("/api/v1/wipe", requires=Access.PUBLIC, answers={200: Done}, summary="Wipe")
    async def wipe() -> Done:
        return Done()


def looks_at_no_tenant(app: Application) -> None:
    @app.api.get(
        "/api/v1/tenants/<uuid:tenant_id>/secrets",
        requires=Role.ADMIN,
        answers={200: Done},
        summary="Secrets",
    )
    async def secrets(*, tenant_id: UUID) -> Done:
        return Done(done=bool(tenant_id))


def crashes(app: Application) -> None:
    @app.api.get("/api/v1/crash", requires=Role.VIEWER, answers={200: Done}, summary="Crash")
    async def crash() -> Done:
        raise ZeroDivisionError


async def walk(app: Application) -> list[str]:
    client: Any = app.test_client()
    document = json.loads(await (await client.get("/openapi.json")).get_data())
    every = list(roles.operations("data", document))

    async def send(operation: Operation, path: str, headers: Mapping[str, str], body: Any) -> Reply:
        sent = {"json": body} if body is not None else {}
        response = await client.open(path, method=operation.method, headers=headers, **sent)
        told = json.loads(await response.get_data() or b"{}")
        return Reply(response.status_code, told.get("detail", ""))

    async def session(role: str) -> Mapping[str, str]:
        return {
            "Cookie": f"{SESSION_COOKIE}={role}",
            "X-CSRF-Token": CSRF,
            "Origin": "http://localhost",
        }

    async def token(role: str, scope: str) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {role}+{scope}"}

    found = roles.declarations(every)
    found += (await roles.matrix(every, send, session, token, {"tenant_id": HERE}))[0]
    others = {"tenant_id": ELSEWHERE, "job_id": JOB}
    found += (await roles.across(every, send, session, {"tenant_id": HERE}, others))[0]
    return found


async def test_it_finds_nothing_where_nothing_is_wrong() -> None:
    app = make_app()
    right(app)
    assert await walk(app) == []


@pytest.mark.parametrize(
    ("twin", "says"),
    [
        (too_open, "requires viewer, must be admin"),
        (forgotten, "requires public, must be analyst"),
        (looks_at_no_tenant, "200 on tenant_id of another tenant"),
        (crashes, "500 as viewer"),
    ],
)
async def test_it_finds_a_wrong_route(twin: Declare, says: str) -> None:
    app = make_app()
    right(app)
    twin(app)
    found = await walk(app)
    assert any(says in sentence for sentence in found), found


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        ("role", "200 as viewer, who may not"),
        ("scope", "200 with the scope auth:read, who may not"),
        ("credentials", "without credentials"),
        ("tenant", "when X-Tenant-Id names another tenant"),
    ],
)
async def test_it_finds_a_server_that_does_not_obey_its_declarations(
    monkeypatch: pytest.MonkeyPatch, mistake: str, says: str
) -> None:
    app = make_app()

    @app.api.get("/api/v1/audit", requires=Role.ADMIN, answers={200: Done}, summary="Log")
    async def log() -> Done:
        return Done()

    obeying = Guard.admit

    async def admit(self: Guard, request: Any, requires: Role | Access, scope: str) -> Principal:
        if mistake == "role":
            return await obeying(self, request, Role.VIEWER, scope)
        if mistake == "tenant":
            headers = dict(request.headers)
            headers.pop("X-Tenant-Id", None)
            request.headers = type(request.headers)(headers)
            return await obeying(self, request, requires, scope)
        if mistake == "credentials" and not request.headers.get("Authorization"):
            request.headers = type(request.headers)({"Authorization": "Bearer owner"})
        if mistake == "scope":
            return await obeying(self, request, requires, "auth:read")
        return await obeying(self, request, requires, scope)

    monkeypatch.setattr(Guard, "admit", admit)
    found = await walk(app)
    assert any(says in sentence for sentence in found), found
