"""Which processes work on a cluster, asked of the kernel instead of a file with a number in it."""

from pathlib import Path


def processes_at(directory: Path) -> list[int] | None:
    """Processes whose working directory is ``directory``: a postmaster and its backends.

    Returns:
        Their ids; of other accounts' processes only those that we may look at. None where the
        system has no ``/proc`` to ask.
    """
    if not Path("/proc/self/cwd").exists():
        return None
    wanted = directory.stat()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            at = (entry / "cwd").stat()
        except OSError:  # it has ended meanwhile, or is not ours to look at
            continue
        if (at.st_dev, at.st_ino) == (wanted.st_dev, wanted.st_ino):
            found.append(int(entry.name))
    return sorted(found)


def describe(processes: list[int] | None, data: Path) -> str:
    """How a message names them."""
    if processes:
        return f"process{'es' if len(processes) > 1 else ''} {', '.join(map(str, processes))}"
    return f"the process named in {data}/postmaster.pid"
