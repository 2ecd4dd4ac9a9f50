"""What a server's answer means; the table of `outcomes`, cell by cell."""

import pytest

from troupe.actors.analytics.reports.outcomes import (
    LONGEST_WAIT,
    MOST_ATTEMPTS,
    Reply,
    State,
    Step,
    is_hard,
    judge,
    wait_after,
)


@pytest.mark.parametrize(
    ("step", "code", "text", "state", "of_line"),
    [
        (Step.CONNECT, None, "refused", State.DEFERRED, True),
        (Step.CONNECT, 535, "5.7.8 wrong password", State.DEFERRED, True),
        (Step.SENDER, 452, "4.3.1 full", State.DEFERRED, True),
        (Step.SENDER, None, "EOF", State.DEFERRED, True),
        (Step.RECIPIENT, 451, "4.7.1 greylisted", State.DEFERRED, False),
        (Step.RECIPIENT, 550, "5.1.1 unknown", State.BOUNCED, False),
        (Step.RECIPIENT, 550, "no such user", State.BOUNCED, False),
        (Step.RECIPIENT, 550, "5.7.1 not from you", State.DEFERRED, False),
        (Step.RECIPIENT, 552, "5.2.2 mailbox full", State.DEFERRED, False),
        (Step.RECIPIENT, None, "EOF", State.DEFERRED, True),
        (Step.DATA, 250, "2.0.0 queued", State.SENT, False),
        (Step.DATA, 452, "4.2.2 full", State.DEFERRED, False),
        (Step.DATA, 550, "5.1.1 unknown after all", State.BOUNCED, False),
        (Step.DATA, 554, "5.7.1 spam", State.DEFERRED, False),
        (Step.DATA, 550, "content rejected", State.DEFERRED, False),
        (Step.DATA, None, "EOF", State.AMBIGUOUS, True),
    ],
)
def test_an_answer_becomes_a_state(
    step: Step, code: int | None, text: str, state: State, *, of_line: bool
) -> None:
    outcome = judge(Reply(step, code, text), 1)
    assert (outcome.state, outcome.of_line) == (state, of_line)


def test_only_what_provably_has_not_left_is_offered_again() -> None:
    for step in Step:
        for code in (None, 250, 421, 450, 500, 550, 554):
            state = judge(Reply(step, code, "whatever"), 1).state
            silent_after_data = step is Step.DATA and code is None
            assert (state is State.AMBIGUOUS) == silent_after_data


def test_a_mail_is_given_up_in_the_end() -> None:
    reply = Reply(Step.RECIPIENT, 451, "4.7.1 later")
    assert judge(reply, MOST_ATTEMPTS - 1).state is State.DEFERRED
    assert judge(reply, MOST_ATTEMPTS).state is State.FAILED


def test_waits_double_up_to_an_hour() -> None:
    assert [wait_after(number) for number in (1, 2, 3)] == [60, 120, 240]
    assert wait_after(99) == LONGEST_WAIT


def test_a_filter_s_opinion_is_no_bounce_of_the_address() -> None:
    assert not is_hard(Reply(Step.DATA, 554, "5.7.1 spam"))
    assert not is_hard(Reply(Step.CONNECT, 550, "5.1.1 whatever"))
    assert is_hard(Reply(Step.RECIPIENT, 553, "unknown"))


def test_an_answer_is_one_printable_line_of_bounded_length() -> None:
    said = str(Reply(Step.DATA, 554, "a\r\nb\x00\x1b[31m" + "x" * 5000))
    assert said.startswith("554 a b")
    assert said.isprintable()
    assert len(said) <= 500
