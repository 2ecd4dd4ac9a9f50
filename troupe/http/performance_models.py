"""What the lists of performance take and answer."""

from decimal import Decimal
from typing import Annotated, Final

from pydantic import Field

from troupe.actors.analytics.entry_pages import Entrances, EntryPage
from troupe.actors.analytics.metrics import ratio
from troupe.common.dates import Compare
from troupe.http.analytics_models import About, FilterQuery, LocationStats
from troupe.http.conventions import AnswerModel, CompareQuery, PageQuery

MAX_ROWS: Final = 200
"""Per page: of each branch the products are looked up."""


class PerformanceQuery(CompareQuery, FilterQuery, PageQuery):
    """Which range; compared with the period before unless told otherwise."""

    compare: Compare = Compare.PREVIOUS
    limit: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 50
    """Rows per page."""


class EntryPageAnswer(AnswerModel):
    """A page by which people come in."""

    page: str
    """Address without query and fragment."""
    why: str
    """Why it is listed, in a sentence."""
    sessions: int
    """Sessions that begin with it."""
    bounce_rate: float | None
    site_bounce_rate: float | None
    """Of the whole site, in the same range and under the same filters."""
    lost_sessions: Decimal
    """Sessions that bounced beyond what the site's rate would give; the list is ordered by it. Less
    than nothing where the page is better than the site."""
    conversion_rate: float | None
    """Share of the sessions with a purchase."""
    previous_sessions: int | None
    previous_bounce_rate: float | None
    previous_conversion_rate: float | None


class EntryPagesAnswer(About):
    """Pages by which people come in, one page of the list."""

    data: list[EntryPageAnswer]
    next_cursor: str | None
    total: int


class TopProduct(AnswerModel):
    """A product that a branch sold."""

    name: str
    """Item id."""
    label: str | None
    revenue: Decimal
    quantity: int


class BranchPerformance(LocationStats):
    """Key figures of one branch, each against the period before, and what it sold most."""

    top_products: list[TopProduct]


class BranchPerformanceAnswer(About):
    """Every branch, by revenue, one page."""

    data: list[BranchPerformance]
    next_cursor: str | None
    total: int


def written_page(found: EntryPage, site: Entrances) -> dict[str, object]:
    """What is written for an `EntryPageAnswer`, from the domain's figures."""
    rate, usual = _bounce_rate(found.now), _bounce_rate(site)
    before = found.before
    return {
        "page": found.page,
        "why": _why(rate, usual),
        "sessions": found.now.sessions,
        "bounce_rate": rate,
        "site_bounce_rate": usual,
        "lost_sessions": found.excess,
        "conversion_rate": _conversion_rate(found.now),
        "previous_sessions": None if before is None else before.sessions,
        "previous_bounce_rate": None if before is None else _bounce_rate(before),
        "previous_conversion_rate": None if before is None else _conversion_rate(before),
    }


def _bounce_rate(entrances: Entrances) -> float | None:
    return _plain(ratio(entrances.bounces, entrances.sessions))


def _conversion_rate(entrances: Entrances) -> float | None:
    return _plain(ratio(entrances.conversions, entrances.sessions))


def _plain(figure: object) -> float | None:
    return None if figure is None else float(figure)  # type: ignore[arg-type]


def _why(rate: float | None, usual: float | None) -> str:
    return f"{rate or 0:.1%} leave at once; {usual or 0:.1%} do on the whole site."
