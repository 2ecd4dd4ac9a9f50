"""Format strings of FORMAT_DATE, PARSE_TIMESTAMP and their kin.

A format is taken apart while compiling and each element is written out in DuckDB's terms. Parsing
accepts the full-width spelling of every element (two digits for a day, four for a year). BigQuery
is more lenient, with spaces and missing leading zeros; such an input is refused, not guessed at.
"""

import re
from typing import Final

from troupe_demo.bigquery.sql.calls import Call
from troupe_demo.bigquery.sql.expressions import text

_ELEMENT = re.compile(r"%E[0-9*]S|%E4Y|%Ez|%.|[^%]+|%$", re.DOTALL)
_SHORT: Final = {
    "%F": "%Y-%m-%d",
    "%T": "%H:%M:%S",
    "%R": "%H:%M",
    "%D": "%m/%d/%y",
    "%x": "%m/%d/%y",
    "%X": "%H:%M:%S",
}

# {0} is a zoneless timestamp (local time in the wanted zone), or a date.
_DATE_ELEMENTS: Final = {
    "%Y": "CAST(year({0}) AS VARCHAR)",
    "%E4Y": "strftime({0}, '%Y')",
    "%C": "lpad(CAST(year({0}) // 100 AS VARCHAR), 2, '0')",
    "%G": "CAST(isoyear({0}) AS VARCHAR)",
    "%e": "lpad(CAST(day({0}) AS VARCHAR), 2, ' ')",
    "%h": "strftime({0}, '%b')",
    "%Q": "CAST(quarter({0}) AS VARCHAR)",
    **{f"%{letter}": f"strftime({{0}}, '%{letter}')" for letter in "aAbBdjmuUVwWy"},
}
_TIME_ELEMENTS: Final = {
    "%E*S": "rtrim(rtrim(strftime({0}, '%S.%f'), '0'), '.')",
    "%E3S": "strftime({0}, '%S.%g')",
    "%E6S": "strftime({0}, '%S.%f')",
    **{f"%{letter}": f"strftime({{0}}, '%{letter}')" for letter in "HIMpS"},
}
_LITERALS: Final = {"%%": "%", "%n": "\n", "%t": "\t"}

# What each element looks like at full width, and DuckDB's element that reads it.
_READS: Final = {
    "%Y": ("[0-9]{4}", "%Y"),
    "%E4Y": ("[0-9]{4}", "%Y"),
    "%m": ("[0-9]{2}", "%m"),
    "%d": ("[0-9]{2}", "%d"),
    "%H": ("[0-9]{2}", "%H"),
    "%M": ("[0-9]{2}", "%M"),
    "%S": ("[0-9]{2}", "%S"),
}


def _elements(pattern: str) -> list[str]:
    parts = _ELEMENT.findall(pattern)
    return [e for part in parts for e in _ELEMENT.findall(_SHORT.get(part, part))]


def formatted(pattern: str, value: str, call: Call, *, with_time: bool) -> str:
    """DuckDB text that formats ``value``, a DuckDB date or zoneless timestamp.

    Raises:
        BigQueryError: The pattern has an element that the stand-in does not support.
    """
    known = _DATE_ELEMENTS | _TIME_ELEMENTS if with_time else _DATE_ELEMENTS
    pieces = []
    for element in _elements(pattern):
        if element in known:
            pieces.append(known[element].format(value))
        elif element in _LITERALS or not element.startswith("%"):
            pieces.append(text(_LITERALS.get(element, element)))
        else:
            raise call.refuse(f"{element} in a format of {call.name}")
    # A pattern without elements must still be NULL for a NULL value.
    return f"(CASE WHEN {value} IS NOT NULL THEN " + (" || ".join(pieces) or "''") + " END)"


def parsed(pattern: str, value: str, call: Call, *, with_time: bool, safe: bool) -> str:
    """DuckDB text for a zoneless timestamp read from the text ``value``.

    Raises:
        BigQueryError: The pattern has an element that the stand-in does not support.
    """
    strict, loose, reads = "", r"\s*", ""
    for element in _elements(pattern):
        if element in _READS and (with_time or element not in ("%H", "%M", "%S")):
            shape, duck = _READS[element]
            strict, loose, reads = strict + shape, loose + r"\s*[0-9]{1,4}\s*", reads + duck
        elif not element.startswith("%"):
            quoted = re.escape(element)
            strict, loose, reads = strict + quoted, loose + quoted, reads + element
        else:
            raise call.refuse(f"{element} in a format of {call.name}")
    failure = "NULL" if safe else f"error('Failed to parse input string \"' || {value} || '\"')"
    moment = f"try_strptime({value}, {text(reads)})"
    return (
        f"(CASE WHEN {value} IS NULL THEN NULL"
        f" WHEN regexp_full_match({value}, {text(strict)})"
        f" THEN CASE WHEN {moment} IS NULL THEN {failure} ELSE {moment} END"
        f" WHEN regexp_full_match({value}, {text(loose)})"
        f" THEN bq_refuse('{call.name} of \"' || {value} || '\"')"
        f" ELSE {failure} END)"
    )
