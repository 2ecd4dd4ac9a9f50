"""What a process lets go of goes back to the system."""

import platform
import subprocess
import sys

import pytest

CHURN = """
import sys
from troupe.common.allocation import give_large_blocks_back

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

if sys.argv[1] == "told":
    assert give_large_blocks_back()
before = resident()
# A large block that is freed teaches glibc to keep the next ones; what is small between them stays.
kept = []
for size in (24, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2):
    block = bytearray(b"x" * (size << 20))
    kept.append(bytearray(b"y" * 100_000))
    del block
blocks = [bytearray(b"x" * (2 << 20)) for _ in range(20)]
kept.append(bytearray(b"y" * 100_000))
del blocks
print((resident() - before) >> 20)
"""


def left(how: str) -> int:
    """MiB that a process keeps of 40 that it had used."""
    ended = subprocess.run(
        [sys.executable, "-c", CHURN, how], capture_output=True, text=True, check=True
    )
    return int(ended.stdout)


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries know their own way"
)
def test_large_blocks_go_back() -> None:
    assert left("told") < 10
    assert left("untold") > 20
