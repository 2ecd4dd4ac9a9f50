"""People, tokens and an application for the tests of the HTTP layer."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from troupe.common.errors import Conflict, Forbidden, InvalidInput
from troupe.common.ids import TenantId
from troupe.http.application import Application, HttpSettings, create_app
from troupe.http.idempotency import Claim, KeptAnswer
from troupe.http.principal import Principal, Role

HERE = TenantId(uuid4())
ELSEWHERE = TenantId(uuid4())
CSRF = "csrf-of-the-session"


@dataclass
class KnownPeople:
    """Resolves ``<role>`` or ``<role>+<scope>`` as a token, and as a session's cookie."""

    people: dict[str, UUID] = field(default_factory=dict)
    asked: list[tuple[str | None, str | None, UUID | None]] = field(default_factory=list)
    forbids_other_tenants: bool = True

    async def resolve(
        self, bearer: str | None, session_cookie: str | None, requested_tenant: UUID | None
    ) -> Principal | None:
        self.asked.append((bearer, session_cookie, requested_tenant))
        name, _, scope = (bearer or session_cookie or "").partition("+")
        try:
            role = Role.named(name)
        except ValueError:
            return None
        if self.forbids_other_tenants and requested_tenant not in {None, HERE}:
            raise Forbidden("You do not belong to that tenant.")
        return Principal(
            kind="session" if session_cookie else "token",
            subject_id=self.people.setdefault(name, uuid4()),
            tenant_id=HERE,
            role=role,
            scopes=frozenset({scope or "*"}),
            name=name,
            csrf_token=CSRF if session_cookie else None,
        )


@dataclass
class KeptInMemory:
    """An idempotency store with the contract of the real one."""

    answers: dict[tuple[UUID, str, str], tuple[bytes, KeptAnswer | None]] = field(
        default_factory=dict
    )

    async def begin(
        self, tenant: TenantId, key: str, route: str, request_sha256: bytes
    ) -> Claim | KeptAnswer:
        known = self.answers.get((tenant, key, route))
        if known is None:
            self.answers[(tenant, key, route)] = (request_sha256, None)
            return Claim(tenant, key, route, datetime.now(UTC))
        digest, answer = known
        if digest != request_sha256:
            raise InvalidInput("This idempotency key was used for another request.")
        if answer is None:
            raise Conflict("A request with this idempotency key is still running.")
        return answer

    async def complete(self, claim: Claim, status: int, body: bytes) -> None:
        place = (claim.tenant, claim.key, claim.route)
        self.answers[place] = (self.answers[place][0], KeptAnswer(status, body))

    async def abandon(self, claim: Claim) -> None:
        self.answers.pop((claim.tenant, claim.key, claim.route), None)


def make_app(**settings: Any) -> Application:
    return create_app(
        "data",
        resolver=KnownPeople(),
        settings=HttpSettings(**settings),
        idempotency=KeptInMemory(),
        description="For tests.",
    )


def bearer(name: str, **headers: str) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {name}",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
