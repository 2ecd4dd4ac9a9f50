"""A person logs in and out: from the link to the session, and back.

1. `begin` notes the login under the hash of a fresh state and sends the browser to the provider.
2. The person proves who they are there; the browser comes back with a code.
3. `finish` takes the state (once; whatever the outcome), checks that the answer is from that
   provider, redeems the code, and makes a session if the tenant knows the person or lets them join.
   The session's secret is new each time, and the browser's old session ends in the same
   transaction, so nobody can prepare a session for somebody else.

No connection is held while the provider is asked: each step is a short transaction of its own, and
a process that dies between them leaves at most a login that expires.
"""

import re
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid5

from troupe.actors.auth.audit import QUERIES, Actor, append
from troupe.actors.auth.errors import (
    LoginDenied,
    LoginExpired,
    NotAMember,
    ProviderMisbehaved,
    ProviderUnavailable,
)
from troupe.actors.auth.invitations import accept, waiting_for
from troupe.actors.auth.login_secrets import (
    RANDOM_BYTES,
    LoginSecrets,
    hash_of,
    is_handle,
    new_handle,
)
from troupe.actors.auth.providers import IdentityProvider, load_provider
from troupe.actors.auth.refreshes import RefreshSettings
from troupe.actors.auth.relying_party import Identity, RelyingParty
from troupe.actors.auth.session_tokens import SessionTokens
from troupe.actors.auth.sessions import SESSION_QUERIES
from troupe.common.database import Database
from troupe.common.errors import NotFound, PeerError
from troupe.common.ids import TenantId, new_id
from troupe.common.logs import get_logger
from troupe.common.secrets import UnreadableSecret, Vault
from troupe.common.units import DAYS, HOURS, MINUTES, KiB

if TYPE_CHECKING:
    import asyncpg

MAX_CODE: Final = 4 * KiB
_MAX_USER_AGENT: Final = 200
_ERROR_CODE: Final = re.compile(r"[a-z_]{1,64}")
_LATER: Final = frozenset({"temporarily_unavailable", "server_error"})
_logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LoginSettings:
    """Addresses and limits. Durations are in seconds.

    Attributes:
        callback_url: Where providers send browsers back; registered with each of them.
        home_url: Where they may send a browser after a logout; registered likewise.
        state_lifetime: How long a person has at the provider.
        session_idle: Without a request for this long, a session ends.
        session_absolute: So long after the login it ends in any case.
        refresh: When the provider is asked whether it still stands by the login.
    """

    callback_url: str
    home_url: str
    state_lifetime: float = 10 * MINUTES
    session_idle: float = 12 * HOURS
    session_absolute: float = 7 * DAYS
    refresh: RefreshSettings = field(default_factory=RefreshSettings)


@dataclass(frozen=True, slots=True)
class LoginChoice:
    """One button of the login page."""

    provider_id: UUID
    tenant_id: TenantId
    tenant_name: str
    label: str


@dataclass(frozen=True, slots=True)
class LoginBegun:
    """Where to send the browser, and what to put into its binding cookie."""

    url: str
    binding: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """What the browser brought back in the address."""

    state: str | None = field(repr=False)
    code: str | None = field(repr=False)
    issuer: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Whence:
    """Where a login comes from, so that its person recognises the session in a list.

    Attributes:
        user_agent: What the browser calls itself.
        address: IP address.
    """

    user_agent: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class LoginFinished:
    """The session's secret, for the cookie, and where the person wanted to go."""

    session: str = field(repr=False)
    next_url: str


@dataclass(frozen=True, slots=True)
class LogoutBegun:
    """Where to send the browser so that it is logged out at the provider too.

    Attributes:
        state: Comes back with the browser, if the provider plays by the rules.
    """

    url: str
    state: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Begun:
    tenant: TenantId
    provider: UUID
    salt: bytes
    next_url: str


class Logins:
    """Logins of all tenants.

    Args:
        database: The group's pool.
        vault: Opens client secrets, seals provider tokens.
        relying_party: Talks to providers.
        settings: Addresses and limits.
    """

    def __init__(
        self,
        database: Database,
        vault: Vault,
        relying_party: RelyingParty,
        settings: LoginSettings,
    ) -> None:
        self._database = database
        self._vault = vault
        self._relying_party = relying_party
        self.settings = settings

    async def choices(self, tenant: UUID | None) -> list[LoginChoice]:
        """What the login page offers: of one tenant, or (None) what is listed publicly."""
        rows = await self._database.fetch(QUERIES["login_choices"], tenant, read_only=True)
        return [LoginChoice(**dict(row.items())) for row in rows]

    async def begin(self, provider_id: UUID, *, next_url: str, binding: str | None) -> LoginBegun:
        """Start a login.

        Args:
            provider_id: Where.
            next_url: Where the person wants to go afterwards; checked by the caller.
            binding: From the browser's cookie, if it has one.

        Raises:
            NotFound: There is no such provider.
            PeerError: It cannot be reached.
        """
        tenant: TenantId | None = await self._database.fetch_value(
            QUERIES["tenant_of_provider"], provider_id, read_only=True
        )
        if tenant is None:
            raise NotFound("There is no such identity provider.")
        provider = await load_provider(self._database, self._vault, tenant, provider_id)
        if binding is None or not is_handle(binding):
            binding = new_handle()
        state, salt = new_handle(), secrets.token_bytes(RANDOM_BYTES)
        url = await self._relying_party.authorization_url(
            provider.client,
            redirect_uri=self.settings.callback_url,
            state=state,
            login=LoginSecrets.derive(binding, salt),
        )
        await self._database.execute(
            QUERIES["begin_login"],
            hash_of(state),
            hash_of(binding),
            salt,
            provider_id,
            next_url,
            timedelta(seconds=self.settings.state_lifetime),
            tenant=tenant,
        )
        return LoginBegun(url, binding)

    async def finish(
        self,
        answer: ProviderAnswer,
        *,
        binding: str | None,
        replaced_session: str | None,
        whence: Whence = Whence(),  # immutable
    ) -> LoginFinished:
        """End a login with a session.

        Args:
            answer: What the browser brought.
            binding: From its cookie.
            replaced_session: The session that the browser has now, if any; it ends.
            whence: For the list of sessions.

        Raises:
            LoginExpired: Unknown, used, late, or another browser's.
            LoginDenied: The person cancelled, or the provider refused them.
            NotAMember: The tenant does not know them and does not let them join.
            PeerError: The provider does not answer, or its answer does not hold.
        """
        begun = await self._take(answer.state, binding)
        provider = await load_provider(self._database, self._vault, begun.tenant, begun.provider)
        await self._relying_party.check_answer(provider.client, answer.issuer)
        if answer.error is not None:
            raise _refusal(answer.error)
        if not answer.code or len(answer.code) > MAX_CODE:
            raise ProviderMisbehaved("The identity provider sent no code.")
        identity = await self._relying_party.redeem(
            provider.client,
            code=answer.code,
            redirect_uri=self.settings.callback_url,
            login=LoginSecrets.derive(binding or "", begun.salt),
        )
        session = await self._make_session(provider, identity, replaced_session, whence)
        if session is None:
            raise NotAMember(
                "You are known to your identity provider, but not a member here. "
                "Ask an administrator of your company to add you."
            )
        return LoginFinished(session, begun.next_url)

    async def end(self, session: str) -> LogoutBegun | None:
        """End a session; where to log out at the provider too, if that can be.

        The session is over whatever becomes of the provider.
        """
        if not is_handle(session):
            return None
        row = await self._database.fetch_row(QUERIES["end_session"], hash_of(session))
        if row is None:
            return None
        tenant: TenantId = row["provider_tenant_id"]
        try:
            provider = await load_provider(self._database, self._vault, tenant, row["provider_id"])
            tokens = await SessionTokens.opened(
                self._database, self._vault, tenant, row["session_id"], row["provider_tokens"]
            )
            state = new_handle()
            url = await self._relying_party.logout_url(
                provider.client,
                token=tokens.id_token,
                return_to=self.settings.home_url,
                state=state,
            )
        except (NotFound, PeerError, UnreadableSecret) as error:
            _logger.warning("provider_logout_left_out", reason=str(error), tenant_id=str(tenant))
            return None
        return None if url is None else LogoutBegun(url, state)

    async def _take(self, state: str | None, binding: str | None) -> _Begun:
        if state is None or not is_handle(state):
            raise LoginExpired("This address does not belong to a login.")
        row = await self._database.fetch_row(
            QUERIES["take_login_state"], hash_of(state), hash_of(binding or "")
        )
        outcome = "unknown" if row is None else row["outcome"]
        if row is None or outcome != "taken":
            raise LoginExpired(
                {
                    "unknown": "This login was completed before, or never begun.",
                    "expired": "This login took too long.",
                    "foreign": "This login was begun in another browser.",
                }[outcome]
            )
        return _Begun(row["provider_tenant_id"], row["provider_id"], row["salt"], row["next_url"])

    async def _make_session(
        self,
        provider: IdentityProvider,
        identity: Identity,
        replaced: str | None,
        whence: Whence,
    ) -> str | None:
        """A session's secret; None when the person is not a member and may not join."""
        session, session_id, tenant = new_handle(), new_id(), provider.tenant_id
        tokens = SessionTokens(identity.id_token, identity.refresh_token)
        refresh = self.settings.refresh
        asked_again = tokens.refresh_token is not None and refresh.confirm > 0

        async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
            waiting = await waiting_for(connection, tenant, provider.provider_id, identity)
            sealed = await tokens.sealed(connection, self._vault, tenant, session_id)
            row = await connection.fetchrow(
                SESSION_QUERIES["open_session"],
                provider.provider_id,
                identity.subject,
                identity.email or None,
                identity.email_verified,
                identity.name,
                provider.role_for(identity) if waiting is None else waiting.role,
                new_id(),
                session_id,
                hash_of(session),
                hash_of(replaced) if replaced is not None else None,
                sealed,
                timedelta(seconds=self.settings.session_idle),
                timedelta(seconds=self.settings.session_absolute),
                identity.sid,
                _printable(whence.user_agent)[:_MAX_USER_AGENT],
                whence.address[:64],
                refresh.next_due() if asked_again else None,
                refresh.holds,
            )
            if row is None:
                detail = {"provider_id": str(provider.provider_id), "reason": "not a member"}
                who = _pseudonym(provider, identity)
                await append(connection, Actor("system"), "session.refused", who, detail)
            elif waiting is not None:
                await accept(connection, tenant, waiting, row["user_id"], row["role"])
            return row is not None

        return session if await self._database.run(unit, tenant=tenant) else None


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())


def _refusal(error: str) -> LoginDenied | ProviderUnavailable | ProviderMisbehaved:
    """The provider's error code as ours; only codes of the expected form are repeated."""
    if error == "access_denied":
        return LoginDenied("The login was cancelled, or your identity provider did not allow it.")
    if error in _LATER:
        return ProviderUnavailable("The identity provider cannot log anybody in at the moment.")
    shown = error if _ERROR_CODE.fullmatch(error) else "unknown"
    return ProviderMisbehaved(f"The identity provider refused the login ({shown}).")


def _pseudonym(provider: IdentityProvider, identity: Identity) -> str:
    """Stands for somebody who was not let in: the same each time, and nobody's name."""
    return str(uuid5(provider.provider_id, identity.subject))
