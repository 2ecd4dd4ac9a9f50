"""The page on which data is taken along, a person is forgotten, and the tenant is closed.

What cannot be undone is asked for in words: a person is forgotten once somebody has typed so, a
tenant is closed or deleted once its name has been typed. The name is checked again by the API where
deleting depends on it.

An export is a stream from one snapshot, which the browser takes and counts; when its last line has
arrived it is whole, and can be saved. It is no job that leaves a copy on the server: that would be
a second place at which all of a tenant's data lies, to be guarded, and to be looked through
whenever a person is forgotten.
"""

from typing import Final

from troupe.actors.analytics.answers import Answers
from troupe.actors.auth import members
from troupe.actors.auth.erasure import MAX_IDENTIFIERS
from troupe.actors.auth.members import ROLES
from troupe.actors.auth.tenants import load_tenant
from troupe.common.erasure import ERASE_PERSON
from troupe.http.conventions import MAX_LIMIT
from troupe.http.dashboard.erasure_words import ErasureWords
from troupe.http.dashboard.frame import PAGE, Frame
from troupe.http.dashboard.people_pages import name_of
from troupe.http.dashboard.settings_pages import SECTION, tabs_for
from troupe.http.declaration import Answer
from troupe.http.principal import Principal, Role
from troupe.http.routes import Api
from troupe.http.tenants import tag_of
from troupe.platform.jobs import JobStore

ERASURES_SHOWN: Final = 10


def declare(api: Api, frame: Frame, answers: Answers) -> None:
    """Declare the page.

    Args:
        api: Of the analytics group's application.
        frame: Renders it.
        answers: Over the group's pool.
    """
    database = answers.database

    @api.get(
        "/settings/privacy",
        requires=Role.ADMIN,
        answers={200: PAGE},
        summary="The page of exports, erasures, and the end of a tenant",
    )
    async def privacy_page(*, principal: Principal) -> Answer:
        tenant = await load_tenant(database, principal.tenant_id)
        people, _ = await members.list_members(
            database, principal.tenant_id, after=None, limit=MAX_LIMIT
        )
        asked = await JobStore(database).list(
            principal.tenant_id, kind=ERASE_PERSON, limit=ERASURES_SHOWN
        )
        return await frame.page(
            "privacy.html",
            section=SECTION,
            principal=principal,
            tabs=tabs_for(principal.role),
            tenant=tenant,
            etag=tag_of(tenant),
            people=[
                (one.user_id, name_of(one))
                for one in people
                if ROLES.index(one.role) <= ROLES.index(principal.role.label)
            ],
            erasures=[ErasureWords.of(job) for job in asked.data],
            erasures_total=asked.total,
            most=MAX_IDENTIFIERS,
            is_owner=principal.role >= Role.OWNER,
        )
