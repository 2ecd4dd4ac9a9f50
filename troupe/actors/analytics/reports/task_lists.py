"""The task lists of a report, read in its snapshot: what the task pages show, for a period.

A mail lists what is still to be done: open or in progress, not resting when the period ended, the
most urgent first. The attachment has every field and every row. What people make of tasks changes
without the data changing; so a preview equals the mail for as long as nobody has touched a task.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time
from types import MappingProxyType
from typing import Final

from troupe.actors.analytics.answers import Snapshot
from troupe.actors.analytics.entry_pages import EntryPage, read_entry_pages
from troupe.actors.analytics.filters import Filters
from troupe.actors.analytics.following import TaskKind
from troupe.actors.analytics.metrics import Unit, ratio
from troupe.actors.analytics.reports.content import (
    MOST_TASKS,
    Cell,
    Money,
    Phrase,
    TaskColumn,
    TaskSource,
    TaskTable,
)
from troupe.actors.analytics.tasks import (
    SORTABLE,
    TASKS,
    Sorting,
    Status,
    Task,
    Wanted,
    read_page,
)
from troupe.common.dates import DateRange

MOST_PAGES: Final = 500
_URGENT: Final = Sorting(SORTABLE["priority"], descending=True)
_TITLES: Final[Mapping[TaskKind, Phrase]] = MappingProxyType(
    {
        TaskKind.PURCHASES: Phrase("Purchases to follow up", "Käufe zum Nachfassen"),
        TaskKind.CARTS: Phrase("Carts that were left", "Verlassene Warenkörbe"),
        TaskKind.SEARCHES: Phrase("Searches that found nothing", "Suchen ohne Treffer"),
        TaskKind.VISITS: Phrase(
            "Visitors who come again without buying", "Besucher, die wiederkommen und nicht kaufen"
        ),
    }
)
REASONS: Final[Mapping[str, Phrase]] = MappingProxyType(
    {
        "value": Phrase("money at stake", "es geht um Geld"),
        "customer": Phrase("known customer", "bekannter Kunde"),
        "reachable": Phrase("can be reached", "erreichbar"),
        "first_purchase": Phrase("first purchase", "erster Kauf"),
        "many_items": Phrase("several products", "mehrere Produkte"),
        "failed_searches": Phrase("found nothing", "nichts gefunden"),
    }
)
_UNBROKEN: Final = "\u00a0"
_NOBODY: Final = Phrase("Not known", "Unbekannt")
_STATUSES: Final[Mapping[Status, Phrase]] = MappingProxyType(
    {
        Status.OPEN: Phrase("open", "offen"),
        Status.IN_PROGRESS: Phrase("in progress", "in Arbeit"),
    }
)
_COLUMNS: Final = (
    TaskColumn("happened_at", Phrase("When", "Wann"), width=11),
    TaskColumn("company", Phrase("Company", "Firma"), width=21),
    TaskColumn("reach", Phrase("Contact", "Kontakt"), in_workbook=False, width=24),
    TaskColumn("title", Phrase("What", "Was")),
    TaskColumn("value", Phrase("Value", "Wert"), Unit.MONEY, width=15),
    TaskColumn("why", Phrase("Why", "Warum"), in_mail=False),
    TaskColumn("priority", Phrase("Priority", "Dringlichkeit"), Unit.COUNT, in_mail=False),
    TaskColumn("contact", Phrase("Contact", "Ansprechpartner"), in_mail=False),
    TaskColumn("email", Phrase("E-mail", "E-Mail"), in_mail=False),
    TaskColumn("phone", Phrase("Telephone", "Telefon"), in_mail=False),
    TaskColumn("person_id", Phrase("Customer or visitor", "Kunde oder Besucher"), in_mail=False),
    TaskColumn("location", Phrase("Branch", "Filiale"), in_mail=False),
    TaskColumn("status", Phrase("Status", "Stand"), in_mail=False),
    TaskColumn("note", Phrase("Note", "Notiz"), in_mail=False),
)
_PAGE_COLUMNS: Final = (
    TaskColumn("page", Phrase("Page", "Seite")),
    TaskColumn("sessions", Phrase("Sessions", "Sitzungen"), Unit.COUNT),
    TaskColumn("bounce_rate", Phrase("Bounced", "Abgesprungen"), Unit.RATIO),
    TaskColumn("site", Phrase("All pages", "Alle Seiten"), Unit.RATIO),
    TaskColumn("excess", Phrase("Sessions lost", "Verlorene Sitzungen"), Unit.COUNT),
    TaskColumn("conversions", Phrase("Purchases", "Käufe"), Unit.COUNT, in_mail=False),
)


class Listed:
    """Tasks of one kind.

    Args:
        kind: Which.
    """

    def __init__(self, kind: TaskKind) -> None:
        self._kind = kind

    @property
    def kind(self) -> str:
        """See `TaskSource.kind`."""
        return self._kind.value

    async def read(self, snapshot: Snapshot, days: DateRange, filters: Filters) -> TaskTable:
        """See `TaskSource.read`."""
        reporting = snapshot.reporting
        wanted = Wanted(
            self._kind,
            days,
            reporting.zone,
            locations=filters.locations,
            statuses=(Status.OPEN, Status.IN_PROGRESS),
            snoozed=False,
        )
        ended = datetime.combine(days.shifted(1).end, time(), reporting.zone).astimezone(UTC)
        await snapshot.connection.execute(TASKS["custom_plans"])
        page = await read_page(
            snapshot.connection,
            reporting.tenant,
            wanted,
            sorting=_URGENT,
            now=ended,
            after=None,
            limit=MOST_TASKS,
        )
        return TaskTable(
            self.kind,
            _TITLES[self._kind],
            _COLUMNS,
            tuple(_cells(task, snapshot) for task in page.tasks),
            page.total,
        )


def _cells(task: Task, snapshot: Snapshot) -> tuple[Cell, ...]:
    reasons = [REASONS[str(reason["reason"])] for reason in task.reasons]
    return (
        task.happened_at.astimezone(snapshot.reporting.zone).replace(tzinfo=None),
        task.company or (task.person_id if task.is_customer else None) or _NOBODY,
        ", ".join(filter(None, (task.contact, task.phone.replace(" ", _UNBROKEN) or task.email))),
        task.title,
        Money(task.value, task.currency) if task.value else None,
        Phrase("; ".join(one.en for one in reasons), "; ".join(one.de for one in reasons)),
        task.priority,
        task.contact,
        task.email,
        task.phone,
        task.person_id,
        task.location_name or task.location_id,
        _STATUSES[task.status],
        task.note,
    )


class LosingPages:
    """Entry pages that lose more visitors than the site does."""

    @property
    def kind(self) -> str:
        """See `TaskSource.kind`."""
        return "performance"

    async def read(self, snapshot: Snapshot, days: DateRange, filters: Filters) -> TaskTable:
        """See `TaskSource.read`."""
        found = await read_entry_pages(snapshot, [days], filters, limit=MOST_PAGES)
        site = found.site
        rows: list[tuple[Cell, ...]] = []
        if site is not None:
            usual = ratio(site.bounces, site.sessions)
            rows = [_page_cells(page, usual) for page in found.pages if round(page.excess) > 0]
        return TaskTable(
            self.kind,
            Phrase("Pages that lose visitors", "Seiten, die Besucher verlieren"),
            _PAGE_COLUMNS,
            tuple(rows),
            len(rows),
        )


def _page_cells(page: EntryPage, usual: Cell) -> tuple[Cell, ...]:
    now = page.now
    return (
        page.page,
        now.sessions,
        ratio(now.bounces, now.sessions),
        usual,
        round(page.excess),
        now.conversions,
    )


def every_list() -> Sequence[TaskSource]:
    """All lists that a report may hold, in the order of its sections."""
    return (*map(Listed, TaskKind), LosingPages())
