"""Small disks for tests that fill them."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_MOUNTED: Final = """
/bin/mount -t tmpfs -o "size=$2,mode=0755" tmpfs "$1" && echo mounted || exit
read -r word
test "$word" = unmount && exec /bin/umount "$1"
exec /bin/umount --lazy "$1"
"""


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Path]:
    """A real file system of `size` bytes, mounted at `place`, which is made; takes root.

    A process of its own holds the mount and hears of this one's end: what a killed run leaves
    mounted, no later run could remove. Raises `CalledProcessError` if the disk is still in use
    at the end.
    """
    place.mkdir()
    holder = ["/bin/sh", "-c", _MOUNTED, "sh", str(place), str(size)]
    with subprocess.Popen(
        holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "mounted\n"
        try:
            yield place
        finally:
            process.stdin.write("unmount\n")
            process.stdin.close()
            if code := process.wait(timeout=10):
                raise subprocess.CalledProcessError(code, "umount")
