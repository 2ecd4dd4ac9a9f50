"""A report's content, made up, with everything in it that could go wrong."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from troupe.actors.analytics.answers import OtherCurrency
from troupe.actors.analytics.metrics import METRICS, Unit
from troupe.actors.analytics.reports.content import (
    FIGURES,
    ChartDay,
    FigureLine,
    Phrase,
    ReportContent,
    Subject,
    TaskColumn,
    TaskTable,
)
from troupe.actors.analytics.reports.periods import ReportPeriod
from troupe.common.dates import DateRange

DAY = date(2026, 11, 22)
HOSTILE = '=HYPERLINK("http://evil.example")<script>alert(1)</script>{{ 7 * 7 }}'
_VALUES = {Unit.MONEY: Decimal("1234.50"), Unit.COUNT: 12, Unit.RATIO: Decimal("0.123456")}
_BEFORE = {Unit.MONEY: Decimal(1000), Unit.COUNT: 0, Unit.RATIO: None}


def figures() -> tuple[FigureLine, ...]:
    return tuple(
        FigureLine(
            name,
            METRICS[name].title,
            METRICS[name].unit,
            METRICS[name].better,
            _VALUES[METRICS[name].unit],
            _BEFORE[METRICS[name].unit],
        )
        for name in FIGURES
    )


def tasks(rows: int = 3, text: str = HOSTILE, columns: int = 1) -> TaskTable:
    fields = [
        TaskColumn(f"who{number}", Phrase(f"Who {number}", f"Wer {number}"))
        for number in range(columns)
    ]
    fields.append(TaskColumn("value", Phrase("Value", "Wert"), Unit.MONEY))
    fields.append(TaskColumn("when", Phrase("When", "Wann")))
    cells = (*([text] * columns), Decimal("9.99"), DAY)
    return TaskTable(
        "purchases", Phrase("Purchases", "Käufe"), tuple(fields), (cells,) * rows, rows
    )


def content(**changes: Any) -> ReportContent:
    days = tuple(
        ChartDay(DAY - timedelta(days=13 - number), Decimal(100 * number), Decimal(90 * number))
        for number in range(14)
    )
    values: dict[str, Any] = {
        "subject": Subject("b1", ReportPeriod.DAY, DateRange(DAY, DAY)),
        "tenant_name": "Häfen & <Söhne>",
        "branch": "Köln",
        "comparison": DateRange(DAY - timedelta(days=7), DAY - timedelta(days=7)),
        "data_version": 7,
        "data_until": DAY,
        "time_zone": "Europe/Berlin",
        "currency": "EUR",
        "figures": figures(),
        "others": (OtherCurrency("USD", 1, Decimal("5.00"), Decimal(0)),),
        "days": days,
        "tasks": (tasks(),),
        "missing": ("performance",),
    }
    return ReportContent(**(values | changes))
