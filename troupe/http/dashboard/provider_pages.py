"""The pages on which a tenant sets up where its people log in.

As over the API: administrators may look and try, owners change. The client secret is a field that
is always empty, as with connections. What has to be registered at the provider is named to the
letter, because a callback that is one character off is what most first logins fail of.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from troupe.actors.analytics.answers import Answers
from troupe.actors.auth import providers
from troupe.actors.auth.keys import ALGORITHMS
from troupe.actors.auth.providers import DEFAULT_SCOPES, ListedProvider
from troupe.common.errors import NotFound
from troupe.http.auth_login import Addresses as AuthAddresses
from troupe.http.auth_providers import provider_tag
from troupe.http.dashboard.frame import PAGE, Frame
from troupe.http.dashboard.settings_pages import SECTION, tabs_for
from troupe.http.declaration import Answer
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api

PATH: Final = "/settings/logins"
JOINING: Final = (("viewer", "Viewer"), ("analyst", "Analyst"), ("admin", "Administrator"))
BACKCHANNEL: Final = "/api/v1/backchannel-logout"


@dataclass(frozen=True, slots=True)
class Registered:
    """An address of ours that a provider has to know.

    Attributes:
        id: Of the element that holds it.
        name: What most providers call it.
        address: To be copied.
        needed: Whether no login works without it.
    """

    id: str
    name: str
    address: str
    needed: bool = False


def to_register(auth_url: str) -> tuple[Registered, ...]:
    """What has to be filled in at the provider.

    >>> [one.address for one in to_register("https://login.example")][0]
    'https://login.example/api/v1/callback'
    """
    addresses = AuthAddresses(auth_url, auth_url)
    return (
        Registered("r-callback", "Redirect URI", addresses.callback, needed=True),
        Registered("r-home", "Post-logout redirect URI", addresses.home),
        Registered("r-back", "Back-channel logout URI", f"{auth_url.rstrip('/')}{BACKCHANNEL}"),
    )


def declare(api: Api, frame: Frame, answers: Answers) -> None:
    """Declare the pages.

    Args:
        api: Of the analytics group's application.
        frame: Renders them.
        answers: Over the group's pool.
    """
    database = answers.database

    async def render(principal: Principal, door: ListedProvider | None) -> Answer:
        return await frame.page(
            "provider.html",
            section=SECTION,
            principal=principal,
            tabs=tabs_for(principal.role),
            door=door,
            etag=None if door is None else provider_tag(door),
            may_change=principal.role >= Role.OWNER,
            addresses_of_ours=to_register(frame.addresses.auth),
            joining=JOINING,
            default_scopes=DEFAULT_SCOPES,
            algorithms=sorted(ALGORITHMS),
        )

    @api.get(
        PATH,
        requires=Role.ADMIN,
        answers={200: PAGE},
        summary="The page of where the tenant's people log in",
    )
    async def logins_page(*, principal: Principal) -> Answer:
        return await frame.page(
            "providers.html",
            section=SECTION,
            principal=principal,
            tabs=tabs_for(principal.role),
            doors=await providers.list_providers(database, principal.tenant_id),
            may_change=principal.role >= Role.OWNER,
        )

    @api.get(
        f"{PATH}/new",
        requires=Role.OWNER,
        answers={200: PAGE},
        summary="The page on which a login is set up",
    )
    async def new_login_page(*, principal: Principal) -> Answer:
        return await render(principal, None)

    @api.get(
        f"{PATH}/<uuid:provider_id>",
        requires=Role.ADMIN,
        answers={200: PAGE},
        summary="The page of one identity provider",
    )
    async def login_provider_page(*, principal: Principal, provider_id: UUID) -> Answer:
        found = await providers.list_providers(database, principal.tenant_id, provider_id)
        if not found:
            raise NotFound("There is no such identity provider.")
        return await render(principal, found[0])
