"""Names in addresses, and words for everything that the database gives points for."""

import re
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troupe.common.errors import NotFound
from troupe.http.history_ids import (
    read_session_id,
    read_user_id,
    session_id_of,
    user_id_of,
)
from troupe.http.task_reasons import REASONS

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40)


def test_every_reason_has_words() -> None:
    following = files("troupe.actors.analytics").joinpath("following.sql").read_text()
    migration = files("troupe.common.migrations").joinpath("0015_tasks.sql").read_text()
    given_points = set(re.findall(r"'reason', '(\w+)', 'points'", following.replace("\n", " ")))
    given_points |= set(re.findall(r"SELECT \d(?: AS place)?, '(\w+)'", migration))
    assert given_points == REASONS.keys()


@given(TEXTS, TEXTS, st.integers(-(2**63), 2**63 - 1))
def test_a_session_is_found_by_its_name(stream: str, visitor: str, number: int) -> None:
    name = session_id_of(stream, visitor, number)
    assert name is not None
    assert re.fullmatch(r"[A-Za-z0-9_-]+", name)
    assert read_session_id(name) == (stream, visitor, number)
    with pytest.raises(NotFound):
        read_user_id(name)


@given(st.booleans(), TEXTS)
def test_a_person_is_found_by_their_name(is_customer: bool, person: str) -> None:
    name = user_id_of(is_customer=is_customer, person_id=person)
    assert name is not None
    assert read_user_id(name) == (is_customer, person)
    with pytest.raises(NotFound):
        read_session_id(name)


@given(st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_-]{0,60}", fullmatch=True))
def test_anything_else_is_nobody(text: str) -> None:
    for read in (read_session_id, read_user_id):
        try:
            found = read(text)
        except NotFound:
            continue
        assert found  # it was a name by chance


@pytest.mark.parametrize(
    "name", ["WyJ3ZWIiLCJ2MSIsdHJ1ZV0", "WyJjIiwiXHUwMDAwIl0", "W1tbW1tbW1tbW1tbW1tbW1tbW1s"]
)
def test_a_flag_is_no_number_and_nothing_holds_what_cannot_be_stored(name: str) -> None:
    for read in (read_session_id, read_user_id):
        with pytest.raises(NotFound):
            read(name)


def test_without_a_key_there_is_no_name() -> None:
    assert session_id_of("web", None, 1) is None
    assert session_id_of("web", "v1", None) is None
    assert user_id_of(is_customer=False, person_id=None) is None
