"""Deliver a run while its process is killed at one step after another; then count.

What must hold, whatever the moment of death: nobody has two mails; whoever has none is told of as
ambiguous, and nothing is left unsaid. A process that dies leaves at most one ambiguous mail for
each of its connections.
"""

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from tests.support.reports.worker import STEPS

ROOT = Path(__file__).parents[3]
LIFE = 30.0


@dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes:
        problems: As sentences; empty when all is well.
        mails: That the server took.
        ambiguous: Of which nobody knows.
        kills: Processes that died.
    """

    problems: list[str]
    mails: int
    ambiguous: int
    kills: int

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.mails} mails, {self.ambiguous} ambiguous, "
            f"{len(self.problems)} problems"
        )


@contextmanager
def worker(url: str, *fate: object) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.support.reports.worker", url, *map(str, fate)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def die(url: str, step: str, count: int) -> bool:
    """Let a worker work until it dies; whether it did."""
    with worker(url, step, count) as process, trio.move_on_after(LIFE):
        while process.poll() is None:
            await trio.sleep(0.05)
        return True
    return False


def fates(mails: int, kills: int, dice: random.Random) -> list[tuple[str, int]]:
    """Every step in turn, each at another mail; what is left of them is for the last process."""
    most = mails // kills
    return [(STEPS[number % len(STEPS)], dice.randint(1, most)) for number in range(kills)]


def judge(
    addresses: Sequence[str],
    mails: Sequence[str],
    states: dict[str, str],
    *,
    kills: int,
    connections: int,
) -> Verdict:
    """Compare what has arrived with what is written down.

    Args:
        addresses: Who was to get a mail.
        mails: Recipients of the mails that the server took.
        states: Address to state.
        kills: How many processes died.
        connections: Of each.
    """
    got = Counter(mails)
    problems = [f"{address} has {count} mails" for address, count in got.items() if count > 1]
    for address in addresses:
        state, count = states.get(address, "nothing"), got[address]
        if state == "ambiguous" or (state == "sent" and count == 1):
            continue
        problems.append(f"{address} is {state} and has {count} mails")
    ambiguous = sum(state == "ambiguous" for state in states.values())
    if ambiguous > kills * connections:
        problems.append(f"{ambiguous} are ambiguous after {kills} deaths")
    return Verdict(problems, len(mails), ambiguous, kills)
