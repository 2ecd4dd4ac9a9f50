"""The usual questions, answered right after a load and before anybody asks.

Each process hears of every load (`standing.follow`) and computes what dashboards ask of all
presets, one question at a time and in no hurry: over the connections that give way to those that
people wait for. A backfill publishes a version per day, many of them within a minute, and with each
what was got ready under the one before is of no use: a tenant is warmed once nothing was heard of
it for `QUIET` seconds, and no further when something is published meanwhile. What people are
looking at does not wait for that (`renewal`).

What fails is left to whoever asks first.
"""

from collections.abc import Callable
from typing import Final

import trio

from troupe.actors.analytics.standing import follow
from troupe.common.database import Database
from troupe.common.dates import Compare
from troupe.common.errors import TroupeError
from troupe.common.ids import TenantId
from troupe.common.logs import get_logger
from troupe.common.units import SECONDS
from troupe.http import analytics_models as models
from troupe.http import funnel_models, inquiries, top_models
from troupe.http.answering import Answering, Question
from troupe.http.conventions import Preset
from troupe.http.dashboard.overview_page import OVERVIEW
from troupe.http.dashboard.view import OverviewQuery
from troupe.http.renewal import Renewal

QUIET: Final = 2 * SECONDS

_log = get_logger(__name__)

_COMPARISONS: Final = (Compare.NONE, Compare.PREVIOUS)
USUAL: Final[tuple[Question, ...]] = (
    *(
        (inquiry, query(preset=preset, compare=compare))
        for preset in Preset
        for compare in _COMPARISONS
        for inquiry, query in (
            (inquiries.STATS, models.StatsQuery),
            (inquiries.CHART, models.StatsChartQuery),
            (inquiries.LOCATIONS, models.LocationStatsQuery),
        )
    ),
    *((OVERVIEW, OverviewQuery(preset=preset)) for preset in Preset),
    # Without a preset: what is answered when nothing is said.
    (OVERVIEW, OverviewQuery()),
    *(
        (inquiry, query())
        for inquiry, query in (
            (inquiries.STATS, models.StatsQuery),
            (inquiries.CHART, models.StatsChartQuery),
            (inquiries.LOCATIONS, models.LocationStatsQuery),
            (inquiries.COMPLETE, funnel_models.CompleteQuery),
            (inquiries.FUNNEL, funnel_models.FunnelQuery),
            (inquiries.CHANNELS, models.PartStatsQuery),
            (inquiries.DEVICES, models.PartStatsQuery),
            (inquiries.COUNTRIES, models.PartStatsQuery),
            (inquiries.TOP_PRODUCTS, top_models.TopQuery),
            (inquiries.TOP_PAGES, top_models.TopQuery),
            (inquiries.TOP_TERMS, top_models.TopQuery),
        )
    ),
)


class Warming:
    """Keeps the usual answers ready.

    Args:
        answering: To be asked.
    """

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._heard: dict[TenantId, float] = {}
        self._woken = trio.Event()

    def heard(self, tenant: TenantId) -> None:
        """Something was published for a tenant."""
        self._heard[tenant] = trio.current_time()
        self._woken.set()

    async def run(self) -> None:
        """Warm whoever was heard of, for ever."""
        while True:
            if not self._heard:
                self._woken = trio.Event()
                await self._woken.wait()
            await trio.sleep_until(min(self._heard.values()) + QUIET)
            now = trio.current_time()
            for tenant in [one for one, at in self._heard.items() if at + QUIET <= now]:
                del self._heard[tenant]
                await self.warm(tenant)

    async def warm(self, tenant: TenantId) -> None:
        """Have the usual answers of one tenant ready, unless something is published meanwhile."""
        began = trio.current_time()
        try:
            for question in USUAL:
                if not await self._answering.keep(tenant, question):
                    return  # of which we hear, too
        except TroupeError as error:
            _log.warning("answers_not_warmed", tenant_id=str(tenant), reason=str(error))
            return
        _log.debug(
            "answers_warmed",
            tenant_id=str(tenant),
            answers=len(USUAL),
            milliseconds=round((trio.current_time() - began) * 1000),
        )


async def stay_current(
    database: Database,
    answering: Answering,
    stopping: trio.Event,
    *,
    warm: bool,
    told: Callable[[TenantId], None] = lambda _tenant: None,
) -> None:
    """Hear of loads and changed settings until `stopping` is set.

    Args:
        database: The group's pool.
        answering: To be told.
        stopping: Ends it.
        warm: Whether to have the usual answers ready.
        told: Called with each tenant that something was heard of.
    """
    warming = Warming(answering)

    def heard(tenant: TenantId) -> None:
        told(tenant)
        if warm:
            warming.heard(tenant)

    renewal = Renewal(answering)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(renewal.run)
        nursery.start_soon(follow, database, answering.standing, heard)
        if warm:
            nursery.start_soon(warming.run)
        await stopping.wait()
        nursery.cancel_scope.cancel()
