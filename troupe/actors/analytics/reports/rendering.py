"""A report's content as its reader sees it: HTML, plain text, picture, workbook.

Rendering is a pure function: the same content, looks, reader and links give the same bytes, on any
host and at any time. That is what makes a preview worth anything, and what lets the same branch's
picture and workbook be shared by all of its readers who have one language.

HTML for mail programs is tables with inlined style. The style sheet is written once and inlined by
css-inline, which is told to fetch nothing; what cannot be inlined (dark mode) stays in a style
element for the programs that read one. Gmail cuts a mail at about 102 KB, so rows of task lists are
capped and, should that not do, halved until it fits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from importlib.resources import files
from typing import Final

import css_inline
import jinja2
from markupsafe import Markup

from troupe.actors.analytics.metrics import Unit
from troupe.actors.analytics.reports.chart import picture
from troupe.actors.analytics.reports.content import (
    Cell,
    Money,
    Phrase,
    ReportContent,
    TaskColumn,
    TaskTable,
)
from troupe.actors.analytics.reports.settings import ReportSettings
from troupe.actors.analytics.reports.wording import Wording, tone
from troupe.actors.analytics.reports.workbook import write_workbook
from troupe.common.units import KiB

LARGEST_HTML: Final = 100_000
"""Bytes; Gmail clips behind about 102,000."""
CHART_ID: Final = "chart@report.invalid"
LOGO_ID: Final = "logo@report.invalid"
LONGEST_CELL: Final = 80
_MOST_OTHERS: Final = 10
_INK: Final = "#1b2430"
_DARK_ENOUGH: Final = 0.1833
"""Luminance up to which a colour stands out from white at 4.5 to 1."""
_GLANCED: Final = 3
"""Figures that an inbox shows beside the subject."""
_LARGEST_WORKBOOK: Final = 8192 * KiB


@dataclass(frozen=True, slots=True)
class Reader:
    """Whom a report is written for.

    Attributes:
        address: Their address.
        name: For the greeting; may be empty.
        language: ``en`` or ``de``.
        format: ``html``, with plain text beside it, or ``text`` alone.
        workbook: Whether the workbook is attached.
    """

    address: str
    name: str
    language: str
    format: str = "html"
    workbook: bool = True


@dataclass(frozen=True, slots=True)
class Links:
    """Addresses in a report.

    Attributes:
        dashboard: Of the dashboard, at this branch and period.
        unsubscribe: Empty: there is nothing to unsubscribe from (a test).
    """

    dashboard: str
    unsubscribe: str


@dataclass(frozen=True, slots=True)
class Shared:
    """What all readers of one content and language have in common.

    Attributes:
        chart: The picture, PNG; None: the report has none.
        workbook: XLSX; None: there are no figures.
    """

    chart: bytes | None
    workbook: bytes | None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A report as it is sent to one reader.

    Attributes:
        subject: The mail's subject.
        text: Plain text.
        html: None: the reader wants plain text only.
        chart: PNG, referred to by `CHART_ID`.
        logo: Picture and subtype, referred to by `LOGO_ID`.
        workbook: XLSX.
        workbook_name: What the attachment is called.
        notice: Whether it says that figures are late, instead of figures.
    """

    subject: str
    text: str
    html: str | None
    chart: bytes | None
    logo: tuple[bytes, str] | None
    workbook: bytes | None
    workbook_name: str
    notice: bool


@dataclass(frozen=True, slots=True)
class _Written:
    text: str
    is_number: bool
    width: int = 0


@dataclass(frozen=True, slots=True)
class _Table:
    title: str
    heads: tuple[_Written, ...]
    rows: tuple[tuple[_Written, ...], ...]
    more: str


class Renderer:
    """Holds the templates, read once. Everything here blocks: call it in a thread."""

    def __init__(self) -> None:
        loader = jinja2.PackageLoader(__package__)
        options = {
            "loader": loader,
            "undefined": jinja2.StrictUndefined,
            "trim_blocks": True,
            "lstrip_blocks": True,
        }
        page = jinja2.Environment(autoescape=True, **options)  # type: ignore[arg-type]
        # Plain text has nothing to escape; what it shows is put on one line by `_one_line`.
        plain = jinja2.Environment(autoescape=False, keep_trailing_newline=True, **options)  # type: ignore[arg-type]  # noqa: S701
        for environment in (page, plain):
            environment.globals.update(tone=tone, money=Unit.MONEY)
        self._page = page.get_template("report.html")
        self._plain = plain.get_template("report.txt")
        self._css = files(__package__).joinpath("templates", "mail.css").read_text("utf-8")
        self._inliner = css_inline.CSSInliner(keep_at_rules=True, load_remote_stylesheets=False)

    def share(self, content: ReportContent, look: ReportSettings, language: str) -> Shared:
        """Draw the chart and write the workbook."""
        words = Wording(language, content.currency)
        chart = picture(content.days, look.colour, words) if "chart" in look.sections else None
        workbook = write_workbook(content, words)
        return Shared(chart, workbook if len(workbook) <= _LARGEST_WORKBOOK else None)

    def render(
        self,
        content: ReportContent,
        look: ReportSettings,
        reader: Reader,
        links: Links,
        shared: Shared | None,
        *,
        test: bool = False,
    ) -> Rendered:
        """Write a report for one reader.

        Args:
            content: What it says.
            look: How the tenant wants it.
            reader: For whom.
            links: Where its links lead.
            shared: Of `share`, for the reader's language; None: a notice without figures.
            test: Whether somebody sent it to themselves.
        """
        notice = shared is None
        words = Wording(reader.language, content.currency)
        logo = look.picture if reader.format == "html" else None
        values = self._values(content, look, reader, links, words)
        values |= {"notice": notice, "test": test, "logo": LOGO_ID if logo else ""}
        values["subject"] = subject = _subject(content, words, notice=notice, test=test)
        attached = shared is not None and shared.workbook is not None and reader.workbook
        tables = _tables(content.tasks, words, look.rows, attached=attached)
        html = None
        if reader.format == "html":
            html = self._html(values, content, words, look.rows, attached=attached)
        return Rendered(
            subject=subject,
            text=self._plain.render(values, tables=tables),
            html=html,
            chart=shared.chart if shared is not None and html is not None else None,
            logo=logo,
            workbook=shared.workbook if shared is not None and attached else None,
            workbook_name=_file_name(content),
            notice=notice,
        )

    def _values(
        self,
        content: ReportContent,
        look: ReportSettings,
        reader: Reader,
        links: Links,
        words: Wording,
    ) -> dict[str, object]:
        revenue = content.figures[0]
        others = ", ".join(
            words.figure(other.gross_revenue, Unit.MONEY, other.currency)
            for other in content.others[:_MOST_OTHERS]
        )
        until = (
            words.say("until.none", currency=content.currency)
            if content.data_until is None
            else words.say(
                "until",
                day=words.day(content.data_until),
                zone=content.time_zone,
                currency=content.currency,
            )
        )
        return {
            "content": content,
            "look": look,
            "reader": reader,
            "links": links,
            "words": words,
            "others": others,
            "until": until,
            "glance": " · ".join(
                f"{words.title(line.name, line.title)} {words.figure(line.value, line.unit)}"
                + (f" ({words.change(line.change)})" if line.change is not None else "")
                for line in content.figures[:_GLANCED]
            ),
            "missing": words.say("tasks.missing", kinds=", ".join(content.missing)),
            "chart": CHART_ID,
            "heading_colour": look.colour if _light(look.colour) <= _DARK_ENOUGH else _INK,
            "ink": "#ffffff" if _light(look.colour) <= _DARK_ENOUGH else _INK,
            "chart_alt": words.say(
                "chart.alt",
                days=words.days(content.subject.days),
                total=words.figure(revenue.value, revenue.unit),
            ),
        }

    def _html(
        self,
        values: dict[str, object],
        content: ReportContent,
        words: Wording,
        rows: int,
        *,
        attached: bool,
    ) -> str:
        while True:
            tables = _tables(content.tasks, words, rows, attached=attached)
            # The style sheet is ours and holds nothing that could end its element.
            html = self._page.render(values, tables=tables, css=Markup(self._css))  # noqa: S704
            html = self._inliner.inline(html)
            if len(html.encode()) <= LARGEST_HTML or rows == 0:
                return html
            rows //= 2


def _subject(content: ReportContent, words: Wording, *, notice: bool, test: bool) -> str:
    parts = [
        f"[{words.say('test')}]" if test else "",
        f"{words.say('notice')}:" if notice else "",
        f"{words.headline(content.subject.period, content.branch)},",
        words.days(content.subject.days),
    ]
    return _one_line(" ".join(part for part in parts if part))


def _file_name(content: ReportContent) -> str:
    """What the attachment is called, in letters that every file system has."""
    days = content.subject.days
    span = days.start.isoformat()
    if days.end != days.start:
        span += f"_{days.end.isoformat()}"
    branch = content.subject.location_id or "all"
    safe = "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in branch)[:60]
    return f"report_{safe}_{span}.xlsx"


def _tables(
    tasks: Sequence[TaskTable], words: Wording, most: int, *, attached: bool
) -> tuple[_Table, ...]:
    found = []
    for table in tasks:
        first = table.rows[:most]
        shown = [
            index
            for index, field in enumerate(table.columns)
            # A column that has nothing to say would take the room of those that have.
            if field.in_mail and any(row[index] not in {None, ""} for row in first)
        ]
        rows = tuple(
            tuple(_cell(row[index], table.columns[index], words) for index in shown)
            for row in first
        )
        more = ""
        if table.total > len(rows):
            key = "tasks.more" if attached else "tasks.more.unattached"
            more = words.say(key, shown=str(len(rows)), total=str(table.total))
        heads = tuple(
            _Written(
                _one_line(words.phrase(table.columns[index].title)),
                is_number=table.columns[index].unit is not None,
                width=table.columns[index].width,
            )
            for index in shown
        )
        found.append(_Table(words.phrase(table.title), heads, rows, more))
    return tuple(found)


def _cell(cell: Cell, column: TaskColumn, words: Wording) -> _Written:
    match cell:
        case None:
            return _Written("", column.unit is not None)
        case int() | Decimal() if column.unit is not None:
            return _Written(words.figure(cell, column.unit), is_number=True)
        case Money():
            amount = words.figure(cell.amount, Unit.MONEY, _one_line(cell.currency)[:3])
            return _Written(amount, is_number=True)
        case datetime():
            return _Written(words.moment(cell), is_number=False)
        case date():
            return _Written(words.short_day(cell), is_number=False)
        case _:
            said = words.phrase(cell) if isinstance(cell, Phrase) else str(cell)
            text = _one_line(said)
            short = text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"
            return _Written(short, is_number=False)


def _light(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` as WCAG has it, 0 to 1."""
    parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _one_line(text: str) -> str:
    """Without line breaks and other control characters."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
