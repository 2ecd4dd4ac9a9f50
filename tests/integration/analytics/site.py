"""The analytics group's application over a real database, for people who are named by a token."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID, uuid4

from troupe.actors.analytics.answers import Answers
from troupe.actors.analytics.keeping import AnswerCache
from troupe.actors.analytics.standing import Standing
from troupe.common.ids import TenantId
from troupe.common.units import MiB
from troupe.http import analytics
from troupe.http.answering import Answering
from troupe.http.application import Application, create_app
from troupe.http.dashboard import pages
from troupe.http.principal import SESSION_COOKIE, Principal, Role

NOON = datetime(2026, 3, 31, 14, 0, tzinfo=UTC)
"""16:00 on the same day in Berlin, 01:00 on 1 April on Lord Howe."""


class Shop(Protocol):
    """A tenant that can be named by a token."""

    name: str
    tenant: TenantId


@dataclass
class Staff:
    """Everybody's token and session is the name of their shop."""

    shops: dict[str, Shop]

    async def resolve(
        self, bearer: str | None, session_cookie: str | None, requested_tenant: UUID | None
    ) -> Principal | None:
        shop = self.shops.get(bearer or session_cookie or "")
        if shop is None or requested_tenant not in {None, shop.tenant}:
            return None
        return Principal(
            kind="session" if session_cookie else "token",
            subject_id=uuid4(),
            tenant_id=shop.tenant,
            role=Role.VIEWER,
            scopes=frozenset({"analytics:read"}),
            name="Ada <Lovelace>",
            csrf_token="a-csrf-token" if session_cookie else None,
        )


@dataclass
class Reply:
    status: int
    headers: Any
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Site:
    """The application, and the instant that it takes for the present."""

    app: Application
    answering: Answering
    now: datetime = field(default=NOON)

    async def get(self, path: str, shop: str | None, **headers: str) -> Reply:
        """A program's request, as whoever has this token."""
        if shop is not None:
            headers["Authorization"] = f"Bearer {shop}"
        return await self._open(path, headers)

    async def visit(self, path: str, shop: str | None, **headers: str) -> Reply:
        """A browser's request, in this shop's session."""
        headers.setdefault("Accept", "text/html")
        if shop is not None:
            headers["Cookie"] = f"{SESSION_COOKIE}={shop}"
        return await self._open(path, headers)

    async def _open(self, path: str, headers: dict[str, str]) -> Reply:
        client: Any = self.app.test_client()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = await client.get(path, headers=named)
        return Reply(response.status_code, response.headers, (await response.get_data()).decode())


def make_site(answers: Answers, shops: Sequence[Shop], *, max_age: float = 0) -> Site:
    app = create_app("analytics", resolver=Staff({shop.name: shop for shop in shops}))
    cache = AnswerCache(8 * MiB)
    # By default looks every time: what a test changes behind everybody's back is seen at once.
    standing = Standing(answers.reporting, cache.drop, max_age=max_age)
    answering = Answering(answers, cache=cache, standing=standing, clock=lambda: site.now)
    site = Site(app, answering)
    analytics.declare(app.api, answering)
    addresses = pages.Addresses("https://auth.example", "https://board.example")
    pages.declare(app, answering, addresses, lambda: site.now)
    return site
