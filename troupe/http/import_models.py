"""What the routes of master data take and answer."""

from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import Field

from troupe.actors.data.master_files import KnownFile
from troupe.actors.data.master_trust import ShownKey
from troupe.http.conventions import AnswerModel, BodyModel, QueryModel
from troupe.http.data_models import JobAnswer

_NAME: Final = r"^[^\x00-\x1f\x7f/\\]*[^\x00-\x1f\x7f/\\.]$"
"""No path, no control character, and neither ``.`` nor ``..``."""


class FilesQuery(QueryModel):
    """How many files to list."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 50
    """Files, the last one looked at first."""


class FileAnswer(AnswerModel):
    """What is known of one file of master data."""

    content: Literal["locations", "customers"]
    path: str
    """On the server, or `uploads/` and the name that it was uploaded with."""
    size: int | None
    """Bytes, when it was last imported."""
    modified_at: datetime | None
    loaded_rows: int | None
    bad_rows: int | None
    imported_at: datetime | None
    """Null: never."""
    checked_at: datetime
    problem: str | None
    """Why the last look did not import it; null: it did, or there was nothing new."""

    @classmethod
    def of(cls, file: KnownFile) -> "FileAnswer":
        """From the data group's file."""
        return cls.model_validate(file, from_attributes=True)


class UploadQuery(QueryModel):
    """What is uploaded."""

    content: Literal["locations", "customers"]
    """What the file is about."""
    name: Annotated[str, Field(max_length=255, pattern=_NAME)] = "upload"
    """Its name, for the reports; a file of the same name takes the place of the one before."""


class UploadAnswer(AnswerModel):
    """An upload that waits to be loaded."""

    upload_id: UUID
    size: int
    """Bytes."""
    sha256: str
    """Of the whole, in hexadecimal."""
    job: JobAnswer
    """Loads it."""


class HostKeyAnswer(AnswerModel):
    """The host key that the tenant's SFTP server shows now."""

    host: str
    port: int
    algorithm: str
    fingerprint: str
    """`SHA256:…`, as `ssh-keygen -l` prints it."""
    public_key: str
    """In OpenSSH's form."""
    state: Literal["unpinned", "pinned", "changed"]
    """`pinned`: it is the key that the server must show; `changed`: it is another one, and nothing
    is imported; `unpinned`: nobody has confirmed one yet."""
    pinned_fingerprint: str | None
    """Of the key that the server must show."""

    @classmethod
    def of(cls, key: ShownKey) -> "HostKeyAnswer":
        """From the data group's key."""
        return cls.model_validate(key, from_attributes=True)


class HostKeyBody(BodyModel):
    """Somebody has compared a fingerprint."""

    fingerprint: Annotated[str, Field(pattern=r"^SHA256:[A-Za-z0-9+/]{43}$")]
    """Of the key that is to be pinned, as it was shown."""
