"""The provider's tokens that are kept with a session, sealed in its row.

The ID token is a hint for the logout at the provider; the refresh token asks whether it still
stands by the login. The access token is not kept: nothing here needs it.
"""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from uuid import UUID

from troupe.actors.auth.relying_party import Refreshed
from troupe.common.database import Database
from troupe.common.ids import TenantId
from troupe.common.secrets import Place, Vault
from troupe.common.units import KiB

if TYPE_CHECKING:
    import asyncpg

MAX_REFRESH_TOKEN: Final = 16 * KiB


def tokens_place(session: UUID) -> Place:
    """Where a session's tokens are sealed for."""
    return Place("auth.login_sessions", "provider_tokens", str(session))


@dataclass(frozen=True, slots=True)
class SessionTokens:
    """Both tokens.

    Attributes:
        id_token: As it came last.
        refresh_token: The one that is good now; a token beyond all measure is not kept.
    """

    id_token: str | None = field(repr=False, default=None)
    refresh_token: str | None = field(repr=False, default=None)

    def __post_init__(self) -> None:
        if self.refresh_token is not None and len(self.refresh_token) > MAX_REFRESH_TOKEN:
            object.__setattr__(self, "refresh_token", None)

    def succeeded_by(self, given: Refreshed) -> "SessionTokens":
        """The tokens after a refresh: what was given, and the old ones where nothing was."""
        return SessionTokens(
            given.id_token or self.id_token, given.refresh_token or self.refresh_token
        )

    async def sealed(
        self,
        connection: "asyncpg.Connection[asyncpg.Record]",
        vault: Vault,
        tenant: TenantId,
        session: UUID,
    ) -> bytes:
        """Both, for the session's row; within a unit of work of the tenant."""
        tokens = {"id_token": self.id_token, "refresh_token": self.refresh_token}
        plain = json.dumps(tokens).encode()
        return await vault.seal(connection, tenant, tokens_place(session), plain)

    @classmethod
    async def opened(
        cls,
        database: Database,
        vault: Vault,
        tenant: TenantId,
        session: UUID,
        sealed: bytes | None,
    ) -> "SessionTokens":
        """What lies in a session's row.

        Raises:
            UnreadableSecret: It does not open.
        """
        if not sealed:
            return cls()

        async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> bytes:
            return await vault.unseal(connection, tenant, tokens_place(session), sealed)

        tokens = json.loads(await database.run(unit, tenant=tenant, read_only=True))
        return cls(tokens.get("id_token"), tokens.get("refresh_token"))
