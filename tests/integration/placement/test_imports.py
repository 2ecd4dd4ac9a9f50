"""A process loads what its groups consist of, and nothing of the others: it starts sooner."""

import subprocess
import sys

import pytest

PROGRAM = """
import importlib, sys
from troupe import instance
for name in sys.argv[1:]:
    importlib.import_module(f"troupe.wiring.{name}")
print(*sys.modules)
"""

CLIENTS = {"google.cloud.bigquery", "asyncssh", "aiosmtplib", "vl_convert", "xlsxwriter", "pyarrow"}
OF_GROUP = {
    "auth": set[str](),
    "data": {"google.cloud.bigquery", "asyncssh", "aiosmtplib", "pyarrow"},
    "analytics": {"aiosmtplib", "vl_convert", "xlsxwriter", "pyarrow"},
}


def loaded(*groups: str) -> set[str]:
    """Modules that a process has which runs these groups."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *groups],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("group", OF_GROUP)
def test_a_process_loads_the_clients_of_its_own_group(group: str) -> None:
    modules = loaded(group)
    assert modules & CLIENTS == OF_GROUP[group]
    assert f"troupe.wiring.{group}" in modules
    assert not {f"troupe.wiring.{other}" for other in OF_GROUP.keys() - {group}} & modules


def test_who_only_supervises_processes_loads_no_group() -> None:
    modules = loaded()
    assert not modules & CLIENTS
    assert not {f"troupe.wiring.{group}" for group in OF_GROUP} & modules
