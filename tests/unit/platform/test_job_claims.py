"""When to claim next: at once while there is more, seldom when there is nothing."""

from troupe.platform.jobs import JobKind, JobRun
from troupe.platform.jobs._claims import FIRST_WAIT, NOTIFY_AFTER, SOONEST, Claims


async def _nothing(_run: JobRun) -> None: ...


def make(*, listens: bool = True, longest: float = 1.0) -> Claims:
    kinds = {"a": JobKind(handler=_nothing, concurrency=4), "b": JobKind(handler=_nothing)}
    return Claims(None, "data", kinds, longest_wait=longest, listens=listens)  # type: ignore[arg-type]


def waits(claims: Claims, times: int) -> list[float]:
    """The waits after so many claims that found nothing."""
    seen = []
    for _ in range(times):
        claims._decide(0, 8, None, asked=claims._listens and claims._backoff >= NOTIFY_AFTER)
        seen.append(claims.wait)
    return seen


def test_a_claim_that_was_filled_is_followed_by_another_at_once():
    claims = make()
    claims._decide(8, 8, None, asked=False)
    assert claims.wait == 0
    claims._decide(7, 8, None, asked=False)
    assert claims.wait == FIRST_WAIT


def test_who_asks_to_be_notified_looks_once_more_and_then_waits():
    assert waits(make(), 6) == [FIRST_WAIT, SOONEST, 1.0, 1.0, 1.0, 1.0]


def test_without_notifications_waits_double_up_to_the_longest():
    assert waits(make(listens=False), 11)[-3:] == [0.512, 1.0, 1.0]
    assert max(waits(make(longest=0.1), 10)) == 0.1


def test_work_and_news_start_the_waits_over():
    claims = make()
    waits(claims, 8)
    claims._decide(1, 8, None, asked=True)
    assert waits(claims, 1) == [FIRST_WAIT]
    waits(claims, 8)
    claims.hurry()
    assert waits(claims, 1) == [FIRST_WAIT]


def test_a_delayed_job_is_waited_for_no_longer_than_it_takes():
    claims = make()
    waits(claims, 8)
    claims._decide(0, 8, 0.3, asked=True)
    assert claims.wait == 0.3
    claims._decide(0, 8, -5.0, asked=True)
    assert claims.wait == SOONEST
    claims._decide(0, 8, 90.0, asked=True)
    assert claims.wait == 1.0


def test_room_is_what_a_kind_may_run_less_what_runs():
    claims = make()
    assert claims.room([]) == {"a": 4, "b": 4}
    assert claims.room(["a"] * 4 + ["b"]) == {"b": 3}
