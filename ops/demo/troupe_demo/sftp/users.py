"""Who may log in to the SFTP companion: a JSON file.

::

    {"users": {"nordwerk": {"password": "…", "keys": ["ssh-ed25519 AAAA… comment"]}}}

A user needs a password or a key, may have both, and sees nothing but the directory of its name.
"""

import hmac
from pathlib import Path
from typing import Annotated

import asyncssh
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

UserName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
"""Also the name of a directory: no dot, no slash."""


class User(BaseModel):
    """How one user proves who it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    password: str | None = Field(default=None, min_length=1)
    keys: tuple[str, ...] = ()
    """Public keys, as in ``authorized_keys``."""

    @model_validator(mode="after")
    def _can_log_in(self) -> "User":
        if self.password is None and not self.keys:
            raise ValueError("a user needs a password or a key")
        return self

    def accepts_password(self, password: str) -> bool:
        """Whether `password` is right; takes the same time if it is wrong."""
        if self.password is None:
            return False
        return hmac.compare_digest(self.password.encode(), password.encode())

    def accepts_key(self, key: asyncssh.SSHKey) -> bool:
        """Whether `key` is one of the user's."""
        return any(asyncssh.import_public_key(known) == key for known in self.keys)


class Users(BaseModel):
    """All users, by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    users: dict[UserName, User]

    @classmethod
    def read(cls, path: Path) -> "Users":
        """Read the file.

        Raises:
            OSError: It cannot be read.
            ValueError: It is not what this module says, or a key in it is none.
        """
        users = cls.model_validate_json(path.read_bytes())
        for user in users.users.values():
            for key in user.keys:
                asyncssh.import_public_key(key)
        return users
