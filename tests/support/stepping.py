"""Troupe with one more kind of job: it goes step by step, and remembers how often it was begun.

Run as a program it is ``troupe`` (``python stepping.py --config … up``), and also what a process of
a group runs (``python stepping.py DESCRIPTOR NAME``), so that the kind exists wherever the data
group does. Two environment variables make an instance misbehave, for as long as the file that they
name exists: STEPPING_CRASH_START crashes it before it is ready, STEPPING_CRASH_LATER shortly after.

A job of kind ``steps`` takes the arguments ``steps``, ``pause`` (seconds of each), ``heeds``
(whether it leaves by itself when its process stops) and ``until`` (a file; more steps follow until
it exists). Its result counts the steps that were committed and the lives that it took.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

sys.path.insert(0, str(Path(__file__).parents[2]))

from troupe import instance, placement
from troupe.platform import jobs
from troupe.platform.jobs import JobKind, JobRun, JobRunner
from troupe.wiring import parts

KIND = "steps"
COMMAND = (sys.executable, "-P", __file__)


def over(until: str | None) -> bool:
    """Whether no more steps are wanted."""
    return until is None or Path(until).exists()


async def steps(run: JobRun) -> dict[str, int]:
    """Commit a step, and another, from where the last life ended."""
    wanted: dict[str, Any] = run.arguments
    begun: Any = run.checkpoint or {"committed": 0, "lives": 0}
    committed, lives = begun["committed"], begun["lives"] + 1
    while committed < wanted["steps"] or not over(wanted["until"]):
        if wanted["heeds"] and run.stopping.is_set():
            raise run.leave()
        await trio.sleep(float(wanted["pause"]))
        committed += 1
        await run.save_checkpoint({"committed": committed, "lives": lives})
    return {"committed": committed, "lives": lives}


def with_steps(runner: Callable[..., JobRunner]) -> Callable[..., JobRunner]:
    """A runner that knows the kind as well."""

    def make(group: str, kinds: Any, **options: Any) -> JobRunner:
        return runner(group, {**kinds, KIND: JobKind(handler=steps, concurrency=16)}, **options)

    return make


def wanted(fault: str) -> bool:
    """Whether this process shall misbehave so."""
    file = os.environ.get(fault)
    return file is not None and Path(file).exists()


async def crash_later() -> None:
    """Crash soon after the start."""
    await trio.sleep(0.3)
    os.abort()


async def serve(app: Any, *arguments: Any, **options: Any) -> None:
    """Serve, unless the test wants a crash."""
    if wanted("STEPPING_CRASH_START"):
        os.abort()
    async with trio.open_nursery() as nursery:
        if wanted("STEPPING_CRASH_LATER"):
            nursery.start_soon(crash_later)
        await serve_really(app, *arguments, **options)
        nursery.cancel_scope.cancel()


serve_really = parts.serve

if __name__ == "__main__":
    # Before the wiring of a group is imported.
    jobs.JobRunner = with_steps(jobs.JobRunner)  # type: ignore[misc, assignment]
    if sys.argv[1].isdigit():
        parts.serve = serve
        os._exit(instance.main(int(sys.argv[1])))
    placement.COMMAND = COMMAND  # type: ignore[misc]
    from troupe.cli import main

    main(prog_name="troupe")
