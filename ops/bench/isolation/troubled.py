"""The program itself, whose data group can also be told to misbehave; for the benchmark only.

``python -m ops.bench.isolation.troubled ARGUMENTS`` is ``troupe ARGUMENTS``, with two more kinds of
jobs: ``spin`` computes without ever letting the loop turn, ``eat`` takes memory. Both do so for as
long as the file exists that TROUBLE names in the environment, whoever kills their process.
"""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import trio

from troupe import instance, placement
from troupe.cli import main
from troupe.common.units import MILLISECONDS, MiB
from troupe.platform import jobs
from troupe.platform.jobs import JobKind, JobRun, JobRunner
from troupe.platform.supervision import Backoff

MODULE: Final = "ops.bench.isolation.troubled"
FLAG: Final = "TROUBLE"
_INSTANCE: Final = "--instance"


def _goes_on() -> bool:
    return Path(os.environ[FLAG]).exists()


async def spin(_run: JobRun) -> None:
    """Compute."""
    while _goes_on():
        end = time.monotonic() + 50 * MILLISECONDS
        while time.monotonic() < end:
            sum(range(1000))


async def eat(_run: JobRun) -> None:
    """Take 16 MiB a hundred times a second, and touch it."""
    eaten = []
    while _goes_on():
        eaten.append(bytearray(b"x") * (16 * MiB))
        await trio.sleep(10 * MILLISECONDS)


def job_runner(group: str, kinds: Mapping[str, JobKind], **options: Any) -> JobRunner:
    """In place of `JobRunner` when the wiring of a group is imported."""
    retry = Backoff(first=50 * MILLISECONDS, factor=1.0)
    more = {kind.__name__: JobKind(handler=kind, retry=retry) for kind in (spin, eat)}
    return JobRunner(group, {**kinds, **more}, **options)


if __name__ == "__main__":
    jobs.JobRunner = job_runner  # type: ignore[misc,assignment]
    placement.COMMAND = (sys.executable, "-m", MODULE, _INSTANCE)  # type: ignore[misc]
    if sys.argv[1:2] == [_INSTANCE]:
        os._exit(instance.main(int(sys.argv[2])))
    main()
