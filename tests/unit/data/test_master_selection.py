"""Which files a name, a pattern or a date means, and which names are passed over."""

import fnmatch
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troupe.actors.data.master_selection import Found, Pattern, choose, is_usable_name


def found(minute: int = 0) -> Found:
    return Found(1, datetime(2026, 11, 26, 12, minute, tzinfo=UTC))


def names(pattern: str, listed: list[str], take: str = "all") -> list[str]:
    files = [(name, found(number)) for number, name in enumerate(listed)]
    chosen = choose(Pattern(pattern), files, "newest" if take == "newest" else "all")
    return [candidate.file for candidate in chosen]


def test_a_plain_name_is_itself() -> None:
    assert Pattern("out/customers.csv").is_plain
    assert names("out/c.csv", ["c.csv", "c.csvx", "C.csv"]) == ["out/c.csv"]


def test_the_newest_is_the_one_with_the_latest_date_in_its_name() -> None:
    listed = ["c_20261126.csv", "c_20261125.csv", "c_20251231.csv", "c_20261301.csv"]
    assert names("c_{YYYY}{MM}{DD}.csv", listed, "newest") == ["c_20261126.csv"]
    assert names("c_{YYYY}{MM}{DD}.csv", listed) == [
        "c_20251231.csv",
        "c_20261125.csv",
        "c_20261126.csv",
    ]


def test_a_date_may_be_written_in_any_order_and_with_a_time() -> None:
    listed = ["01.12.2026-0900 c.csv", "30.11.2026-2300 c.csv", "30.11.2026-0100 c.csv"]
    assert names("{DD}.{MM}.{YYYY}-{hh}{mm} *.csv", listed) == [listed[2], listed[1], listed[0]]


def test_without_a_date_the_time_of_writing_decides() -> None:
    assert names("*.csv", ["z.csv", "a.csv"], "newest") == ["a.csv"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".hidden.csv",
        "..",
        "../c.csv",
        "/etc/c.csv",
        "c.csv.part",
        "c.csv.FILEPART",
        "c.tmp",
        "c.csv~",
        "c\n.csv",
        "c\x00.csv",
        "c\u202e.csv",
        "c" * 256,
    ],
)
def test_names_that_are_passed_over(name: str) -> None:
    assert not is_usable_name(name)


def test_names_that_are_not() -> None:
    assert all(map(is_usable_name, ["c.csv", "Kunden Süd (2).xlsx", "=1+1.csv", "part.csv"]))


globs = st.text(st.sampled_from("ab*?."), min_size=1, max_size=12)


@given(globs, st.text(st.sampled_from("ab."), min_size=1, max_size=14))
def test_stars_and_question_marks_mean_what_they_mean_elsewhere(glob: str, name: str) -> None:
    pattern = Pattern(glob)
    assert (pattern.place_of(name) is not None) == fnmatch.fnmatchcase(name, glob)


def test_brackets_mean_nothing() -> None:
    assert names("[ab]*.csv", ["[ab]1.csv", "a1.csv"]) == ["[ab]1.csv"]


def test_a_name_that_is_made_to_hurt_costs_little() -> None:
    pattern = Pattern("*a*a*a*a*a*a*a*b")
    begin = time.perf_counter()
    assert pattern.place_of("a" * 255) is None
    assert time.perf_counter() - begin < 0.5  # it would be years
