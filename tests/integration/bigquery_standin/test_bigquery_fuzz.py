"""Random GoogleSQL: whatever the stand-in answers is what Google's evaluator answers.

Refusals are allowed (a hexadecimal number in a text, a loosely written date), wrong rows never. Not
failing where Google fails is allowed too: neither says in which order parts are evaluated, and
DuckDB proves some of them unneeded.
"""

import pytest

from tests.integration.bigquery_standin.grammar import COLUMNS, Sentences, rows
from tests.integration.bigquery_standin.judging import Verdict, court
from troupe_demo.bigquery.types import FLOAT64, INT64, Field


def _wrong(verdict: Verdict) -> bool:
    if verdict.agrees or verdict.refused:
        return False
    return not isinstance(verdict.oracle, str)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT f FROM t ORDER BY f DESC",
        "SELECT f > 1, f <> f, f IN (1.5), IF(f < 100, 'yes', 'no') FROM t ORDER BY id",
        "SELECT MAX(f), MIN(f) FROM t",
        "SELECT TO_JSON_STRING(f), CAST(f AS STRING) FROM t ORDER BY id",
        "SELECT COUNT(*) FROM t WHERE f < 100",
        "SELECT SUM(id) OVER (ORDER BY f) FROM t ORDER BY id",
    ],
)
def test_nan_is_seen_although_statistics_hide_it(tmp_path, query: str):
    """DuckDB takes a Parquet column with a finite minimum and maximum for one without NaN."""
    values = [1.5, float("nan"), 2.5, None]
    stored = [{"id": n, "f": value} for n, value in enumerate(values)]
    with court(tmp_path, [Field("id", INT64), Field("f", FLOAT64)], stored) as judge:
        verdict = judge.judge(query)
    assert verdict.agrees, verdict


@pytest.mark.parametrize("seed", [1, 2])
def test_random_expressions_mean_the_same(tmp_path, seed: int):
    sentences = Sentences(seed)
    with court(tmp_path, COLUMNS, rows(seed)) as judge:
        verdicts = [judge.judge(sentences.expression(1 + n % 3)) for n in range(45)]
    assert [v for v in verdicts if _wrong(v)] == []
    assert sum(v.agrees for v in verdicts) > 30  # most of it must be worth comparing


@pytest.mark.parametrize("seed", [4])
def test_random_queries_mean_the_same(tmp_path, seed: int):
    sentences = Sentences(seed)
    with court(tmp_path, COLUMNS, rows(seed)) as judge:
        verdicts = [judge.judge(sentences.query(n % 2 + 1)) for n in range(45)]
    assert [v for v in verdicts if _wrong(v)] == []
    assert sum(v.agrees for v in verdicts) > 30
