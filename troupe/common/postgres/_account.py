"""Which account PostgreSQL runs as, and what that account can reach.

PostgreSQL refuses to run as root. Started by root, Troupe lends it an unprivileged account that
already exists; accounts are never made, and no permission is loosened on a directory that Troupe
did not create. Started by anyone else, everything runs as that person.
"""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict

from troupe.common.errors import ConfigurationError
from troupe.common.units import SECONDS

_CANDIDATES: Final = ("postgres", "nobody")
_PROBE_DEADLINE: Final = 10 * SECONDS


class DropTo(TypedDict, total=False):
    """Arguments for `subprocess` that start a child as an account; empty stays who we are."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Account:
    """An account to run as.

    Attributes:
        name: For messages.
        uid: User id.
        gid: Group id.
        foreign: Whether it is another than this process's, so that children must change to it.
    """

    name: str
    uid: int
    gid: int
    foreign: bool

    @property
    def drop(self) -> DropTo:
        """Arguments for `subprocess.Popen`."""
        if not self.foreign:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, descriptor: int) -> None:
        """Give an open file or directory, which we have created, to this account."""
        if self.foreign:
            os.fchown(descriptor, self.uid, self.gid)


def choose_account(configured: str, cluster: Path) -> Account:
    """The account for the cluster at `cluster`, which need not exist yet.

    An existing cluster keeps its owner: the default may have changed since (somebody installed a
    package that brings an account `postgres`), the files have not.

    Args:
        configured: Name from the configuration, or empty.
        cluster: Data directory.

    Raises:
        ConfigurationError: No such account, it is root, or the cluster belongs to somebody else.
    """
    owner = cluster.stat().st_uid if cluster.exists() else None
    if os.geteuid() != 0:
        mine = _by_uid(os.geteuid())
        if owner not in (None, mine.uid):
            raise ConfigurationError(
                f"{cluster} belongs to account {_by_uid(owner).name!r}, not to {mine.name!r}:"
                " start Troupe as its owner or choose another state directory."
            )
        return mine
    if owner is not None:
        kept = _by_uid(owner)
        if kept.uid == 0:
            raise ConfigurationError(f"{cluster} belongs to root, as which PostgreSQL cannot run.")
        if configured and configured != kept.name:
            raise ConfigurationError(
                f"{cluster} belongs to account {kept.name!r}, but database.embedded_account says"
                f" {configured!r}: leave that setting empty or give the files to that account."
            )
        return kept
    for name in (configured,) if configured else _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid == 0:
            raise ConfigurationError(f"database.embedded_account: {name!r} is root.")
        return Account(name, entry.pw_uid, entry.pw_gid, foreign=True)
    wanted = repr(configured) if configured else " or ".join(map(repr, _CANDIDATES))
    raise ConfigurationError(
        f"PostgreSQL cannot run as root and there is no account {wanted}: start Troupe as an"
        " ordinary account or name an existing one in database.embedded_account."
    )


def _by_uid(uid: int) -> Account:
    foreign = uid != os.geteuid()
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # a container started with a bare number
        return Account(str(uid), uid, os.getegid() if not foreign else uid, foreign)
    gid = entry.pw_gid if foreign else os.getegid()
    return Account(entry.pw_name, uid, gid, foreign)


def can_run(account: Account, script: str, *arguments: str) -> bool:
    """Whether `account` gets through a shell `script`, which sees `arguments` as ``$1``, ….

    Asking the system beats reading permission bits: access lists, mounts without exec and security
    modules all have a say.

    Raises:
        ConfigurationError: This process may not change to the account at all.
    """
    try:
        outcome = subprocess.run(  # noqa: S603 - the script is ours
            ["/bin/sh", "-c", script, "sh", *arguments],
            **account.drop,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PROBE_DEADLINE,
            check=False,
        )
    except PermissionError as error:
        raise ConfigurationError(
            f"This process may not change to account {account.name!r} (missing capability):"
            " start Troupe as an ordinary account."
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"This process cannot change to account {account.name!r}: {error.strerror}."
        ) from error
    return outcome.returncode == 0
