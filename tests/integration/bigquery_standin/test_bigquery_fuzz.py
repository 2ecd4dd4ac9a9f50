"""Random GoogleSQL: whatever the stand-in answers is what Google's evaluator answers.

Refusals are allowed (a hexadecimal number in a text, a loosely written date), wrong rows never. Not
failing where Google fails is allowed too: neither says in which order parts are evaluated, and
DuckDB proves some of them unneeded.
"""

import pytest

from tests.integration.bigquery_standin.grammar import COLUMNS, Sentences, rows
from tests.integration.bigquery_standin.judging import Verdict, court


def _wrong(verdict: Verdict) -> bool:
    if verdict.agrees or verdict.refused:
        return False
    return not isinstance(verdict.oracle, str)


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
