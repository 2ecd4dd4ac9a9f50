"""What a check finds, and how checks are run.

A check is an async generator of findings. Whatever stops it, an exception or its deadline, becomes
a finding too: a doctor who faints at the sight of blood is of no use.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import trio

from troupe.common.errors import TroupeError
from troupe.common.units import SECONDS

CHECK_DEADLINE: Final = 20 * SECONDS


class State(StrEnum):
    """How bad it is."""

    OK = "ok"
    """As it must be."""
    SKIPPED = "skipped"
    """Cannot be looked at now; the message says why."""
    WARNING = "warning"
    """Works, but not for long or not as well as it could."""
    FAILED = "failed"
    """Does not work, or does not protect."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: Which, one or two words.
        state: How bad it is.
        message: One sentence: what is.
        advice: One sentence: what to do; empty when there is nothing to do.
    """

    check: str
    state: State
    message: str
    advice: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "check": self.check,
            "state": self.state.value,
            "message": self.message,
            "advice": self.advice,
        }


Check = Callable[[], AsyncGenerator[Finding, None]]


async def perform(name: str, check: Check, report: Callable[[Finding], Awaitable[None]]) -> None:
    """Run one check to its end, or to its deadline."""
    with trio.move_on_after(CHECK_DEADLINE) as scope:
        try:
            async with aclosing(check()) as findings:
                async for finding in findings:
                    await report(finding)
        except TroupeError as error:
            await report(Finding(name, State.FAILED, str(error)))
        except Exception as error:  # noqa: BLE001 - becoming a finding is what it is caught for
            await report(
                Finding(
                    name,
                    State.FAILED,
                    f"It could not be looked at: {type(error).__name__}: {error}",
                    "Please report this.",
                )
            )
    if scope.cancelled_caught:
        await report(
            Finding(name, State.FAILED, f"It gave no answer within {CHECK_DEADLINE:g} seconds.")
        )
