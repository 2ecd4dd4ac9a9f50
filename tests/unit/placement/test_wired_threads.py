"""Worker threads of a group that gives way leave processors to the groups beside it."""

import os

import pytest

from troupe.common.config import load
from troupe.common.niceness import reserved
from troupe.common.secrets import KeyRing
from troupe.platform.supervision import Snapshot
from troupe.wiring import Site
from troupe.wiring.parts import new_group


def unused() -> Snapshot:
    raise AssertionError


@pytest.mark.parametrize(("niceness", "left"), [(10, reserved(1)), (0, frozenset())])
async def test_where_they_run_follows_from_the_groups_niceness(
    niceness: int, left: frozenset[int]
) -> None:
    site = Site(
        configuration=load(environment={}, overrides={"groups": {"data": {"niceness": niceness}}}),
        sockets={},
        urls={},
        runtime_url=lambda: "",
        keys=KeyRing([b"k" * 32]),
        snapshot=unused,
        reserved=reserved(1),
    )
    group, _ = new_group(site, "data")
    assert await group.threads.run(os.sched_getaffinity, 0) == os.sched_getaffinity(0) - left
