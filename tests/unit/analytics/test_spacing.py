"""Which tasks may be raised, against the definition: pair by pair."""

from datetime import UTC, datetime, timedelta
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from troupe.actors.analytics.spacing import Candidate, Person, refused

START = datetime(2026, 3, 1, tzinfo=UTC)
persons = st.builds(Person, st.booleans(), st.sampled_from("ab"))
moments = st.integers(0, 40).map(lambda days: START + timedelta(days=days))


@given(
    wanted=st.lists(st.tuples(persons, moments), max_size=12),
    raised=st.lists(st.tuples(persons, moments), max_size=6),
    days=st.integers(0, 15),
)
def test_nobody_gets_a_second_task_within_the_cooldown_and_nobody_is_left_out(
    wanted: list[tuple[Person, datetime]], raised: list[tuple[Person, datetime]], days: int
) -> None:
    cooldown = timedelta(days=days)
    wanted.sort(key=lambda pair: pair[1])
    candidates = [
        Candidate(bytes([number]), person, moment) for number, (person, moment) in enumerate(wanted)
    ]
    without = refused(candidates, raised, cooldown)
    chosen = [one for one in candidates if one.subject not in without]

    def near(one: Candidate, person: Person, moment: datetime) -> bool:
        return one.person == person and abs(one.raised_at - moment) < cooldown

    for one, other in combinations(chosen, 2):
        assert not near(one, other.person, other.raised_at)
    for one in chosen:
        assert not any(near(one, *pair) for pair in raised)
    for one in candidates:
        if one.subject in without:
            earlier = [(c.person, c.raised_at) for c in chosen if c.raised_at <= one.raised_at]
            assert any(near(one, *pair) for pair in [*raised, *earlier])


def test_the_earliest_counts_and_the_next_counts_from_it() -> None:
    ada = Person(is_customer=True, person_id="a")
    found = [Candidate(bytes([day]), ada, START + timedelta(days=day)) for day in (0, 4, 8, 11, 15)]
    assert refused(found, [], timedelta(days=7)) == [b"\x04", b"\x0b"]
