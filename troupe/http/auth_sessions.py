"""The routes about sessions: one's own, and what a provider says about them.

One's own sessions are listed and ended under a session only. A token is not the person at the
browser: it outlives the session that made it, and one that could end sessions could lock its owner
out.

The back-channel logout is called by identity providers, without any browser. It answers 200 when it
has obeyed and 400 when the token does not hold; what was wrong is said, because whoever sets up a
provider reads it there.
"""

from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, ConfigDict, Field
from werkzeug.exceptions import BadRequest

from troupe.actors.auth import sessions
from troupe.actors.auth.backchannel import BackchannelLogouts
from troupe.actors.auth.errors import TokenInvalid
from troupe.actors.auth.signed_token import MAX_TOKEN_BYTES
from troupe.common.database import Database
from troupe.common.errors import Forbidden
from troupe.http.conventions import (
    AnswerModel,
    BodyModel,
    ListAnswer,
    PageQuery,
    decode_cursor,
    encode_cursor,
)
from troupe.http.credentials import CookiePolicy
from troupe.http.declaration import Answer
from troupe.http.principal import Access, Principal
from troupe.http.request import current_request
from troupe.http.routes import Api


class SessionAnswer(AnswerModel):
    """A browser that is logged in."""

    session_id: UUID
    is_current: bool
    """Whether this request comes with it."""
    created_at: AwareDatetime
    last_seen_at: AwareDatetime
    """To the minute."""
    expires_at: AwareDatetime
    """If it is not used any more."""
    user_agent: str
    """What the browser called itself when it logged in; not proven."""
    address: str
    """Where it was then."""


class EndedAnswer(AnswerModel):
    """How many sessions were ended."""

    ended: int


class BackchannelForm(BodyModel):
    """What an identity provider sends; fields of its own are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    logout_token: Annotated[str, Field(min_length=1, max_length=MAX_TOKEN_BYTES)]
    """Signed by the provider."""


def declare_sessions(
    api: Api, database: Database, logouts: BackchannelLogouts, cookies: CookiePolicy
) -> None:
    """Declare the routes.

    Args:
        api: Of the auth group.
        database: The group's pool.
        logouts: Obeys logout tokens.
        cookies: Which cookie is the session's.
    """
    _declare_own(api, database, cookies)
    _declare_backchannel(api, logouts)


def _declare_own(api: Api, database: Database, cookies: CookiePolicy) -> None:
    def cookie_of(principal: Principal) -> str:
        if principal.kind != "session":
            raise Forbidden("Sessions belong to a person at a browser; sign in to see them.")
        return current_request().cookies[cookies.session]

    @api.get(
        "/api/v1/sessions",
        requires=Access.SIGNED_IN,
        query=PageQuery,
        answers={200: ListAnswer[SessionAnswer]},
        summary="Where the caller is logged in, newest first",
        tag="sessions",
    )
    async def list_sessions(*, principal: Principal, query: PageQuery) -> ListAnswer[SessionAnswer]:
        before = decode_cursor(query.cursor, "sessions", (UUID,))[0] if query.cursor else None
        page, total = await sessions.list_sessions(
            database,
            cookie_of(principal),
            before=before if isinstance(before, UUID) else None,
            limit=query.limit + 1,
        )
        rows = [
            SessionAnswer.model_validate(one, from_attributes=True) for one in page[: query.limit]
        ]
        more = len(page) > query.limit
        return ListAnswer[SessionAnswer](
            data=rows,
            next_cursor=encode_cursor("sessions", [rows[-1].session_id]) if more else None,
            total=total,
        )

    @api.delete(
        "/api/v1/sessions",
        requires=Access.SIGNED_IN,
        answers={200: EndedAnswer},
        summary="Log out everywhere else",
        tag="sessions",
    )
    async def end_other_sessions(*, principal: Principal) -> EndedAnswer:
        """They stop working everywhere within two seconds; this session goes on."""
        return EndedAnswer(ended=await sessions.end_other_sessions(database, cookie_of(principal)))

    @api.delete(
        "/api/v1/sessions/<uuid:session_id>",
        requires=Access.SIGNED_IN,
        answers={204: None},
        problems=(404,),
        summary="Log out somewhere",
        tag="sessions",
    )
    async def end_session(*, principal: Principal, session_id: UUID) -> Answer:
        """It stops working everywhere within two seconds. It may be the caller's present one."""
        await sessions.end_session_of_own(database, cookie_of(principal), session_id)
        return Answer(None, 204)


def _declare_backchannel(api: Api, logouts: BackchannelLogouts) -> None:
    @api.post(
        "/api/v1/backchannel-logout",
        requires=Access.PUBLIC,
        body=BackchannelForm,
        form=True,
        answers={200: None},
        problems=(400, 502, 503),
        summary="An identity provider says that somebody has logged out there",
        tag="login",
    )
    async def backchannel_logout(*, body: BackchannelForm) -> Answer:
        """OpenID Connect Back-Channel Logout 1.0; a token is obeyed once."""
        try:
            await logouts.obey(body.logout_token)
        except TokenInvalid as error:
            raise BadRequest(str(error)) from None
        return Answer(None, 200)
