"""What happened to a mail, and what that means for its delivery.

The one question that matters: may it have arrived? Up to RCPT nothing can have. Once DATA is under
way an answer of the server says what became of it, and silence says nothing: then the mail is
ambiguous and is not sent again unless a person says so. A mail that comes twice is worse than one
that a person has to look after.

==============================  ====================  =========================================
what happened                   before DATA           once DATA is under way
==============================  ====================  =========================================
250                                                   sent
4xx                             deferred              deferred
5xx about the recipient         bounced               bounced
5xx about something else        deferred, then failed deferred, then failed
no connection, silence          deferred              ambiguous
==============================  ====================  =========================================

"About the recipient" is decided by the enhanced status code (RFC 3463) where there is one: 5.1.1
to 5.1.3, 5.1.6, 5.1.10 (address), 5.2.1 (mailbox off); without one, by a 550, 551 or 553 to RCPT.
Everything else (5.7.x policy, 5.3.4 size, 554 spam) is no fault of the address, and counting it as
a bounce would suppress people because of what a filter thought of one mail.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from troupe.common.units import HOURS, MINUTES

FIRST_WAIT: Final = 1 * MINUTES
LONGEST_WAIT: Final = 1 * HOURS
MOST_ATTEMPTS: Final = 24
"""Offers before a mail is given up; with the waits between them about 18 hours."""
LONGEST_ANSWER: Final = 500
_ENHANCED: Final = re.compile(r"\b([245])\.(\d{1,3})\.(\d{1,3})\b")
_ABOUT_ADDRESS: Final = frozenset({(1, 1), (1, 2), (1, 3), (1, 6), (1, 10), (2, 1)})
_ABOUT_RECIPIENT: Final = frozenset({550, 551, 553})


class State(StrEnum):
    """Where a delivery is."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    DEFERRED = "deferred"
    BOUNCED = "bounced"
    SUPPRESSED = "suppressed"
    AMBIGUOUS = "ambiguous"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Step(StrEnum):
    """How far an offer had come when something happened."""

    CONNECT = "connect"
    SENDER = "sender"
    RECIPIENT = "recipient"
    DATA = "data"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server said, or did not.

    Attributes:
        step: To what.
        code: SMTP code; None: the connection was lost, or nothing was said in time.
        text: Of the answer, or of the failure.
    """

    step: Step
    code: int | None
    text: str

    def __str__(self) -> str:
        text = " ".join(self.text.split())
        said = f"{self.code} {text}" if self.code is not None else text
        return "".join(sign if sign.isprintable() else "?" for sign in said)[:LONGEST_ANSWER]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a delivery.

    Attributes:
        state: Its next state.
        answer: What the server said.
        wait: Seconds until it is offered again, of a deferred one.
        of_line: Whether everybody else's mail would fare the same (no connection, no login).
    """

    state: State
    answer: str
    wait: float = 0.0
    of_line: bool = False


def enhanced(text: str) -> tuple[int, int, int] | None:
    """The enhanced status code of an answer.

    >>> enhanced("5.1.1 <x@example.com>: Recipient address rejected")
    (5, 1, 1)
    """
    match = _ENHANCED.search(text)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def is_hard(reply: Reply) -> bool:
    """Whether an answer says that the address itself is no good."""
    if reply.code is None or reply.code < 500 or reply.step not in {Step.RECIPIENT, Step.DATA}:
        return False
    status = enhanced(reply.text)
    if status is not None:
        return status[0] == 5 and status[1:] in _ABOUT_ADDRESS
    return reply.step is Step.RECIPIENT and reply.code in _ABOUT_RECIPIENT


def judge(reply: Reply, attempts: int) -> Outcome:
    """What an answer means.

    Args:
        reply: The answer, or that there was none.
        attempts: Offers so far, this one included.
    """
    answer = str(reply)
    if reply.code is None:
        if reply.step is Step.DATA:
            return Outcome(State.AMBIGUOUS, answer, of_line=True)
        return _put_off(answer, attempts, of_line=True)
    if reply.step is Step.DATA and 200 <= reply.code < 300:
        return Outcome(State.SENT, answer)
    if is_hard(reply):
        return Outcome(State.BOUNCED, answer)
    return _put_off(answer, attempts, of_line=reply.step in {Step.CONNECT, Step.SENDER})


def _put_off(answer: str, attempts: int, *, of_line: bool) -> Outcome:
    if attempts >= MOST_ATTEMPTS:
        return Outcome(State.FAILED, answer, of_line=of_line)
    return Outcome(State.DEFERRED, answer, wait_after(attempts), of_line=of_line)


def wait_after(attempts: int) -> float:
    """Seconds before the next offer: a minute, doubled each time, an hour at most."""
    return float(min(FIRST_WAIT * 2 ** (max(attempts, 1) - 1), LONGEST_WAIT))
