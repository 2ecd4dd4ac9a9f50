"""Processes that give way: their sessions, and the processors that they leave to others."""

import os
import subprocess
import sys
from pathlib import Path

from tests.integration.placement.conftest import Install, pids
from troupe.common.niceness import reserved

PROGRAM = """
import os
from pathlib import Path
from troupe.common.niceness import give_way
give_way(3)
session = Path("/proc/self/autogroup")
# Empty for a process of the session the system itself began with: nobody divides by that one.
print(os.nice(0), *(session.read_text().split()[-1:] if session.exists() else ()))
"""


def told(*, as_session: bool) -> list[str]:
    """Its own niceness and that of its session, where the kernel has one."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=as_session,
    )
    return done.stdout.split()


def test_the_leader_of_a_session_takes_it_along() -> None:
    own = str(os.nice(0) + 3)
    expected = [own, own] if Path("/proc/self/autogroup").exists() else [own]
    assert told(as_session=True) == expected


def test_a_member_leaves_the_session_of_others_alone() -> None:
    session = Path("/proc/self/autogroup")
    before = session.read_text() if session.exists() else "none"
    assert told(as_session=False)[0] == str(os.nice(0) + 3)
    assert (session.read_text() if session.exists() else "none") == before


async def test_instances_of_a_nice_group_leave_processors_to_others(install: Install) -> None:
    usable = os.sched_getaffinity(0)
    async with install(niceness=10) as installation:
        (pid,) = pids(installation)
        assert os.sched_getaffinity(pid) == usable - reserved(1)
        assert os.sched_getaffinity(0) == usable


async def test_those_of_another_group_use_them_all(install: Install) -> None:
    async with install(niceness=0) as installation:
        (pid,) = pids(installation)
        assert os.sched_getaffinity(pid) == os.sched_getaffinity(0)
