"""Words and numbers as the reader's language writes them.

Babel writes numbers and dates; the words stand here. A language without a word is found by a test,
not by a reader.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from babel import Locale
from babel.dates import format_date, format_datetime
from babel.numbers import (
    format_compact_currency,
    format_compact_decimal,
    format_currency,
    format_decimal,
    format_percent,
    format_scientific,
)

from troupe.actors.analytics.metrics import Better, Figure, Unit
from troupe.actors.analytics.reports.content import Phrase
from troupe.actors.analytics.reports.periods import ReportPeriod
from troupe.common.dates import DateRange

LANGUAGES: Final = ("en", "de")
UNKNOWN: Final = "–"
_ABSURD_FROM: Final = Decimal(10) ** 15
"""Whoever can send a hit can claim a purchase of any size; it must not break the mail."""
_LARGEST_CHANGE: Final = 100

_WORDS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "en": {
            "day": "Daily report",
            "week": "Weekly report",
            "month": "Monthly report",
            "company": "All branches",
            "greeting": "Good morning{name},",
            "greeting.text": "here are the figures of {days}.",
            "figures": "Key figures",
            "before": "Before",
            "change": "Change",
            "compared": "Compared with {days}.",
            "chart": "Revenue by day",
            "chart.alt": "Revenue by day, {days}: {total} in all",
            "chart.before": "Grey: a week before.",
            "tasks": "Tasks",
            "tasks.none": "Nothing to do here.",
            "tasks.more": "{shown} of {total}; all of them are in the attachment.",
            "tasks.more.unattached": "{shown} of {total}; the others are in the dashboard.",
            "tasks.missing": "Not part of this report yet: {kinds}.",
            "until": "Data until {day}. Counted in {zone}; money in {currency}.",
            "until.none": "There is no data yet. Money in {currency}.",
            "others": "Also sold, not added: {amounts}.",
            "dashboard": "Open the dashboard",
            "unsubscribe": "Unsubscribe",
            "why": "You get this mail because {address} is listed as a recipient of {sender}.",
            "notice": "Figures are late",
            "notice.text": "The data of {days} is not complete yet, so this mail has no figures: "
            "they would be wrong. They will be in the dashboard as soon as they are here.",
            "notice.until": "Complete until {day}.",
            "test": "Test",
            "sheet.figures": "Figures",
            "sheet.days": "Days",
            "sheet.metric": "Figure",
            "sheet.value": "Value",
            "sheet.day": "Day",
        },
        "de": {
            "day": "Tagesbericht",
            "week": "Wochenbericht",
            "month": "Monatsbericht",
            "company": "Alle Filialen",
            "greeting": "Guten Morgen{name},",
            "greeting.text": "hier sind die Zahlen für {days}.",
            "figures": "Kennzahlen",
            "before": "Vorher",
            "change": "Änderung",
            "compared": "Verglichen mit {days}.",
            "chart": "Umsatz nach Tagen",
            "chart.alt": "Umsatz nach Tagen, {days}: {total} insgesamt",
            "chart.before": "Grau: eine Woche davor.",
            "tasks": "Aufgaben",
            "tasks.none": "Hier ist nichts zu tun.",
            "tasks.more": "{shown} von {total}; alle stehen im Anhang.",
            "tasks.more.unattached": "{shown} von {total}; die anderen stehen im Dashboard.",
            "tasks.missing": "Noch nicht in diesem Bericht: {kinds}.",
            "until": "Daten bis {day}. Gezählt in {zone}; Beträge in {currency}.",
            "until.none": "Es gibt noch keine Daten. Beträge in {currency}.",
            "others": "Außerdem verkauft, nicht eingerechnet: {amounts}.",
            "dashboard": "Dashboard öffnen",
            "unsubscribe": "Abbestellen",
            "why": "Sie erhalten diese Mail, weil {address} bei {sender} als Empfänger steht.",
            "notice": "Zahlen verspätet",
            "notice.text": "Die Daten für {days} sind noch nicht vollständig. Deshalb enthält "
            "diese Mail keine Zahlen: Sie wären falsch. Sie stehen im Dashboard, "
            "sobald sie da sind.",
            "notice.until": "Vollständig bis {day}.",
            "test": "Test",
            "sheet.figures": "Kennzahlen",
            "sheet.days": "Tage",
            "sheet.metric": "Kennzahl",
            "sheet.value": "Wert",
            "sheet.day": "Tag",
        },
    }
)

METRIC_TITLES_DE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "gross_revenue": "Umsatz",
        "purchases": "Käufe",
        "average_order_value": "Durchschnittlicher Einkauf",
        "sessions": "Sitzungen",
        "session_conversion_rate": "Konversion",
        "total_users": "Besucher",
        "cart_abandonment_rate": "Warenkorbabbrüche",
        "failed_search_rate": "Erfolglose Suchen",
    }
)


_LOCALES: Final = {language: Locale.parse(language) for language in _WORDS}
"""Parsed once: there are some three hundred numbers in a mail."""


@dataclass(frozen=True, slots=True)
class Wording:
    """One language.

    Attributes:
        language: ``en`` or ``de``.
        currency: ISO 4217, of money.
    """

    language: str
    currency: str

    @property
    def _locale(self) -> Locale:
        return _LOCALES[self.language]

    def say(self, key: str, **values: str) -> str:
        """A text with its values put in; not escaped."""
        return _WORDS[self.language][key].format(**values)

    def phrase(self, phrase: Phrase) -> str:
        """What is said in this language."""
        return phrase.de if self.language == "de" else phrase.en

    def title(self, name: str, english: str) -> str:
        """What a metric is called."""
        return METRIC_TITLES_DE.get(name, english) if self.language == "de" else english

    def figure(self, value: Figure, unit: Unit, currency: str | None = None) -> str:
        """A figure in full; an en dash for unknown."""
        if value is None:
            return UNKNOWN
        money = currency or self.currency
        if abs(Decimal(value)) >= _ABSURD_FROM:
            text = format_scientific(value, "0.##E0", locale=self._locale)
            return _signed(f"{money} {text}" if unit is Unit.MONEY else text)
        match unit:
            case Unit.MONEY:
                return _signed(format_currency(value, money, locale=self._locale))
            case Unit.RATIO:
                return _signed(format_percent(value, self._percent("0.0"), locale=self._locale))
            case Unit.COUNT:
                return _signed(format_decimal(value, locale=self._locale))

    def axis(self, value: Decimal) -> str:
        """A short amount of money."""
        if abs(value) >= _ABSURD_FROM:
            return self.figure(value, Unit.COUNT)
        return _signed(
            format_compact_currency(value, self.currency, locale=self._locale, fraction_digits=1)
            if self.language == "en"
            else format_compact_decimal(value, locale=self._locale, fraction_digits=1)
        )

    def change(self, difference: Decimal | None) -> str:
        """A relative change with its sign."""
        if difference is None:
            return UNKNOWN
        if abs(difference) >= _LARGEST_CHANGE:
            return f"{'+' if difference > 0 else '−'}>{self._percent_of(_LARGEST_CHANGE)}"
        places = "" if abs(difference) >= 10 else ".0"
        pattern = self._percent(f"0{places}")
        sign = "+" if difference > 0 else ""
        return _signed(sign + format_percent(difference, pattern, locale=self._locale))

    def _percent(self, digits: str) -> str:
        return f"#,##{digits} %" if self.language == "de" else f"#,##{digits}%"

    def _percent_of(self, value: int) -> str:
        return str(format_percent(value, self._percent("0"), locale=self._locale))

    @property
    def _day(self) -> str:
        """Day and month, as Babel wants it told."""
        return "d. MMM" if self.language == "de" else "d MMM"

    def day(self, value: date) -> str:
        """Sun, 22 Nov 2026."""
        return str(format_date(value, f"EEE, {self._day} y", locale=self._locale))

    def short_day(self, value: date) -> str:
        """22 Nov."""
        return str(format_date(value, self._day, locale=self._locale))

    def days(self, days: DateRange) -> str:
        """A day, or the first and the last one."""
        if days.start == days.end:
            return self.day(days.start)
        year = " y" if days.start.year != days.end.year else ""
        first = format_date(days.start, f"{self._day}{year}", locale=self._locale)
        return f"{first} – {format_date(days.end, f'{self._day} y', locale=self._locale)}"

    def moment(self, value: datetime) -> str:
        """22 Nov, 14:05; on the clock that it was read from."""
        return str(format_datetime(value, f"{self._day}, HH:mm", locale=self._locale))

    def headline(self, period: ReportPeriod, branch: str | None) -> str:
        """What a report is called, for a branch or for all of them."""
        return f"{self.say(period)}: {branch or self.say('company')}"


def tone(difference: Decimal | None, better: Better) -> str:
    """Whether a change is ``good``, ``bad`` or ``flat`` news."""
    if not difference or better is Better.NEITHER:
        return "flat"
    return "good" if (difference > 0) == (better is Better.MORE) else "bad"


def _signed(text: str) -> str:
    return str(text).replace("-", "−")


def missing_words() -> list[str]:
    """Languages that lack a word which another has; empty when all is well."""
    keys = {key for words in _WORDS.values() for key in words}
    return [
        f"{language}: {key}"
        for language in LANGUAGES
        for key in sorted(keys - _WORDS[language].keys())
    ]
