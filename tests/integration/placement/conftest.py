"""Installations whose data group runs in processes that a test can make misbehave."""

import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
import trio

from troupe import placement
from troupe.common.config import load
from troupe.platform.supervision import Snapshot, State
from troupe.supervisor import Installation, open_installation

FAULTY = Path(__file__).parents[2] / "support" / "faulty_instance.py"
GROUPS = ("auth", "data", "analytics")


class Install(Protocol):
    """Opens an installation; options are those of the data group."""

    def __call__(
        self, *, grace: float = 3, **data: Any
    ) -> AbstractAsyncContextManager[Installation]: ...


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installations on an embedded PostgreSQL, the data group in faulty processes."""
    monkeypatch.setattr(placement, "COMMAND", (sys.executable, "-P", str(FAULTY)))

    @asynccontextmanager
    async def opened(*, grace: float = 3, **data: Any) -> AsyncIterator[Installation]:
        configuration = load(
            environment={},
            overrides={
                "state_directory": tmp_path / "state",
                "shutdown": {"grace": grace},
                # How long things take is measured here: a nice group would wait for other tests.
                "groups": {name: {"port": 0} for name in GROUPS}
                | {"data": {"port": 0, "placement": "process", "niceness": 0, **data}},
            },
        )
        async with open_installation(configuration) as installation:
            yield installation

    return opened


def instances(installation: Installation) -> list[Snapshot]:
    """The data group's instances as they are now."""
    return list(installation.snapshot().find("data").children)


def pids(installation: Installation) -> list[int]:
    """Process ids of the instances that run."""
    return [
        int(str(instance.details["pid"]))
        for instance in instances(installation)
        if instance.state is State.RUNNING
    ]


async def until_replaced(installation: Installation, gone: int, count: int) -> None:
    """Wait until `count` instances run and `gone` is none of them."""
    while gone in (now := pids(installation)) or len(now) < count:
        await trio.sleep(0.02)
