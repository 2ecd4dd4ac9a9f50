"""Everything TRAPS lists, and more: the stand-in must say what Google's evaluator says."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.bigquery_standin.judging import Court, court
from tests.integration.bigquery_standin.shop import day_rows
from troupe_demo.bigquery.types import INT64, STRING, Field, array_of, type_of_arrow
from troupe_demo.ga4.schema import DAILY_SCHEMA

HERE = Path(__file__).parent
PARAMETERS = {
    "names": (array_of(STRING), ["page_view", "purchase"]),
    "least": (INT64, 3),
    "nothing": (STRING, None),
}


def _queries(name: str) -> list[str]:
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    return [line.removesuffix(";") for line in lines if line and not line.startswith("--")]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory):
    columns = [Field(f.name, type_of_arrow(f.type)) for f in DAILY_SCHEMA]
    with court(tmp_path_factory.mktemp("battery"), columns, day_rows("20260101", 25)) as opened:
        yield opened


@pytest.mark.parametrize("query", _queries("battery_export.sql"))
def test_questions_of_an_export_are_answered_as_by_google(export: Court, query: str):
    verdict = export.judge(query, PARAMETERS if "@" in query else None)
    assert not verdict.refused
    assert verdict.agrees or verdict.both_fail, verdict


@pytest.mark.parametrize("query", _queries("battery_language.sql"))
def test_the_language_means_what_google_says(export: Court, query: str):
    verdict = export.judge(query)
    assert not verdict.refused
    assert verdict.agrees or verdict.both_fail, verdict


def test_the_judge_can_tell_a_wrong_answer(export: Court):
    """The broken twin: a difference in a value, in a type or in success is seen."""
    right = export.judge("SELECT 1")
    for wrong in ("SELECT 2", "SELECT 1.0", "SELECT 1/0", "SELECT 1 UNION ALL SELECT 1"):
        other = export.judge(wrong)
        assert right.stand_in != other.oracle
        assert right.oracle != other.stand_in


def test_the_judge_minds_the_order_only_where_the_query_asks_for_one(export: Court):
    verdict = export.judge("SELECT x FROM UNNEST([1, 2]) x ORDER BY x")
    types, rows = verdict.oracle
    turned = (types, rows[::-1])
    assert not replace(verdict, oracle=turned).agrees
    assert replace(verdict, query="SELECT x FROM UNNEST([1, 2]) x", oracle=turned).agrees
