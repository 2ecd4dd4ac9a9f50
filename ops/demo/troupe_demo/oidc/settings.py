"""The provider's configuration file: who may log in, and on behalf of which applications."""

import hmac
from pathlib import Path
from typing import Annotated

import trio
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from troupe.common.logs import get_logger

_logger = get_logger(__name__)

Url = Annotated[str, Field(pattern=r"^https?://[^\s#]+$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Client(_Section):
    """An application that may send people here.

    Attributes:
        client_secret: None makes it a public client.
        redirect_uris: Compared exactly, character by character.
    """

    client_id: Annotated[str, Field(min_length=1)]
    client_secret: Annotated[str, Field(min_length=1)] | None = None
    redirect_uris: tuple[Url, ...] = ()
    post_logout_redirect_uris: tuple[Url, ...] = ()


class User(_Section):
    """A person with a password."""

    sub: Annotated[str, Field(min_length=1, max_length=255)]
    username: Annotated[str, Field(min_length=1)]
    password: Annotated[str, Field(min_length=1)]
    name: str = ""
    email: str = ""
    email_verified: bool = True

    def claims(self, scopes: frozenset[str]) -> dict[str, object]:
        """What the granted scopes let an application know."""
        claims: dict[str, object] = {}
        if "profile" in scopes and self.name:
            claims |= {"name": self.name, "preferred_username": self.username}
        if "email" in scopes and self.email:
            claims |= {"email": self.email, "email_verified": self.email_verified}
        return claims


class Settings(_Section):
    """The whole file."""

    clients: tuple[Client, ...] = ()
    users: tuple[User, ...] = ()

    def client(self, client_id: str | None) -> Client | None:
        """The application with this identifier."""
        return next((client for client in self.clients if client.client_id == client_id), None)

    def user(self, sub: str) -> User | None:
        """The person with this subject."""
        return next((user for user in self.users if user.sub == sub), None)

    def log_in(self, username: str, password: str) -> User | None:
        """The person whose name and password these are.

        Every password is compared, in constant time, so that time does not tell which names exist.
        """
        found = None
        for user in self.users:
            same_name = hmac.compare_digest(user.username.encode(), username.encode())
            same_password = hmac.compare_digest(user.password.encode(), password.encode())
            if same_name and same_password:
                found = user
        return found


class SettingsFile:
    """The configuration file, read anew for each request; a broken edit leaves the last good one.

    Args:
        path: JSON in the form of `Settings`.

    Raises:
        OSError: The file cannot be read at the start.
        ValidationError: It is not a configuration.
    """

    def __init__(self, path: Path) -> None:
        self._path = trio.Path(path)
        self._content = path.read_bytes()
        self._settings = Settings.model_validate_json(self._content)

    async def read(self) -> Settings:
        """What the file says now."""
        try:
            content = await self._path.read_bytes()
            if content != self._content:
                self._settings = Settings.model_validate_json(content)
                self._content = content
                _logger.info("settings_read", clients=len(self._settings.clients))
        except (OSError, ValidationError) as error:
            _logger.warning("settings_kept", reason=type(error).__name__)
        return self._settings
