"""The pages about people: members and how they come in, one's own sessions and tokens, the log.

Which of these somebody may see is decided by the same roles as over the API; what somebody may do
is decided there again, whatever the page offers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, cast
from uuid import UUID

from pydantic import Field

from troupe.actors.analytics.answers import Answers
from troupe.actors.auth import (
    access_tokens,
    audit,
    invitations,
    members,
    providers,
    sessions,
)
from troupe.actors.auth.members import ROLES
from troupe.common.database import Database
from troupe.common.ids import TenantId
from troupe.http.auth_models import DEFAULT_TOKEN_DAYS
from troupe.http.auth_providers import provider_tag
from troupe.http.conventions import (
    MAX_CURSOR_CHARACTERS,
    MAX_LIMIT,
    QueryModel,
    decode_cursor,
    encode_cursor,
)
from troupe.http.dashboard.audit_words import tell
from troupe.http.dashboard.browsers import describe_browser
from troupe.http.dashboard.frame import PAGE, Frame
from troupe.http.dashboard.settings_pages import SECTION as SETTINGS
from troupe.http.dashboard.settings_pages import tabs_for
from troupe.http.declaration import Answer
from troupe.http.principal import Principal, Role
from troupe.http.request import current_request
from troupe.http.routes import Api

MEMBERS: Final = "members"
ACCOUNT: Final = "account"
MEMBERS_AT_ONCE: Final = 100
ENTRIES_AT_ONCE: Final = 50
INVITATIONS_SHOWN: Final = 200
SESSIONS_SHOWN: Final = 100
TOKENS_SHOWN: Final = 200

ROLE_WORDS: Final = (
    ("viewer", "Viewer", "Looks at figures, tasks, jobs and settings."),
    ("analyst", "Analyst", "Also works on tasks, loads data, runs and cancels jobs, sees members."),
    (
        "admin",
        "Administrator",
        "Also manages members, settings, connections, alerts and reports, and reads the log.",
    ),
    (
        "owner",
        "Owner",
        "Also makes and unmakes owners, sets up logins, exports and deletes the tenant.",
    ),
)
"""Each role includes those before it."""

SCOPES: Final = (
    ("*", "Everything that the role may do"),
    ("analytics:read", "Read figures, tasks and timelines"),
    ("analytics:write", "Change tasks, alerts and reports"),
    ("data:read", "Read jobs, days and schedules"),
    ("data:write", "Load data, run and cancel jobs"),
    ("auth:read", "Read members and settings"),
    ("auth:write", "Change members, settings and connections"),
)
LIFETIMES: Final = (
    ("30", "30 days"),
    (str(DEFAULT_TOKEN_DAYS), "90 days"),
    ("365", "a year"),
    ("", "never"),
)


class CursorQuery(QueryModel):
    """One page of a list."""

    cursor: Annotated[str | None, Field(max_length=MAX_CURSOR_CHARACTERS)] = None
    """Where it begins."""


class AccountQuery(QueryModel):
    """Whose tokens are listed."""

    everybody: bool = False
    """Of everybody, for administrators; else one's own."""


@dataclass(frozen=True, slots=True)
class RoleChoice:
    """A role that somebody may give away."""

    name: str
    title: str


def roles_up_to(role: Role) -> tuple[RoleChoice, ...]:
    """The roles that somebody with this role may give away."""
    return tuple(
        RoleChoice(name, title) for name, title, _ in ROLE_WORDS if Role.named(name) <= role
    )


def declare(api: Api, frame: Frame, answers: Answers) -> None:
    """Declare the pages.

    Args:
        api: Of the analytics group's application.
        frame: Renders them.
        answers: Over the group's pool.
    """
    _declare_members(api, frame, answers.database)
    _declare_account(api, frame, answers.database)
    _declare_audit(api, frame, answers.database)


def _declare_members(api: Api, frame: Frame, database: Database) -> None:
    @api.get(
        "/members",
        requires=Role.ANALYST,
        query=CursorQuery,
        answers={200: PAGE},
        summary="The page of a tenant's members",
    )
    async def members_page(*, principal: Principal, query: CursorQuery) -> Answer:
        after = None
        if query.cursor:
            (after,) = cast("tuple[UUID]", decode_cursor(query.cursor, MEMBERS, (UUID,)))
        found, total = await members.list_members(
            database, principal.tenant_id, after=after, limit=MEMBERS_AT_ONCE + 1
        )
        page = found[:MEMBERS_AT_ONCE]
        is_admin = principal.role >= Role.ADMIN
        doors = await providers.list_providers(database, principal.tenant_id) if is_admin else []
        waiting: list[invitations.Invitation] = []
        if is_admin:
            waiting, _ = await invitations.list_invitations(
                database, principal.tenant_id, after=None, limit=INVITATIONS_SHOWN
            )
        return await frame.page(
            "members.html",
            section=MEMBERS,
            principal=principal,
            members=page,
            total=total,
            next_cursor=(
                encode_cursor(MEMBERS, [page[-1].user_id]) if len(found) > len(page) else None
            ),
            providers=[(door, provider_tag(door)) for door in doors],
            invitations=waiting,
            may_change=is_admin,
            is_owner=principal.role >= Role.OWNER,
            ranks={name: ROLES.index(name) for name in ROLES},
            rank=ROLES.index(cast("members.Role", principal.role.label)),
            choices=roles_up_to(principal.role),
            role_words=ROLE_WORDS,
        )


def _declare_account(api: Api, frame: Frame, database: Database) -> None:
    @api.get(
        "/account",
        requires=Role.VIEWER,
        query=AccountQuery,
        answers={200: PAGE},
        summary="The page of one's own sessions and tokens",
    )
    async def account_page(*, principal: Principal, query: AccountQuery) -> Answer:
        is_admin = principal.role >= Role.ADMIN
        everybody = query.everybody and is_admin
        own_sessions: list[sessions.ListedSession] = []
        cookie = current_request().cookies.get(api.session_cookie)
        if principal.kind == "session" and cookie:
            own_sessions, _ = await sessions.list_sessions(
                database, cookie, before=None, limit=SESSIONS_SHOWN
            )
        tokens, total = await access_tokens.list_tokens(
            database,
            principal.tenant_id,
            created_by=None if everybody else principal.subject_id,
            after=None,
            limit=TOKENS_SHOWN,
        )
        people = await names_of_people(database, principal.tenant_id) if everybody else {}
        return await frame.page(
            "account.html",
            section=ACCOUNT,
            principal=principal,
            sessions=[(one, describe_browser(one.user_agent)) for one in own_sessions],
            tokens=tokens[::-1],
            tokens_total=total,
            people=people,
            everybody=everybody,
            may_see_all=is_admin,
            choices=roles_up_to(principal.role),
            scopes=SCOPES,
            lifetimes=LIFETIMES,
            default_lifetime=str(DEFAULT_TOKEN_DAYS),
        )


def _declare_audit(api: Api, frame: Frame, database: Database) -> None:
    @api.get(
        "/settings/audit",
        requires=Role.ADMIN,
        query=CursorQuery,
        answers={200: PAGE},
        summary="The page of the audit log",
    )
    async def audit_page(*, principal: Principal, query: CursorQuery) -> Answer:
        tenant = principal.tenant_id
        before = None
        if query.cursor:
            (before,) = cast("tuple[int]", decode_cursor(query.cursor, "audit", (int,)))
        found = await audit.entries(database, tenant, before=before, limit=ENTRIES_AT_ONCE + 1)
        page = found[:ENTRIES_AT_ONCE]
        people = await names_of_people(database, tenant)
        tokens, _ = await access_tokens.list_tokens(
            database, tenant, created_by=None, after=None, limit=MAX_LIMIT
        )
        names = {token.token_id: token.name for token in tokens}
        more = len(found) > len(page)
        return await frame.page(
            "audit.html",
            section=SETTINGS,
            principal=principal,
            tabs=tabs_for(principal.role),
            entries=[tell(entry, people, names) for entry in page],
            broken_at=await audit.broken_entry(database, tenant),
            is_first=before is None,
            next_cursor=encode_cursor("audit", [page[-1].sequence]) if more else None,
        )


async def names_of_people(database: Database, tenant: TenantId) -> Mapping[UUID, str]:
    """What the tenant's members are called, as far as a thousand of them."""
    found, _ = await members.list_members(database, tenant, after=None, limit=MAX_LIMIT)
    return {one.user_id: name_of(one) for one in found}


def name_of(member: members.Member) -> str:
    """What somebody is called: their name, else their address."""
    return member.name or member.email or "somebody without a name"
