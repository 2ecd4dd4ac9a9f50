"""A disk that fills up under the demonstration: one clear line, whichever step it is in."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.disks import small_disk
from tests.support.processes import command, postgres_processes
from troupe.common.units import MiB


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A real file system of as many MiB as the test names."""
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("mounting a small file system takes root")
        pytest.skip("mounting a small file system takes root")
    with small_disk(tmp_path / "disk", request.param * MiB) as place:
        yield place


@pytest.mark.parametrize(
    ("disk", "events"),
    [(1, 20_000), (40, 20_000), (200, 250_000)],
    indirect=["disk"],
    ids=["while generating", "while starting", "while loading"],
)
def test_no_space_is_one_line(disk: Path, events: int) -> None:
    state = disk / "state"
    arguments = ("--days", "20", "--events", str(events), "--ports", "auto")
    result = command("demo", *arguments, "--state-dir", str(state), deadline=400)
    lines = [line for line in result.stderr.splitlines() if line.startswith("troupe: ")]
    assert result.returncode in {6, 7}, result.stderr
    assert len(lines) == 1, result.stderr
    assert "No space" in lines[0] or "free under" in lines[0]
    assert "Traceback" not in result.stderr
    assert not postgres_processes(state)
