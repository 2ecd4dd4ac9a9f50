"""A provider says that somebody has logged out there (OpenID Back-Channel Logout 1.0).

The token names an issuer and one audience. Which of our tenants have that client is asked first, so
that a token from nowhere costs no request to anybody. It is verified under the issuer's keys with
the algorithms that each tenant has pinned, and then obeyed once in every one of those tenants: the
sessions end in the transaction that notes the token, and every process forgets them within two
seconds like any session that has ended.

The relying party should be one of its own: whoever sends tokens with invented key ids uses up the
few extra fetches of keys that an issuer is allowed, and logins must not be short of them.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

from troupe.actors.auth import logout_token
from troupe.actors.auth.errors import TokenInvalid
from troupe.actors.auth.logout_token import Logout
from troupe.actors.auth.relying_party import RelyingParty
from troupe.actors.auth.sessions import SESSION_QUERIES
from troupe.actors.auth.signed_token import LOGOUT_TOKEN, read_header
from troupe.common.database import Database
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger

_REMEMBERED: Final = timedelta(seconds=logout_token.REMEMBERED)
_logger = get_logger(__name__)


class BackchannelLogouts:
    """Obeys logout tokens.

    Args:
        database: The group's pool.
        relying_party: Has the providers' keys.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        relying_party: RelyingParty,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._relying_party = relying_party
        self._now = now

    async def obey(self, token: str) -> int:
        """End the sessions that a logout token means; how many there were.

        Raises:
            TokenInvalid: It does not hold, or was obeyed before.
            PeerError: The issuer's keys cannot be had, so nobody can say; worth another try.
        """
        issuer, client_id = logout_token.sender_of(token)
        rows = await self._database.fetch(
            SESSION_QUERIES["providers_of_client"], issuer, client_id, read_only=True
        )
        algorithm = read_header(token, LOGOUT_TOKEN).algorithm
        there = [row for row in rows if algorithm in row["signing_algorithms"]]
        if not there:
            raise TokenInvalid("The logout token is not from a provider that is set up so.")
        claims = await self._relying_party.verified(
            token, LOGOUT_TOKEN, issuer=issuer, algorithms=frozenset({algorithm})
        )
        logout = logout_token.read(claims, issuer, client_id, self._now())
        ended = [await self._end(row["tenant_id"], row["provider_id"], logout) for row in there]
        if all(number is None for number in ended):
            raise TokenInvalid("The logout token was obeyed before.")
        total = sum(number or 0 for number in ended)
        _logger.info("provider_logged_out", issuer=issuer, sessions=total)
        return total

    async def _end(self, tenant: UUID, provider: UUID, logout: Logout) -> int | None:
        number: int | None = await self._database.fetch_value(
            SESSION_QUERIES["end_sessions_at_provider"],
            provider,
            logout.subject,
            logout.sid,
            logout.token_hash,
            _REMEMBERED,
            tenant=TenantId(tenant),
        )
        return number
