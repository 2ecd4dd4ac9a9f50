"""The frame of every page: navigation, how far the data reaches, account, states, errors.

A page says which section it belongs to and what its template needs; the frame adds the rest, which
is the same everywhere. `docs/dashboard.md` is the contract, with the blocks of the templates, the
components and the attributes by which a page asks for behaviour.

How far the data reaches is on every page and must be true there, so the frame reads it with each
page, unless the page brings the reporting of the snapshot that its figures come from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from urllib.parse import urlencode, urlsplit

import trio
from quart import Response

from troupe.actors.analytics.answers import Answers, Reporting
from troupe.common.errors import TroupeError
from troupe.common.units import SECONDS
from troupe.http.asked import Clock
from troupe.http.conventions import today_in
from troupe.http.dashboard.sections import SECTIONS, sections_for
from troupe.http.dashboard.static_files import StaticFiles
from troupe.http.dashboard.templates import environment
from troupe.http.declaration import Answer, Media
from troupe.http.principal import Principal
from troupe.http.problems import Problem
from troupe.http.request import current_request

PAGE: Final = Media("text/html; charset=utf-8", "A page.")
LATE_FROM_DAYS: Final = 2
"""Days without data, up to yesterday, from which the data counts as late: the night's load of the
day before may still be under way in the morning."""
ERROR_PAGE_PATIENCE: Final = 1 * SECONDS
"""For the frame of a page that says what went wrong; without the database it has to do."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where browsers reach the other parts.

    Attributes:
        auth: Origin of the auth group, ``http://127.0.0.1:8003``.
        dashboard: Origin of these pages.
        data: Origin of the data group.
    """

    auth: str
    dashboard: str
    data: str = ""

    def login(self, target: str) -> str:
        """Where to send someone who is not signed in; `target` is the path to return to."""
        back = urlencode({"next": f"{self.dashboard}{target}"})
        return f"{self.auth}/api/v1/login?{back}"

    @property
    def logout(self) -> str:
        """Where the logout is posted to."""
        return f"{self.auth}/api/v1/logout"


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far the data reaches.

    Attributes:
        until: The last complete day; None before the first load.
        days_late: Complete days that are over and not there.
    """

    until: date | None
    days_late: int

    @property
    def is_late(self) -> bool:
        """Whether a person must be told."""
        return self.days_late >= LATE_FROM_DAYS

    @classmethod
    def of(cls, reporting: Reporting, now: datetime) -> "Freshness":
        """Of a tenant at an instant."""
        until = reporting.data_until
        if until is None:
            return cls(None, 0)
        yesterday = today_in(reporting.zone, now) - timedelta(days=1)
        return cls(until, max((yesterday - until).days, 0))


class Frame:
    """Renders pages; one per application.

    Args:
        answers: For how far a tenant's data reaches.
        addresses: Where browsers reach us and the other groups.
        static: The files that pages load.
        clock: The present instant.
    """

    def __init__(
        self, answers: Answers, addresses: Addresses, static: StaticFiles, clock: Clock
    ) -> None:
        self.addresses = addresses
        self.clock = clock
        self._answers = answers
        self._templates = environment(static=static.address, addresses=addresses)

    async def page(
        self,
        template: str,
        *,
        section: str,
        principal: Principal,
        reporting: Reporting | None = None,
        status: int = 200,
        **values: object,
    ) -> Answer:
        """A page.

        Args:
            template: Extends ``base.html``.
            section: Name of one of `SECTIONS`.
            principal: Who asks.
            reporting: Of the snapshot that the page's figures come from; read here when None.
            status: Of the answer.
            values: What the template shows beside what `docs/dashboard.md` promises it.

        Raises:
            NotFound: There is no such tenant.
            DatabaseError: The database failed.
        """
        reporting = reporting or await self._answers.reporting(principal.tenant_id)
        html = self._templates.get_template(template).render(
            self._about(section, principal, reporting), **values
        )
        return Answer(html, status)

    async def error_page(self, problem: Problem) -> Response:
        """What a person sees instead of a problem document."""
        request = current_request()
        if problem.status == 401:
            target = _own_path(request.url)
            return Response(b"", 303, {"Location": self.addresses.login(target)})
        who = request.principal
        reporting = None
        if who is not None:
            with trio.move_on_after(ERROR_PAGE_PATIENCE):
                reporting = await self._reporting_if_possible(who)
        html = self._templates.get_template("problem.html").render(
            self._about("", who, reporting), problem=problem, request_id=request.request_id
        )
        return Response(html, problem.status, dict(problem.headers), content_type=PAGE.content_type)

    async def _reporting_if_possible(self, who: Principal) -> Reporting | None:
        try:
            return await self._answers.reporting(who.tenant_id)
        except TroupeError:
            return None  # what is wrong is being told already

    def _about(
        self, section: str, principal: Principal | None, reporting: Reporting | None
    ) -> Mapping[str, object]:
        return {
            "section": next((one for one in SECTIONS if one.name == section), None),
            "navigation": sections_for(principal.role) if principal is not None else (),
            "principal": principal,
            "reporting": reporting,
            "freshness": Freshness.of(reporting, self.clock()) if reporting is not None else None,
            "here": _own_path(current_request().url),
        }


def _own_path(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
