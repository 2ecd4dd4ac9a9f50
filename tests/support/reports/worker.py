"""``python -m tests.support.reports.worker URL [STEP COUNT [SIGNAL]]``: delivers, and may die.

A process of its own that runs the group's jobs until it is told to end, or kills itself the
COUNT-th time that a mail gets to STEP: nothing is cleaned up, as when the host loses its power.
"""

import ipaddress
import os
import signal
import sys

import trio

from troupe.actors.analytics.answers import Answers
from troupe.actors.analytics.reports.content import ReportReader
from troupe.actors.analytics.reports.dispatch import Dispatch, report_kinds
from troupe.actors.analytics.reports.smtp import MailLine
from troupe.actors.analytics.reports.workshop import open_workshop
from troupe.actors.analytics.reports.writing import Press
from troupe.common.bridge import open_bridge
from troupe.common.database import open_database
from troupe.common.outbound import OutboundGuard
from troupe.common.secrets import KeyRing, Vault
from troupe.platform.jobs import JobRunner, RunnerSettings
from troupe.platform.pool import Pool
from troupe.platform.supervision import Supervisor

STEPS = ("written", "accepted", "handed", "answered", "settled")
KEY = b"k" * 32
LEASE = 1.5
ORIGIN = "https://board.example"


class Fate:
    """Ends the process at a step."""

    def __init__(self, step: str, count: int, number: int = signal.SIGKILL) -> None:
        self._step = step
        self._left = count
        self._signal = number

    def __call__(self, step: str) -> None:
        if step != self._step:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._signal)


async def work(url: str, fate: Fate) -> None:
    guard = OutboundGuard([ipaddress.ip_network("127.0.0.0/8")])
    async with (
        open_bridge(),
        open_database(url, connections=6) as database,
        open_workshop() as workshop,
    ):
        press = Press(ReportReader(Answers(database)), workshop, ORIGIN)
        dispatch = Dispatch(
            database,
            Vault(KeyRing([KEY])),
            press,
            lambda config, secret: MailLine(config, secret, guard),
            at=fate,
        )
        runner = JobRunner(
            "analytics",
            report_kinds(dispatch),
            pool=Pool("analytics", limit=8),
            database=lambda: database,
            settings=RunnerSettings(lease=LEASE, poll=0.2, look=0.1, report=0.1, drain=2.0),
        )
        await Supervisor("worker", [runner.child_spec()]).serve()


if __name__ == "__main__":
    where, *rest = sys.argv[1:]
    trio.run(work, where, Fate(rest[0], *map(int, rest[1:])) if rest else Fate("never", 0))
