"""The routes of tasks and timelines over a real database, for people who are named by a token."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from tests.integration.analytics.page import Page
from troupe.actors.analytics.alerts import Alerts
from troupe.actors.analytics.answers import Answers
from troupe.actors.analytics.keeping import AnswerCache
from troupe.actors.analytics.reports.store import ReportStore
from troupe.actors.analytics.standing import Standing
from troupe.actors.analytics.tasks import Tasks
from troupe.actors.analytics.timelines import Timelines
from troupe.common.database import Database
from troupe.common.ids import TenantId
from troupe.common.secrets import KeyRing, Vault, new_key
from troupe.common.units import MiB
from troupe.http import analytics, exports, history, performance, tasks
from troupe.http.answering import Answering
from troupe.http.application import Application, create_app
from troupe.http.dashboard import pages
from troupe.http.principal import Principal, Role

ADA = UUID(int=1)
NOW = datetime(2026, 10, 28, 12, tzinfo=UTC)


class Tokens:
    """Bearer tokens that are a role and a tenant."""

    async def resolve(
        self, bearer: str | None, session_cookie: str | None, requested_tenant: UUID | None
    ) -> Principal | None:
        del session_cookie, requested_tenant
        if bearer is None:
            return None
        role, tenant = bearer.split(".")
        return Principal(
            kind="token",
            subject_id=ADA,
            tenant_id=TenantId(UUID(tenant)),
            role=Role.named(role),
            scopes=frozenset({"*"}),
            name="Ada",
        )


@dataclass
class Reply:
    status: int
    headers: Any
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


@dataclass
class Desk:
    """The application, and the instant that it takes for the present."""

    app: Application
    now: datetime = field(default=NOW)

    async def ask(
        self,
        tenant: TenantId,
        method: str,
        path: str,
        *,
        role: str = "analyst",
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Reply:
        client: Any = self.app.test_client()
        response = await client.open(
            f"/api/v1{path}",
            method=method,
            headers={"Authorization": f"Bearer {role}.{tenant}", **(headers or {})},
            **options,
        )
        return Reply(response.status_code, response.headers, await response.get_data())

    async def visit(self, tenant: TenantId, path: str, *, role: str = "analyst") -> Page:
        """A page as a person of this role sees it, whatever its status."""
        client: Any = self.app.test_client()
        headers = {"Authorization": f"Bearer {role}.{tenant}", "Accept": "text/html"}
        response = await client.get(path, headers=headers)
        return Page((await response.get_data()).decode(), response.status_code)

    async def get(self, tenant: TenantId, path: str, **query: Any) -> Any:
        """The answer's document; anything but 200 fails the test."""
        reply = await self.ask(tenant, "GET", path, query_string=query)
        assert reply.status == 200, reply.raw
        return reply.json

    async def pages(self, tenant: TenantId, path: str, **query: Any) -> list[Any]:
        """The rows of all pages."""
        rows: list[Any] = []
        while True:
            document = await self.get(tenant, path, **query)
            rows += document["data"]
            if document["next_cursor"] is None:
                return rows
            query["cursor"] = document["next_cursor"]


def make_desk(database: Database) -> Desk:
    answers = Answers(database)
    app = create_app("analytics", resolver=Tokens())
    cache = AnswerCache(1 * MiB)
    standing = Standing(answers.reporting, cache.drop, max_age=0)
    answering = Answering(answers, cache=cache, standing=standing, clock=lambda: desk.now)
    desk = Desk(app)
    tasks.declare(app.api, answering, Tasks(database))
    analytics.declare(app.api, answering)
    exports.declare(app.api, answering, Tasks(database))
    performance.declare(app.api, answering)
    history.declare(app.api, answering, Timelines(database))
    addresses = pages.Addresses("https://auth.example", "https://board.example")
    alerts = Alerts(database, Vault(KeyRing([new_key()])))
    pages.declare(
        app, answering, addresses, alerts, ReportStore(answers.database), lambda: desk.now
    )
    return desk
