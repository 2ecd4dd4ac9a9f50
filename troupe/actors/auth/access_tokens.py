"""Troupe's own tokens for programs: ``trp_`` + 32 random bytes + a checksum, in base62.

The prefix lets secret scanners find a leaked token, the checksum lets them (and us) tell a token
from a look-alike without asking the database: of random guesses one in four billion gets that far.
Stored is the SHA-256 alone; the token is shown once, when it is made.

A token reaches one tenant. One that a person made never does more than that person may do now, and
ends with the membership; the operator's own stand for themselves.
"""

import re
import secrets
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from troupe.actors.auth.audit import OPERATOR, QUERIES, Actor, append
from troupe.actors.auth.login_secrets import RANDOM_BYTES, hash_of
from troupe.actors.auth.members import Role
from troupe.common.database import Database
from troupe.common.errors import Conflict, InvalidInput, NotFound
from troupe.common.ids import TenantId, new_id
from troupe.common.units import DAYS, HOURS

if TYPE_CHECKING:
    import asyncpg

PREFIX: Final = "trp_"
EVERY_SCOPE: Final = "*"
SCOPES: Final = (
    EVERY_SCOPE,
    *(f"{group}:{kind}" for group in ("auth", "data", "analytics") for kind in ("read", "write")),
)
"""What a token may be narrowed to: ``<group>:read``, ``<group>:write``, or everything."""

MIN_LIFETIME: Final = 1 * HOURS
MAX_LIFETIME: Final = 3660 * DAYS
MAX_TOKENS_PER_CREATOR: Final = 100
_MAX_NAME: Final = 100
_HINT_CHARACTERS: Final = 9

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_DIGITS: Final = 43  # 62^43 > 2^256
_CHECKSUM_DIGITS: Final = 6  # 62^6 > 2^32
_FORM: Final = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_RANDOM_DIGITS + _CHECKSUM_DIGITS}}}")


def _base62(number: int, digits: int) -> str:
    text = ""
    for _ in range(digits):
        number, digit = divmod(number, len(_DIGITS))
        text = _DIGITS[digit] + text
    return text


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_DIGITS)


def new_token() -> str:
    """A fresh token."""
    number = int.from_bytes(secrets.token_bytes(RANDOM_BYTES), "big")
    body = PREFIX + _base62(number, _RANDOM_DIGITS)
    return body + _checksum(body)


def is_token(text: str) -> bool:
    """Whether a text has the form and the checksum of a token."""
    if not _FORM.fullmatch(text):
        return False
    return _checksum(text[:-_CHECKSUM_DIGITS]) == text[-_CHECKSUM_DIGITS:]


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token at the one moment at which it can be seen.

    Attributes:
        token: The secret; show it to whom it is for and forget it.
    """

    token_id: UUID
    token: str = field(repr=False)
    hint: str
    name: str
    role: Role
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token as it is listed.

    Attributes:
        hint: Its first characters.
        created_by: The person who made it; None for the operator.
        last_used_at: To the minute.
    """

    token_id: UUID
    hint: str
    name: str
    role: Role
    scopes: tuple[str, ...]
    created_by: UUID | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class ResolvedToken:
    """Whom a presented token stands for, now.

    Attributes:
        role: The lesser of the token's and its creator's.
    """

    token_id: UUID
    tenant_id: TenantId
    tenant_name: str
    created_by: UUID | None
    name: str
    role: Role
    scopes: frozenset[str]
    expires_at: datetime | None


async def issue_token(
    database: Database,
    tenant: TenantId,
    *,
    name: str,
    role: Role,
    scopes: Sequence[str] = (EVERY_SCOPE,),
    lifetime: float | None = None,
    created_by: UUID | None = None,
    actor: Actor = OPERATOR,
) -> IssuedToken:
    """Make a token.

    Args:
        database: Where.
        tenant: That it reaches.
        name: What it is for.
        role: The most that it may do; who may give which role is for the caller to check.
        scopes: See `SCOPES`.
        lifetime: Seconds; None for a token that does not expire.
        created_by: The person whose token it is; None for the operator.
        actor: For the audit log.

    Raises:
        InvalidInput: A field is not valid.
        Conflict: The person has too many tokens.
    """
    _check(name, scopes, lifetime)
    token, token_id = new_token(), new_id()
    hint = token[:_HINT_CHARACTERS]
    expires = None if lifetime is None else datetime.now(UTC) + timedelta(seconds=lifetime)

    async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> datetime:
        if created_by is not None:
            present: int = await connection.fetchval(QUERIES["count_tokens"], tenant, created_by)
            if present >= MAX_TOKENS_PER_CREATOR:
                raise Conflict(f"There are {present} tokens already; revoke some first.")
        created: datetime = await connection.fetchval(
            QUERIES["create_token"],
            tenant,
            token_id,
            hash_of(token),
            hint,
            name,
            role,
            list(scopes),
            created_by,
            expires,
        )
        detail = {"name": name, "role": role, "scopes": list(scopes)}
        await append(connection, actor, "token.created", str(token_id), detail)
        return created

    created = await database.run(unit, tenant=tenant)
    return IssuedToken(token_id, token, hint, name, role, tuple(scopes), created, expires)


def _check(name: str, scopes: Sequence[str], lifetime: float | None) -> None:
    problems = []
    if not 1 <= len(name) <= _MAX_NAME or not name.isprintable():
        problems.append(("/name", f"must have 1 to {_MAX_NAME} characters"))
    if not scopes or not set(scopes) <= set(SCOPES) or len(set(scopes)) != len(scopes):
        problems.append(("/scopes", f"must be of {', '.join(SCOPES)}"))
    if lifetime is not None and not MIN_LIFETIME <= lifetime <= MAX_LIFETIME:
        problems.append(("/expires_at", "must be between an hour and ten years from now"))
    if problems:
        raise InvalidInput("The token is not valid.", problems)


async def list_tokens(
    database: Database,
    tenant: TenantId,
    *,
    created_by: UUID | None,
    after: UUID | None,
    limit: int,
) -> tuple[list[AccessToken], int]:
    """One page of the good tokens, oldest first, and the number of all.

    Args:
        database: Where.
        tenant: That they reach.
        created_by: Only this person's; None for everybody's.
        after: The last one of the page before; None for the first page.
        limit: How many at most.
    """

    async def unit(
        connection: "asyncpg.Connection[asyncpg.Record]",
    ) -> tuple[list[AccessToken], int]:
        rows = await connection.fetch(QUERIES["tokens"], tenant, created_by, after, limit)
        total: int = await connection.fetchval(QUERIES["count_tokens"], tenant, created_by)
        tokens = [
            AccessToken(**dict(row.items()) | {"scopes": tuple(row["scopes"])}) for row in rows
        ]
        return tokens, total

    return await database.run(unit, tenant=tenant, read_only=True)


async def revoke_token(
    database: Database, tenant: TenantId, token: UUID, *, created_by: UUID | None, actor: Actor
) -> None:
    """End a token.

    Args:
        database: Where.
        tenant: That it reaches.
        token: Which.
        created_by: Only if it is this person's; None for anybody's.
        actor: For the audit log.

    Raises:
        NotFound: There is no such good token.
    """

    async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        revoked = await connection.fetchval(QUERIES["revoke_token"], tenant, token, created_by)
        if revoked is None:
            raise NotFound("There is no such token.")
        await append(connection, actor, "token.revoked", str(token))

    await database.run(unit, tenant=tenant)


async def resolve_token(database: Database, token: str) -> ResolvedToken | None:
    """Whom a token stands for; None when it is unknown, expired, revoked or its tenant is gone.

    One round trip, none at all for what is no token.
    """
    if not is_token(token):
        return None
    row = await database.fetch_row(QUERIES["resolve_token"], hash_of(token), durable=False)
    if row is None:
        return None
    return ResolvedToken(**dict(row.items()) | {"scopes": frozenset(row["scopes"])})
