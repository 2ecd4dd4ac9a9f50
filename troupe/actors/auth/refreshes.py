"""Asking providers whether they still stand by our sessions, by redeeming refresh tokens.

The problem. A session outlives the moment at which its provider vouched for the person. Whoever is
locked out there must not stay here for a week. A refresh token asks again without the person; but
most providers *rotate* it: each use gives a successor and voids the token that was used, and a void
one that comes back ends the whole grant, since it may be a thief who brings it. So a token must be
redeemed exactly once, by one process, and its successor must not get lost.

The choice. Sessions are refreshed in the background, never by a request. The row of a session is
the lock: `auth.claim_refreshes` hands a due session to one process for `LEASE` seconds with a
fencing token (`attempt`), and what the provider gave is stored only by whoever still has the claim.
Tokens lie in that row sealed, like every secret.

No protocol makes the provider's answer and our commit one step. A process that is killed between
them loses the successor. The claim notes beforehand that an attempt is *open*; the next one, after
the lease, tries the old token again:

- the provider takes it, because the first request never reached it or because it gives a grace
  period, as most that rotate do: nothing was lost;
- it says ``invalid_grant``. After a *settled* attempt that means that the login is over there, and
  the session ends at once. After an *open* one it can as well be the echo of our own crash, and
  nobody is logged out for that: the session goes on without its refresh token for as long as the
  provider's last word holds (`unconfirmed`), and then the person logs in again, which for somebody
  who is still logged in at the provider is a redirect and no password.

The same bound covers a provider that is away. One that never gave a refresh token cannot be asked,
and its sessions live by their own limits alone.

The cost: one request per session and `confirm` seconds, and a person who is locked out at the
provider stays at most that long. Rejected: refreshing when a request finds the access token expired
(the request waits for the provider; many at once race); advisory locks (they pin a session of the
pool while the provider is asked); ending the session on every ``invalid_grant``.
"""

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

import trio

from troupe.actors.auth.errors import ClientRejected, GrantEnded
from troupe.actors.auth.providers import load_provider
from troupe.actors.auth.relying_party import RelyingParty
from troupe.actors.auth.session_tokens import SessionTokens
from troupe.actors.auth.sessions import SESSION_QUERIES
from troupe.common.database import Database
from troupe.common.errors import DatabaseError, NotFound, PeerError
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger
from troupe.common.secrets import UnreadableSecret, Vault
from troupe.common.units import HOURS, MINUTES, SECONDS
from troupe.platform.supervision import ChildContext

if TYPE_CHECKING:
    import asyncpg

LEASE: Final = 30 * SECONDS
"""Longer than one attempt can take: discovery, keys and the token request have 5 s each."""
ATTEMPT_DEADLINE: Final = 25 * SECONDS
BATCH: Final = 8
POLL: Final = 5 * SECONDS
AGAIN: Final = 2 * MINUTES
"""After an attempt without an answer; a fifth more or less, so that not all come back at once."""
SETTLING: Final = 5 * SECONDS

_logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RefreshSettings:
    """When providers are asked. Durations are in seconds.

    Attributes:
        confirm: After a login or a refresh, the provider is asked again; 0: never.
        unconfirmed: How long its last word holds when it cannot be asked.
    """

    confirm: float = 1 * HOURS
    unconfirmed: float = 8 * HOURS

    def next_due(self) -> timedelta:
        """Until the next time, somewhat early, so that logins of one morning spread out."""
        return timedelta(seconds=self.confirm * random.uniform(0.9, 1.0))  # noqa: S311  # nothing to guess

    @property
    def holds(self) -> timedelta:
        """How long the provider's word holds."""
        return timedelta(seconds=max(self.unconfirmed, self.confirm))


@dataclass(frozen=True, slots=True)
class Claim:
    """One session that this process may refresh, for `LEASE` seconds.

    Attributes:
        attempt: Fencing token.
        was_open: The attempt before this one never said how it ended.
    """

    session: UUID
    tenant: TenantId
    provider: UUID
    subject: str
    attempt: int
    was_open: bool
    sealed: bytes


class Refresher:
    """Refreshes what is due, beside as many others as there are processes.

    Args:
        database: The group's pool.
        vault: Opens and seals tokens.
        relying_party: Talks to providers.
        settings: When.
        lease: Of a claim, in seconds.
        poll: Seconds between two looks when nothing was due.
    """

    def __init__(
        self,
        database: Database,
        vault: Vault,
        relying_party: RelyingParty,
        settings: RefreshSettings,
        *,
        lease: float = LEASE,
        poll: float = POLL,
    ) -> None:
        self._database = database
        self._vault = vault
        self._relying_party = relying_party
        self._settings = settings
        self._lease = lease
        self._poll = poll

    async def run(self, child: ChildContext) -> None:
        """Be an actor: look again and again until asked to stop."""
        child.started()
        while not child.stopping.is_set():
            try:
                refreshed = await self.refresh_due()
            except DatabaseError as error:
                _logger.warning("refresh_claims_failed", reason=str(error))
                refreshed = 0
            if refreshed < BATCH:
                with trio.move_on_after(self._poll):
                    await child.stopping.wait()

    async def refresh_due(self) -> int:
        """Refresh what is due now, at most `BATCH` sessions, all at the same time; how many.

        Raises:
            DatabaseError: Nothing could be claimed.
        """
        rows = await self._database.fetch(
            SESSION_QUERIES["claim_refreshes"], BATCH, timedelta(seconds=self._lease)
        )
        async with trio.open_nursery() as nursery:
            for row in rows:
                claim = Claim(
                    session=row["session_id"],
                    tenant=TenantId(row["provider_tenant_id"]),
                    provider=row["provider_id"],
                    subject=row["subject"],
                    attempt=row["attempt"],
                    was_open=row["was_open"],
                    sealed=row["provider_tokens"] or b"",
                )
                nursery.start_soon(self._refresh, claim)
        return len(rows)

    async def _refresh(self, claim: Claim) -> None:
        """One attempt; whatever is not settled is tried again when the lease is over."""
        try:
            with trio.fail_after(min(ATTEMPT_DEADLINE, self._lease)):
                await self._attempt(claim)
        except (DatabaseError, trio.TooSlowError) as error:
            _logger.warning("refresh_unsettled", reason=str(error) or "too slow", **_about(claim))

    async def _attempt(self, claim: Claim) -> None:
        still_open = claim.was_open
        try:
            there = await load_provider(self._database, self._vault, claim.tenant, claim.provider)
            tokens = await self._open(claim)
            if tokens.refresh_token is None:
                await self._settle(claim, due=None)
                return
            await self._relying_party.metadata(there.client.issuer)
            still_open = True  # from here on the provider may void the token
            given = await self._relying_party.refresh(
                there.client, refresh_token=tokens.refresh_token, subject=claim.subject
            )
        except GrantEnded:
            await self._ended(claim)
        except (NotFound, UnreadableSecret, PeerError) as error:
            if isinstance(error, ClientRejected):
                still_open = claim.was_open  # it did not get as far as the token
            _logger.warning("refresh_failed", reason=str(error), **_about(claim))
            again = AGAIN * random.uniform(0.8, 1.2)  # noqa: S311  # nothing to guess
            await self._settle(claim, still_open=still_open, due=timedelta(seconds=again))
        else:
            # A stop that comes now would lose the successor; what is left takes one transaction.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + SETTLING):
                await self._keep(claim, tokens.succeeded_by(given))

    async def _keep(self, claim: Claim, tokens: SessionTokens) -> None:
        await self._settle(
            claim,
            tokens=tokens,
            due=self._settings.next_due() if tokens.refresh_token is not None else None,
            confirmed=self._settings.holds,
        )

    async def _ended(self, claim: Claim) -> None:
        if claim.was_open:
            _logger.warning("refresh_token_lost", **_about(claim))
            tokens = await self._open(claim)
            await self._settle(claim, tokens=SessionTokens(tokens.id_token), due=None)
            return
        ended = await self._database.fetch_value(
            SESSION_QUERIES["end_refused_session"],
            claim.session,
            claim.attempt,
            tenant=claim.tenant,
        )
        if ended:
            _logger.info("session_refused_by_provider", **_about(claim))

    async def _open(self, claim: Claim) -> SessionTokens:
        return await SessionTokens.opened(
            self._database, self._vault, claim.tenant, claim.session, claim.sealed
        )

    async def _settle(
        self,
        claim: Claim,
        *,
        due: timedelta | None,
        tokens: SessionTokens | None = None,
        still_open: bool = False,
        confirmed: timedelta | None = None,
    ) -> None:
        async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
            sealed = None
            if tokens is not None:
                sealed = await tokens.sealed(connection, self._vault, claim.tenant, claim.session)
            settled: bool = await connection.fetchval(
                SESSION_QUERIES["settle_refresh"],
                claim.session,
                claim.attempt,
                sealed,
                still_open,
                due,
                confirmed,
            )
            return settled

        if not await self._database.run(unit, tenant=claim.tenant):
            # The session ended meanwhile, or this attempt was slower than its lease.
            _logger.info("refresh_claim_lost", **_about(claim))


def _about(claim: Claim) -> dict[str, str]:
    return {"session_id": str(claim.session), "tenant_id": str(claim.tenant)}
