"""What the compiler accepts, what it refuses and with which words, and what it says is read."""

import pytest

from tests.unit.bigquery_standin.compiling import LEAVES, MemoryTable, compiled, refusal_of
from troupe_demo.bigquery.errors import BigQueryError

KEY, TEXT, NUMBER = 4, 8, 16


@pytest.mark.parametrize(
    ("sql", "weight"),
    [
        ("SELECT event_name FROM t", 1),
        ("SELECT COUNT(*) FROM t", 0),
        ("SELECT COUNT(*) FROM t WHERE revenue > 1", 128),
        ("SELECT device FROM t", 32 + 64),
        ("SELECT device.category FROM t", 32),
        ("SELECT x.device.language FROM t AS x", 64),
        ("SELECT * FROM t", sum(LEAVES.values())),
        ("SELECT * EXCEPT (event_params, device) FROM t", 1 + 2 + 128 + 256),
        ("SELECT a FROM (SELECT event_name AS a, revenue FROM t)", 1),
        ("WITH w AS (SELECT * FROM t) SELECT device.category FROM w", 32),
        ("WITH w AS (SELECT * FROM t WHERE revenue > 0) SELECT device.category FROM w", 32 + 128),
        ("SELECT p.key FROM t, UNNEST(event_params) AS p", KEY),
        ("SELECT value.int_value FROM t, UNNEST(event_params)", NUMBER),
        (
            "SELECT (SELECT value.int_value FROM UNNEST(event_params) WHERE key = 'a') FROM t",
            KEY + NUMBER,
        ),
        (
            "SELECT EXISTS(SELECT 1 FROM UNNEST(event_params) WHERE key = 'a') FROM t",
            KEY,
        ),
        (
            "SELECT ARRAY(SELECT AS STRUCT key, value.string_value FROM t.event_params) FROM t",
            KEY + TEXT,
        ),
        ("SELECT event_params[SAFE_OFFSET(0)].value.int_value FROM t", NUMBER),
        ("SELECT a.event_name FROM t AS a JOIN t AS b USING (event_timestamp)", 1 + 2),
        ("SELECT event_name FROM t ORDER BY revenue", 1 + 128),
        ("SELECT event_name, COUNT(*) FROM t GROUP BY event_name HAVING MAX(revenue) > 1", 1 + 128),
        ("SELECT ROW_NUMBER() OVER (PARTITION BY event_name ORDER BY revenue) FROM t", 1 + 128),
        ("SELECT (SELECT MAX(revenue) FROM t) AS m", 128),
        ("SELECT event_name FROM t UNION ALL SELECT device.category FROM t", 1 + 32),
        ("SELECT TO_JSON_STRING(device) FROM t", 32 + 64),
        ("SELECT 1", 0),
    ],
)
def test_only_the_leaves_that_a_result_depends_on_are_charged(sql: str, weight: int):
    assert compiled(sql).bytes_read() == weight


def test_parameters_are_read_by_list_functions_and_not_by_joins():
    keys = ", ".join(
        f"(SELECT value.int_value FROM UNNEST(event_params) WHERE key = '{key}') AS {key}"
        for key in ("a", "b", "c")
    )
    program = compiled(f"SELECT {keys}, EXISTS(SELECT 1 FROM UNNEST(event_params)) FROM t")
    assert "unnest(" not in program.sql
    sorted_by_value = "(SELECT key FROM UNNEST(event_params) ORDER BY key LIMIT 1)"
    assert "unnest(" in compiled(f"SELECT {sorted_by_value} FROM t").sql


def test_a_wildcard_charges_every_table_that_is_not_spared():
    tables = [MemoryTable(f"events_2026010{n}") for n in (1, 2, 3)]
    everything = "SELECT event_name FROM `events_*`"
    assert compiled(everything, *tables).bytes_read() == 3
    spared = compiled(
        f"{everything} WHERE _TABLE_SUFFIX >= '20260102' AND revenue > 0",
        *tables,
        evaluate=lambda _sql: ["events_20260101"],
    )
    assert spared.bytes_read() == 2 * (1 + 128)
    assert "20260101" not in spared.sql.replace("20260102", "")


def test_a_wildcard_on_the_padded_side_of_a_join_spares_nothing():
    tables = [MemoryTable("t"), MemoryTable("events_20260101")]
    sql = (
        "SELECT t.event_name FROM t LEFT JOIN `events_*` AS e USING (event_timestamp)"
        " WHERE e._TABLE_SUFFIX IS NULL"
    )
    program = compiled(sql, *tables, evaluate=lambda _sql: ["events_20260101"])
    assert program.bytes_read() == 1 + 2 + 2


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        (
            "SELECT event_name, COUNT(*), SUM(revenue) FROM t GROUP BY 1",
            ["event_name", "f0_", "f1_"],
        ),
        ("SELECT device.category, 1 AS one, (SELECT 2) FROM t", ["category", "one", "f0_"]),
        ("SELECT CAST(revenue AS STRING), revenue AS r FROM t", ["f0_", "r"]),
        ("SELECT p FROM t, UNNEST(event_params) AS p WITH OFFSET", ["p"]),
        (
            "SELECT p.*, offset FROM t, UNNEST(event_params) AS p WITH OFFSET",
            ["key", "value", "offset"],
        ),
    ],
)
def test_columns_are_named_as_bigquery_names_them(sql: str, names: list[str]):
    assert [column.name for column in compiled(sql).columns] == names


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT foo FROM t", "Unrecognized name: foo at [1:8]"),
        ("SELECT\n  t.foo FROM t", "Name foo not found inside t at [2:5]"),
        (
            "SELECT device.foo FROM t",
            "Field name foo does not exist in STRUCT<category STRING, language STRING> at [1:15]",
        ),
        (
            "SELECT event_name.x FROM t",
            "Cannot access field x on a value with type STRING at [1:19]",
        ),
        ("SELECT 1 +", "Syntax error"),
        ("SELEC 1", "Syntax error: Unexpected"),
        ("banana", 'Syntax error: Unexpected identifier "banana"'),
        ("", "Syntax error: Unexpected end of statement"),
        ("SELECT event_name FROM t AS a, t AS b", "Column name event_name is ambiguous at [1:8]"),
        ("SELECT 1 FROM t, t", "Duplicate table alias t"),
        ("SELECT event_name = 1 FROM t", "No matching signature for operator ="),
        ("SELECT event_name FROM t WHERE event_name", "WHERE clause should return type BOOL"),
        ("SELECT @day", "Query parameter 'day' not found at [1:8]"),
        ("SELECT event_name AS a, revenue AS a FROM t", "Duplicate column names in the result"),
        ("SELECT 1 UNION ALL SELECT 'a'", "has incompatible types: INT64, STRING"),
        ("SELECT 1 UNION ALL SELECT 1, 2", "mismatched column count"),
        ("SELECT x FROM UNNEST(5) AS x", "must be arrays; found INT64"),
        ("SELECT 1 FROM missing", "Not found: Table p:d.missing"),
        ("SELECT 1 FROM `nothing_*`", "does not match any table"),
        ("SELECT NO_SUCH(1)", "Function not found: NO_SUCH"),
        ("SELECT DATE '2026-13-01'", "Could not cast literal '2026-13-01' to type DATE"),
        ("SELECT event_name FROM t ORDER BY 2", "out of SELECT column number range"),
        ("SELECT 1 < 2 < 3", "must be parenthesized"),
    ],
)
def test_mistakes_are_told_in_bigquerys_words(sql: str, message: str):
    with pytest.raises(BigQueryError) as caught:
        compiled(sql)
    assert message in caught.value.message
    assert caught.value.reason in ("invalidQuery", "notFound")


@pytest.mark.parametrize(
    ("sql", "construct"),
    [
        ("SELECT event_name FROM t TABLESAMPLE SYSTEM (10 PERCENT)", "SAMPLE"),
        ("SELECT 1 FROM t FOR SYSTEM_TIME AS OF CURRENT_TIMESTAMP()", "VERSION"),
        ("SELECT * FROM t PIVOT(SUM(revenue) FOR event_name IN ('a'))", "PIVOTS"),
        ("SELECT event_name FROM t GROUP BY ROLLUP (event_name)", "ROLLUP"),
        ("SELECT event_name FROM t GROUP BY ALL", "ALL in GROUP"),
        ("WITH RECURSIVE r AS (SELECT 1 AS a) SELECT a FROM r", "RECURSIVE"),
        ("SELECT SUM(revenue) OVER w FROM t WINDOW w AS (ORDER BY revenue)", "WINDOWS"),
        ("SELECT 1 UNION ALL BY NAME SELECT 2", "BY NAME"),
        ("SELECT APPROX_QUANTILES(revenue, 4) FROM t", "APPROX_QUANTILES"),
        ("SELECT FORMAT('%d', 1)", "FORMAT"),
        ("SELECT NUMERIC '1' / 3", "division of NUMERIC"),
        ("SELECT BIGNUMERIC '1'", "BIGNUMERIC"),
        ("SELECT INTERVAL 1 DAY", "INTERVAL"),
        ("SELECT device = device FROM t", "STRUCT values"),
        ("SELECT ANY_VALUE(event_name HAVING MAX revenue) FROM t", "HAVING in ANY_VALUE"),
        ("SELECT REGEXP_EXTRACT(event_name, r'(a)?b') FROM t", "may take no part"),
        ("SELECT REGEXP_EXTRACT(event_name, event_name) FROM t", "pattern of REGEXP_EXTRACT"),
        ("SELECT SAFE.SUBSTR('a', 1, 2)", "SAFE.SUBSTR"),
        ("SELECT FORMAT_DATE('%Z', CURRENT_DATE())", "%Z in a format"),
        ("SELECT DATE(CURRENT_TIMESTAMP(), '+02:00')", "time zone given as an offset"),
        ("SELECT 1; SELECT 2", "scripts"),
        ("CREATE TABLE x AS SELECT 1", "only queries, not CREATE"),
        ("DELETE FROM t WHERE TRUE", "only queries, not DELETE"),
        ("SELECT revenue::STRING FROM t", '"::"'),
        ("FROM t |> WHERE revenue > 1", "pipe syntax"),
        ("SELECT 1 FROM t CROSS JOIN t AS b ON TRUE NATURAL JOIN t AS c", "METHOD"),
        ("SELECT 1 FROM `region-us`.INFORMATION_SCHEMA.TABLES", "region-us"),
        ("SELECT 1 FROM d.INFORMATION_SCHEMA.VIEWS", "INFORMATION_SCHEMA.VIEWS"),
    ],
)
def test_what_cannot_be_answered_rightly_is_refused_by_name(sql: str, construct: str):
    assert construct in refusal_of(sql)


def test_places_are_counted_in_lines_and_columns():
    assert refusal_of("SELECT event_name,\n\n   nothing\nFROM t").endswith("at [3:4]")


def test_parameters_become_typed_constants_in_their_order():
    named = compiled(
        "SELECT event_name FROM t WHERE event_name IN UNNEST(@names) AND revenue > @least",
        parameters=[
            {
                "name": "names",
                "parameterType": {"type": "ARRAY", "arrayType": {"type": "STRING"}},
                "parameterValue": {"arrayValues": [{"value": "a"}, {"value": "o'b"}]},
            },
            {
                "name": "least",
                "parameterType": {"type": "INT64"},
                "parameterValue": {"value": "3"},
            },
        ],
    )
    assert "'o''b'" in named.sql
    positional = compiled(
        "SELECT ? AS a FROM t WHERE event_name = ?",
        parameters=[
            {"parameterType": {"type": "INT64"}, "parameterValue": {"value": "7"}},
            {"parameterType": {"type": "STRING"}, "parameterValue": {"value": "x"}},
        ],
    )
    assert str(positional.columns[0].type) == "INT64"
    with pytest.raises(BigQueryError, match="not a valid value"):
        compiled(
            "SELECT @n",
            parameters=[
                {"name": "n", "parameterType": {"type": "INT64"}, "parameterValue": {"value": "x"}}
            ],
        )


def test_arguments_cannot_leave_their_literals():
    program = compiled("""SELECT event_name FROM t WHERE event_name = "a' OR 1=1 --" """)
    assert "'a'' OR 1=1 --'" in program.sql


def test_a_wildcard_speaks_the_newest_schema():
    old = MemoryTable("events_1", columns=MemoryTable("x").columns[:2], created=1)
    new = MemoryTable("events_2", created=2)
    assert len(compiled("SELECT * FROM `events_*`", old, new).columns) == 6
    reversed_ages = (
        MemoryTable("events_1", created=3),
        MemoryTable("events_2", columns=old.columns),
    )
    assert len(compiled("SELECT * FROM `events_*`", *reversed_ages).columns) == 6
    older_wins = (
        MemoryTable("events_1", columns=old.columns, created=3),
        MemoryTable("events_2", created=2),
    )
    assert len(compiled("SELECT * FROM `events_*`", *older_wins).columns) == 2
