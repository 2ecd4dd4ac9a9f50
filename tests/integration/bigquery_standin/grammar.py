"""Random GoogleSQL over one small table, typed, so that most of it means something.

Each kind has leaves and forms; ``{int}`` in a form is another expression of that kind, one level
less deep. The same seed gives the same text.
"""

import random
import re
from datetime import UTC, date, datetime
from typing import Any, Final

from troupe_demo.bigquery.types import (
    BOOL,
    DATE,
    DATETIME,
    FLOAT64,
    INT64,
    STRING,
    TIMESTAMP,
    Field,
    array_of,
    struct_of,
)

PAIR: Final = struct_of([Field("key", STRING), Field("v", INT64), Field("w", FLOAT64)])
COLUMNS: Final = [
    Field("id", INT64),
    Field("i", INT64),
    Field("j", INT64),
    Field("f", FLOAT64),
    Field("g", FLOAT64),
    Field("s", STRING),
    Field("u", STRING),
    Field("b", BOOL),
    Field("d", DATE),
    Field("ts", TIMESTAMP),
    Field("dt", DATETIME),
    Field("ai", array_of(INT64)),
    Field("kv", array_of(PAIR)),
]


def rows(seed: int, count: int = 14) -> list[dict[str, Any]]:
    """Rows full of edges: extremes, NaN, white space, the hours when clocks change."""
    pick = random.Random(seed).choice
    ints = [0, 1, -1, 2, 7, -7, 100, None, 2**63 - 1, -(2**63), 1_700_000_000, 3]
    floats = [0.0, 1.0, -1.5, 2.5, 0.1, None, float("nan"), float("inf"), 1e300, 1 / 3, 1e15 + 0.3]
    texts = ["", "a", "abc", "ABC", None, "12", " 7 ", "-3.5", "2024-02-29", "true", "äÖü", "a/b/c"]
    texts += ["x=1&y=2", "😀z", "  pad ", "nan", "1e3", "20240131"]
    days = [date(2024, 2, 29), date(2023, 12, 31), date(1969, 12, 31), None, date(2020, 6, 15)]
    moments = [
        datetime(2024, 3, 31, 1, 30, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC),
        None,
        datetime(2024, 10, 27, 0, 30, tzinfo=UTC),
        datetime(2024, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ]

    def pair() -> dict[str, Any]:
        return {"key": pick("abx"), "v": pick([1, 2, None, -4]), "w": pick([0.5, None, 2.0])}

    def row(number: int) -> dict[str, Any]:
        local = pick(moments)
        return {
            "id": number,
            "i": pick(ints),
            "j": pick(ints),
            "f": pick(floats),
            "g": pick(floats),
            "s": pick(texts),
            "u": pick(texts),
            "b": pick([True, False, None]),
            "d": pick(days),
            "ts": pick(moments),
            "dt": local and local.replace(tzinfo=None),
            "ai": [pick([1, 2, 3, 5]) for _ in range(pick([0, 1, 3]))],
            "kv": [pair() for _ in range(pick([0, 1, 2, 4]))],
        }

    return [row(number) for number in range(count)]


LEAVES: Final = {
    "int": ["i", "j", "id", "1", "2", "-3", "7", "0"],
    "float": ["f", "g", "1.5", "-0.25", "1e3", "CAST(i AS FLOAT64)", "0.0"],
    "text": ["s", "u", "'a'", "''", "'abc'", "'b'"],
    "bool": ["b", "TRUE", "FALSE", "(i IS NULL)", "(s IS NOT NULL)"],
    "day": ["d", "DATE '2024-02-29'", "DATE '2023-12-31'"],
    "moment": ["ts", "TIMESTAMP '2024-01-01 12:34:56.789+00'"],
    "local": ["dt", "DATETIME '2024-01-31 23:59:59.5'"],
    "array": ["ai", "[1, 2]"],
}
# Words: never deeper than themselves.
WORDS: Final = {
    "plus": ["+", "-", "*"],
    "compare": ["=", "<>", "<", ">", "<=", ">="],
    "not": ["", "NOT "],
    "week": ["WEEK", "ISOWEEK", "WEEK(MONDAY)", "WEEK(FRIDAY)"],
    "span": ["DAY", "WEEK", "ISOWEEK", "MONTH", "QUARTER", "YEAR", "WEEK(TUESDAY)"],
    "shift": ["DAY", "WEEK", "MONTH", "QUARTER", "YEAR"],
    "clock": ["HOUR", "MINUTE", "SECOND", "MILLISECOND", "MICROSECOND"],
    "scale": ["SECONDS", "MILLIS", "MICROS"],
    "part": ["YEAR", "MONTH", "DAY", "DAYOFWEEK", "DAYOFYEAR", "WEEK", "ISOWEEK", "ISOYEAR"],
    "zone": ["Europe/Vienna", "America/New_York", "Asia/Kolkata", "UTC", "Australia/Lord_Howe"],
    "pattern": ["[a-z]+", "(b)", "^a", "[0-9]{2}", "x=([^&]*)", "(?i)ABC", ".", "$", r"\s+"],
    "place": ["0", "1", "2", "-1", "-2", "5"],
    "few": ["0", "1", "2"],
    "amount": ["1", "-1", "40", "id"],
    "side": ["TRIM", "LTRIM", "RTRIM"],
    "whole": ["CEIL", "FLOOR", "TRUNC", "ABS", "ROUND"],
    "most": ["MAX", "MIN", "SUM"],
    "element": [
        *("x.key = 'a'", "x.v > 0", "x.v IS NULL", "x.key IN ('a', 'x')", "x.key = u", "x.v = i"),
        *("x.w >= 0.5 OR x.v < 0", "TRUE"),
    ],
}
FORMS: Final = {
    "int": [
        "({int} {plus} {int})",
        "LENGTH({text})",
        "IF({bool}, {int}, {int})",
        "COALESCE({int}, {int})",
        "SAFE_CAST({text} AS INT64)",
        "CAST({float} AS INT64)",
        "SAFE_CAST({float} AS INT64)",
        "DIV({int}, {int})",
        "MOD({int}, {int})",
        "ABS({int})",
        "STRPOS({text}, {text})",
        "EXTRACT({part} FROM {day})",
        "EXTRACT({week} FROM {moment})",
        "EXTRACT({clock} FROM {local})",
        "EXTRACT(HOUR FROM {moment} AT TIME ZONE '{zone}')",
        "DATE_DIFF({day}, {day}, {span})",
        "DATETIME_DIFF({local}, {local}, {clock})",
        "DATETIME_DIFF({local}, {local}, {shift})",
        "TIMESTAMP_DIFF({moment}, {moment}, {clock})",
        "TIMESTAMP_DIFF({moment}, {moment}, DAY)",
        "UNIX_{scale}({moment})",
        "GREATEST({int}, {int})",
        "NULLIF({int}, {int})",
        "(SELECT {most}(x.v) FROM UNNEST(kv) x WHERE {element})",
        "(SELECT COUNT(*) FROM UNNEST(kv) x WHERE {element})",
        "(SELECT COUNTIF({element}) FROM UNNEST(kv) x)",
        "(SELECT x.v FROM UNNEST(kv) x WHERE {element} LIMIT 1)",
        "(SELECT v FROM UNNEST(kv) WHERE key = 'a')",
        "(SELECT x + {int} FROM UNNEST(ai) x WITH OFFSET o WHERE o = {few})",
        "ai[SAFE_OFFSET({int})]",
        "ai[OFFSET({few})]",
        "ARRAY_LENGTH({array})",
        "CASE {int} WHEN {int} THEN {int} ELSE {int} END",
        "CAST({bool} AS INT64)",
    ],
    "float": [
        "({float} {plus} {float})",
        "({float} / {float})",
        "({int} / {int})",
        "SAFE_DIVIDE({float}, {float})",
        "ROUND({float}, {few})",
        "{whole}({float})",
        "IF({bool}, {float}, {int})",
        "SAFE_CAST({text} AS FLOAT64)",
        "COALESCE({float}, {int})",
        "LEAST({float}, {int})",
        "NULLIF({float}, {float})",
        "(-{float})",
        "(SELECT {most}(x.w) FROM UNNEST(kv) x WHERE {element})",
    ],
    "text": [
        "({text} || {text})",
        "CONCAT({text}, {text}, 'z')",
        "UPPER({text})",
        "LOWER({text})",
        "{side}({text})",
        "TRIM({text}, 'ab')",
        "SUBSTR({text}, {place})",
        "SUBSTR({text}, {place}, {few})",
        "REPLACE({text}, {text}, {text})",
        "CAST({int} AS STRING)",
        "CAST({float} AS STRING)",
        "CAST({day} AS STRING)",
        "CAST({moment} AS STRING)",
        "CAST({local} AS STRING)",
        "REGEXP_EXTRACT({text}, r'{pattern}')",
        r"REGEXP_REPLACE({text}, r'{pattern}', r'<\0>')",
        "SPLIT({text}, '/')[SAFE_OFFSET({few})]",
        "FORMAT_DATE('%Y%m%d|%j|%a|%G-%V|%U|%W|%Q', {day})",
        "FORMAT_TIMESTAMP('%F %T %E6S', {moment}, '{zone}')",
        "FORMAT_DATETIME('%x %X %e', {local})",
        "COALESCE({text}, {text})",
        "TO_JSON_STRING({int})",
        "TO_JSON_STRING({float})",
        "TO_JSON_STRING({array})",
        "TO_JSON_STRING(STRUCT({text} AS a, {moment} AS b))",
        "TO_JSON_STRING(kv)",
        "(SELECT STRING_AGG(x.key, '-') FROM UNNEST(kv) x WHERE {element})",
        "(SELECT key FROM UNNEST(kv) x WHERE {element} ORDER BY key, v LIMIT 1)",
        "ARRAY_TO_STRING(ARRAY(SELECT DISTINCT x.key FROM UNNEST(kv) x ORDER BY x.key DESC), ',')",
        "TO_HEX(SHA256({text}))",
    ],
    "bool": [
        "({int} {compare} {int})",
        "({float} {compare} {float})",
        "({float} {compare} {int})",
        "({text} {compare} {text})",
        "({moment} {compare} {moment})",
        "({bool} AND {bool})",
        "({bool} OR {bool})",
        "(NOT {bool})",
        "({int} {not}IN ({int}, {int}))",
        "({float} {not}IN ({float}, {float}))",
        "({int} IN UNNEST(ai))",
        "({float} BETWEEN {float} AND {float})",
        "({text} LIKE '%b%')",
        "REGEXP_CONTAINS({text}, r'{pattern}')",
        "({text} IS {not}NULL)",
        "({int} IS NOT DISTINCT FROM {int})",
        "EXISTS(SELECT 1 FROM UNNEST(kv) x WHERE {element})",
        "({int} {not}IN (SELECT v FROM UNNEST(kv)))",
        "(SELECT LOGICAL_OR({element}) FROM UNNEST(kv) x)",
    ],
    "day": [
        "DATE_ADD({day}, INTERVAL {amount} {shift})",
        "DATE_SUB({day}, INTERVAL 13 {shift})",
        "DATE_TRUNC({day}, {span})",
        "DATE({moment}, '{zone}')",
        "DATE({local})",
        "SAFE_CAST({text} AS DATE)",
        "SAFE.PARSE_DATE('%Y%m%d', {text})",
        "LAST_DAY({day})",
        "({day} + 30)",
        "EXTRACT(DATE FROM {moment} AT TIME ZONE '{zone}')",
    ],
    "moment": [
        "TIMESTAMP_ADD({moment}, INTERVAL {amount} {clock})",
        "TIMESTAMP_TRUNC({moment}, {clock})",
        "TIMESTAMP_TRUNC({moment}, HOUR, '{zone}')",
        "TIMESTAMP_TRUNC({moment}, {span}, '{zone}')",
        "TIMESTAMP({local}, '{zone}')",
        "TIMESTAMP({day})",
        "TIMESTAMP_{scale}({int})",
        "SAFE.TIMESTAMP_{scale}(i)",
        "COALESCE({moment}, {moment})",
    ],
    "local": [
        "DATETIME_ADD({local}, INTERVAL {amount} {shift})",
        "DATETIME_TRUNC({local}, {span})",
        "DATETIME({moment}, '{zone}')",
        "CAST({moment} AS DATETIME)",
    ],
    "array": [
        "ARRAY(SELECT x.v FROM UNNEST(kv) x WHERE x.v IS NOT NULL AND {element})",
        "ARRAY_CONCAT({array}, {array})",
        "ARRAY(SELECT x * 2 FROM UNNEST({array}) x WITH OFFSET o ORDER BY o DESC)",
        "ARRAY(SELECT x FROM UNNEST({array}) x ORDER BY x DESC LIMIT 2)",
        "GENERATE_ARRAY({few}, 4)",
    ],
}
AGGREGATES: Final = [
    "COUNT(*)",
    "COUNT({text})",
    "COUNT(DISTINCT {int})",
    "SUM(IF(i > 100, 0, 1))",
    "MIN({float})",
    "MAX({text})",
    "AVG(id)",
    "COUNTIF({bool})",
    "LOGICAL_AND({bool})",
    "STRING_AGG(s, '|' ORDER BY id DESC)",
    "STRING_AGG(DISTINCT u, '|' ORDER BY u)",
    "ARRAY_TO_STRING(ARRAY_AGG(s IGNORE NULLS ORDER BY id LIMIT 2), ',')",
]
QUERIES: Final = [
    "SELECT {int} AS k, {aggregate} AS a FROM t WHERE {bool} GROUP BY k ORDER BY k",
    "SELECT {float} AS k, {aggregate} AS a FROM t GROUP BY 1 HAVING COUNT(*) > 1 ORDER BY 1 DESC",
    "SELECT {text} AS k, {aggregate} AS a, {aggregate} AS z FROM t GROUP BY 1 ORDER BY 1",
    "SELECT DISTINCT {day} AS a, {bool} AS z FROM t ORDER BY a, z LIMIT 4",
    "SELECT {int} AS a FROM t WHERE {bool} UNION DISTINCT SELECT {int} FROM t ORDER BY a",
    "SELECT {text} AS a FROM t EXCEPT DISTINCT SELECT {text} FROM t WHERE {bool} ORDER BY a",
    "SELECT id, x.key, v, o FROM t LEFT JOIN UNNEST(kv) x WITH OFFSET o WHERE {bool} ORDER BY 1, 4",
    """SELECT a.id, b.s FROM t a LEFT JOIN (SELECT * FROM t WHERE {bool}) b ON a.i = b.j
    ORDER BY a.id, b.s""",
    """SELECT id, a.s AS x, b.u AS y FROM t a FULL JOIN (SELECT id, u FROM t WHERE {bool}) b
    USING (id) ORDER BY id""",
    "SELECT id, SUM(id) OVER (PARTITION BY {bool} ORDER BY f, id) AS w FROM t ORDER BY id",
    "SELECT id, RANK() OVER (ORDER BY {float} DESC) AS w FROM t ORDER BY id",
    "SELECT id, LAG(s) OVER (PARTITION BY b ORDER BY {text}, id) AS w FROM t ORDER BY id",
    """SELECT id FROM t QUALIFY ROW_NUMBER() OVER (PARTITION BY b ORDER BY {moment}, id) = 1
    ORDER BY id""",
    """WITH w AS (SELECT id, {int} AS n, kv FROM t WHERE {bool})
    SELECT id, (SELECT MAX(x.v) FROM UNNEST(kv) x WHERE x.v < n) AS l,
    EXISTS(SELECT 1 FROM w z WHERE z.n > w.n) AS e FROM w ORDER BY id""",
]
_SLOT: Final = re.compile(r"\{([a-z]+)\}")


class Sentences:
    """An endless supply of expressions and queries."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def expression(self, depth: int) -> str:
        """``SELECT id, … FROM t`` with an expression of any kind."""
        kind = self._random.choice(list(LEAVES))
        return f"SELECT id, {self._kind(kind, depth)} AS x FROM t ORDER BY id"

    def query(self, depth: int) -> str:
        """A query with grouping, joins, windows, sets or common table expressions."""
        return self._filled(self._random.choice(QUERIES), depth)

    def _kind(self, kind: str, depth: int) -> str:
        if kind == "aggregate":
            return self._filled(self._random.choice(AGGREGATES), depth)
        if kind in WORDS:
            return self._random.choice(WORDS[kind])
        forms = FORMS[kind] if depth > 0 else LEAVES[kind]
        return self._filled(self._random.choice(forms), depth - 1)

    def _filled(self, form: str, depth: int) -> str:
        return _SLOT.sub(lambda slot: self._kind(slot[1], depth), form)
