import random
from decimal import Decimal

import pytest

from troupe.actors.analytics.answers import Branch, BranchSummaries, Summary
from troupe.actors.analytics.metrics import Measures
from troupe.actors.analytics.ranking import Place, Ranking


def branches(dice: random.Random, count: int = 40) -> BranchSummaries:
    return {
        Branch(f"b{number}", dice.choice(["North", "south", "North", None]), None): summary(dice)
        for number in dice.sample(range(count), count)
    }


def summary(dice: random.Random) -> Summary:
    return Summary(
        Measures(
            sessions=dice.choice((0, 5, 9)),
            engaged_sessions=dice.randint(0, 5),
            gross_revenue=Decimal(dice.choice(("0", "-3", "12.50", "12.5", "1e20"))),
        )
    )


@pytest.mark.parametrize("field", ["gross_revenue", "sessions", "bounce_rate", "name"])
@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("size", [1, 7, 100])
def test_pages_are_complete_and_in_order(field: str, descending: bool, size: int) -> None:
    ranking = Ranking(field, descending)
    summaries = branches(random.Random(size))
    whole = ranking.order(summaries)
    assert sorted(whole, key=repr) == sorted(summaries, key=repr)
    seen: list[Branch] = []
    place: Place | None = None
    while page := ranking.order(summaries, after=place)[:size]:
        seen += page
        assert len(seen) <= len(whole)
        place = ranking.place(page[-1], summaries[page[-1]])
        assert tuple(map(type, place)) == ranking.place_types
    assert seen == whole


def test_unknown_figures_are_the_least_and_equal_ones_stand_by_id() -> None:
    def row(identifier: str, sessions: int, engaged: int) -> tuple[Branch, Summary]:
        measures = Measures(sessions=sessions, engaged_sessions=engaged)
        return Branch(identifier, None, None), Summary(measures)

    summaries = dict([row("d", 0, 0), row("c", 4, 4), row("b", 4, 1), row("a", 4, 1)])
    falling = [branch.location_id for branch in Ranking("bounce_rate", True).order(summaries)]
    rising = [branch.location_id for branch in Ranking("bounce_rate", False).order(summaries)]
    assert falling == ["a", "b", "c", "d"]
    assert rising == ["d", "c", "a", "b"]


def test_a_page_goes_on_where_the_last_ended_whatever_has_changed() -> None:
    """The branch that ended the page before may be gone, and others may have moved."""
    ranking = Ranking("gross_revenue", descending=True)

    def shop(**revenue: int) -> BranchSummaries:
        return {
            Branch(name, None, None): Summary(Measures(gross_revenue=Decimal(amount)))
            for name, amount in revenue.items()
        }

    before = shop(a=50, b=40, c=30, d=20)
    first = ranking.order(before)[:2]
    place = ranking.place(first[-1], before[first[-1]])
    after = shop(a=10, c=30, d=20, e=45)
    assert [branch.location_id for branch in ranking.order(after, after=place)] == ["c", "d", "a"]
