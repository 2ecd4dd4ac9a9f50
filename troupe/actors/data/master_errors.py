"""Failures of an import of master data, sorted by whose they are.

::

    CallerError
    └── Conflict
        ├── HostKeyNotPinned         nobody has said yet which key the server must show
        ├── AnotherHostKey           the key that is to be pinned is not the one that is shown
        └── NoFilesConfigured        the connection names neither file
    PeerError
    ├── PeerUnavailable              unreachable, lost, protocol trouble: later
    │   ├── ServerStalled            connected, then silent
    │   └── StillBeingWritten        the file changed while it was being read
    └── PeerRefused
        ├── CredentialsRejected      the password or key is wrong, or the secret is no key
        ├── HostKeyChanged           the server shows another key than the pinned one
        ├── FileMissing              there is no such file
        ├── FileForbidden            the account may not read it
        ├── FileRefused              what is there cannot be imported: a directory, too large
        │   └── FileMalformed        not the table that was agreed on
        └── FilesNotImported         several of the above, one for each file

No message quotes a cell: rows are personal data, and messages are shown, stored and logged.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncssh

from troupe.common.errors import Conflict, CredentialsRejected, PeerRefused, PeerUnavailable


class HostKeyNotPinned(Conflict):
    """The connection does not say which host key the server has."""


class AnotherHostKey(Conflict):
    """The server shows another key than the one that was confirmed."""


class NoFilesConfigured(Conflict):
    """The connection names no file to import."""


class ServerStalled(PeerUnavailable):
    """The server took the connection and then said nothing for too long."""


class StillBeingWritten(PeerUnavailable):
    """The file changed while it was being read."""


class HostKeyChanged(PeerRefused):
    """The server's host key is not the pinned one."""


class FileMissing(PeerRefused):
    """There is no such file on the server."""


class FileForbidden(PeerRefused):
    """The account may not read the file."""


class FileRefused(PeerRefused):
    """What lies there cannot be imported."""


class FileMalformed(FileRefused):
    """The file is not the table that was agreed on."""


class FilesNotImported(PeerRefused):
    """Several files were left, each for its own reason."""


@contextmanager
def sorted_errors(what: str) -> Iterator[None]:
    """Turn failures of asyncssh into ours.

    Args:
        what: What was being done, for the sentence: ``reading customers.csv``.

    Raises:
        PeerError: One of the classes above.
    """
    try:
        yield
    except (asyncssh.PermissionDenied, asyncssh.IllegalUserName) as error:
        raise CredentialsRejected(
            "The SFTP server does not accept the account's credentials."
        ) from error
    except asyncssh.HostKeyNotVerifiable as error:
        raise _changed() from error
    except asyncssh.KeyExchangeFailed as error:
        # Only the pinned key's kind is offered: a server that has another one ends up here.
        if "host key" in error.reason:
            raise _changed() from error
        raise PeerRefused(
            "The SFTP server and this program have no secure algorithm in common."
        ) from error
    except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath) as error:
        raise FileMissing(f"The SFTP server has no such file while {what}.") from error
    except asyncssh.SFTPPermissionDenied as error:
        raise FileForbidden(f"The SFTP server denies access while {what}.") from error
    except asyncssh.ChannelOpenError as error:
        raise PeerRefused("The server offers no SFTP to this account.") from error
    except (asyncssh.Error, OSError, EOFError) as error:
        raise PeerUnavailable(f"The SFTP server cannot be reached while {what}.") from error


def _changed() -> HostKeyChanged:
    return HostKeyChanged(
        "The SFTP server shows another host key than the pinned one: either it was given a new key,"
        " or somebody stands in between. Nothing was sent to it."
    )
