"""How to reach a tenant's own systems: what the auth group keeps and the other groups use.

The auth group's routes write a connection; the data group reads the BigQuery and SFTP ones, the
analytics group the SMTP one, each for the tenant that it works for, under that tenant's row-level
security. Both sides meet here, so that neither imports the other.

The configuration is open (project, host, user) and the secret is sealed; a secret is never part of
the configuration. An empty endpoint means the real service.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Final, Literal
from uuid import UUID
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, field_validator

from troupe.common.database import Database
from troupe.common.errors import NotFound, PreconditionFailed
from troupe.common.ids import TenantId
from troupe.common.secrets import Place, Vault
from troupe.common.sql import load

if TYPE_CHECKING:
    import asyncpg

_QUERIES = load(__package__, "connections.sql")

ConnectionKind = Literal["bigquery", "sftp", "smtp"]

TEST_CONNECTION: Final = "test_connection"
"""Kind of the job, of the group ``data``, that tries a connection."""

Host = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9._:\-]+$")]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class BigQueryConfig(_Config):
    """A GA4 export in BigQuery; the secret is the service account's JSON file."""

    project: Annotated[str, Field(pattern=r"^[a-z0-9.\-:]{4,100}$")]
    """Project that holds the export."""
    dataset: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,1024}$")]
    """Dataset of the export, usually ``analytics_<property>``."""
    location: Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z0-9\-]*$")] = ""
    """Region of the dataset; empty lets BigQuery find it."""
    billing_project: Annotated[str, Field(max_length=100, pattern=r"^[a-z0-9.\-:]*$")] = ""
    """Project that pays for queries; empty: the service account's own."""
    property_time_zone: Annotated[str, Field(max_length=100)] = ""
    """Zone in which the export cuts its days; empty: the tenant's reporting zone."""
    api_endpoint: Annotated[str, Field(max_length=500, pattern=r"^(https?://[^\s]+)?$")] = ""
    """URL of the BigQuery API; empty: Google's."""
    storage_endpoint: Annotated[str, Field(max_length=500, pattern=r"^([^\s/]+:[0-9]+)?$")] = ""
    """``host:port`` of the Storage Read API; empty: Google's."""

    @field_validator("property_time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value and value not in available_timezones():
            raise ValueError("is not a time zone, such as Europe/Berlin")
        return value


Header = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
FileName = Annotated[
    str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*[^/\x00-\x1f\x7f]$")
]
SheetTitle = Annotated[str, Field(max_length=31, pattern=r"^[^\x00-\x1f\x7f:\\/?*\[\]]*$")]
Encoding = Literal["utf-8", "utf-16", "cp1252", "cp850", "iso-8859-1", "iso-8859-15"]


class LocationColumns(_Config):
    """Headers of the locations' file; a column without one stays empty."""

    location_id: Header
    """The id that events carry as their branch."""
    name: Header
    """What people call the location."""
    city: Header | None = None
    """Its city."""
    email: Header | None = None
    """Where its reports go: one plain address."""
    manager: Header | None = None
    """Who leads it."""


class CustomerColumns(_Config):
    """Headers of the customers' file; a column without one stays empty."""

    customer_id: Header
    """The ERP's id, which events carry in a user property."""
    company: Header | None = None
    """The customer's name."""
    contact: Header | None = None
    """The person to speak to."""
    email: Header | None = None
    """Their address: one plain address."""
    phone: Header | None = None
    """Their number, as written."""
    location_id: Header | None = None
    """The branch that looks after the customer."""
    city: Header | None = None
    """The customer's city."""


UNFINISHED: Final = (".part", ".partial", ".filepart", ".tmp", ".temp", ".crdownload", "~")
"""Ends of names that programs give to files which they are still writing."""
DATE_PARTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "{YYYY}": "(?P<year>[0-9]{4})",
        "{MM}": "(?P<month>[0-9]{2})",
        "{DD}": "(?P<day>[0-9]{2})",
        "{hh}": "(?P<hour>[0-9]{2})",
        "{mm}": "(?P<minute>[0-9]{2})",
        "{ss}": "(?P<second>[0-9]{2})",
    }
)
"""What a file's name may say in place of a date and time, and the digits that match."""
MOST_STARS: Final = 8


class _File(_Config):
    """What there is to say about each file."""

    file: FileName
    """Its path on the server, below ``directory`` unless it begins with a slash. The last part may
    be a pattern: ``*``, ``?`` and ``{YYYY}``, ``{MM}``, ``{DD}``, ``{hh}``, ``{mm}``, ``{ss}``."""
    take: Literal["newest", "all"] = "newest"
    """Of the files that match a pattern: the newest alone, or each that is new, oldest first."""
    format: Literal["auto", "csv", "xlsx"] = "auto"
    """What kind of file it is; ``auto`` looks at how it begins."""
    sheet: SheetTitle = ""
    """Title of the workbook's sheet; empty: the first one that is visible."""

    @field_validator("file")
    @classmethod
    def _usable(cls, value: str) -> str:
        folder, _, name = value.rpartition("/")
        if any(sign in folder for sign in "*?{}"):
            raise ValueError("only the last part of a path may be a pattern")
        if name.casefold().endswith(UNFINISHED):
            raise ValueError("is a name for a file that is still being written")
        if name.count("*") > MOST_STARS:
            raise ValueError(f"has more than {MOST_STARS} asterisks")
        for part in DATE_PARTS:
            if name.count(part) > 1:
                raise ValueError(f"has {part} more than once")
            name = name.replace(part, "")
        if "{" in name or "}" in name:
            raise ValueError(f"has braces around something else than {', '.join(DATE_PARTS)}")
        if value.endswith((".", "..")) and name.strip(".") == "":
            raise ValueError("is a directory")
        return value


class LocationFile(_File):
    """The file with the locations."""

    columns: LocationColumns
    """Our columns to the file's headers."""


class CustomerFile(_File):
    """The file with the customers."""

    columns: CustomerColumns
    """Our columns to the file's headers."""


DEFAULT_BAD_ROW_SHARE: Final = 0.1


class SftpConfig(_Config):
    """Where master data is fetched; the secret is the password or the private key (PEM)."""

    host: Host
    """Name or address of the server."""
    port: Port = 22
    """TCP port."""
    username: Annotated[str, Field(min_length=1, max_length=255)]
    """Account on the server."""
    authentication: Literal["password", "key"] = "password"
    """What the secret is."""
    host_key: Annotated[
        str,
        Field(max_length=2000, pattern=r"^([a-z0-9@.\-]+ [A-Za-z0-9+/]+={0,3}( [^\r\n\x00]*)?)?$"),
    ] = ""
    """The server's public key in OpenSSH's form; nothing is fetched until it is pinned."""
    directory: Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*$")] = "."
    """Where the files lie."""
    archive_directory: Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""
    """Where a file is moved once it is loaded, below ``directory`` unless it begins with a slash;
    empty: files stay where they are."""
    delimiter: Literal[",", ";", "\t", "|"] = ","
    """What stands between two cells of the files."""
    encoding: Encoding = "utf-8"
    """How the files write characters; a byte order mark in a file trumps it."""
    bad_row_share: Annotated[float, Field(ge=0.0, le=1.0)] = DEFAULT_BAD_ROW_SHARE
    """Largest share of unusable rows with which a file is still imported."""
    locations: LocationFile | None = None
    """The file with the locations; None: they are not imported."""
    customers: CustomerFile | None = None
    """The file with the customers; None: they are not imported."""


class SmtpConfig(_Config):
    """How reports are sent; the secret is the password."""

    host: Host
    """Name or address of the server."""
    port: Port = 587
    """TCP port."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """How the connection is encrypted; ``none`` is for a server on the same host."""
    username: Annotated[str, Field(max_length=255)] = ""
    """Account; empty: the server asks for none."""
    sender: Annotated[str, Field(min_length=3, max_length=320, pattern=r"^[^\s@,]+@[^\s@,]+$")]
    """Address that reports come from."""
    bounce_address: Annotated[str, Field(max_length=320, pattern=r"^([^\s@,]+@[^\s@,]+)?$")] = ""
    """Address that reports of non-delivery are sent to; empty: the sender's."""
    bounce_host: Annotated[str, Field(max_length=253, pattern=r"^[A-Za-z0-9._:\-]*$")] = ""
    """IMAP server of that address's mailbox, over TLS; empty: nobody reads them. The secret is the
    password there, too."""
    bounce_port: Port = 993
    """Its TCP port."""
    bounce_username: Annotated[str, Field(max_length=255)] = ""
    """Account there; empty: the one for sending."""


ConnectionConfig = BigQueryConfig | SftpConfig | SmtpConfig

CONFIGS: Final[Mapping[ConnectionKind, type[ConnectionConfig]]] = MappingProxyType(
    {"bigquery": BigQueryConfig, "sftp": SftpConfig, "smtp": SmtpConfig}
)
"""The form of each kind's configuration."""


@dataclass(frozen=True, slots=True)
class OpenConnection:
    """The open part of one stored connection.

    Attributes:
        config: Checked when it was stored.
        version: Rises by one with each change.
    """

    config: ConnectionConfig
    version: int


@dataclass(frozen=True, slots=True)
class Connection:
    """One stored connection.

    Attributes:
        kind: Which system.
        config: Checked when it was stored.
        secret: In the clear; None when none was given. Not for logs, not for answers.
        version: Rises by one with each change.
    """

    kind: ConnectionKind
    config: ConnectionConfig
    secret: bytes | None
    version: int

    def __repr__(self) -> str:
        return f"Connection(kind={self.kind!r}, version={self.version})"


class NotConnected(NotFound):
    """The tenant has not set up this connection."""


def secret_place(kind: ConnectionKind) -> Place:
    """Where the secret of a kind is sealed for."""
    return Place("auth.connections", "secret", kind)


async def load_connection(
    database: Database, vault: Vault, tenant: TenantId, kind: ConnectionKind
) -> Connection:
    """Read a tenant's connection and open its secret, in one unit of work.

    Raises:
        NotConnected: The tenant has none of this kind.
        UnreadableSecret: The secret does not open; a matter for the operator.
    """

    async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> Connection:
        row = await connection.fetchrow(_QUERIES["connection"], tenant, kind)
        if row is None:
            raise NotConnected(f"The tenant has no {kind} connection yet.")
        secret = (
            None
            if row["secret"] is None
            else await vault.unseal(connection, tenant, secret_place(kind), row["secret"])
        )
        config = CONFIGS[kind].model_validate_json(row["config"])
        return Connection(kind, config, secret, row["version"])

    return await database.run(unit, tenant=tenant, read_only=True)


async def read_connection(
    database: Database, tenant: TenantId, kind: ConnectionKind
) -> OpenConnection:
    """Read a tenant's connection without its secret.

    Raises:
        NotConnected: The tenant has none of this kind.
    """
    row = await database.fetch_row(
        _QUERIES["connection"], tenant, kind, tenant=tenant, read_only=True
    )
    if row is None:
        raise NotConnected(f"The tenant has no {kind} connection yet.")
    return OpenConnection(CONFIGS[kind].model_validate_json(row["config"]), row["version"])


async def pin_host_key(
    database: Database,
    tenant: TenantId,
    *,
    host_key: str,
    fingerprint: str,
    version: int,
    actor: tuple[str, UUID],
) -> None:
    """Write the host key that somebody has confirmed into the SFTP connection, and who it was.

    Args:
        database: Where.
        tenant: Whose connection.
        host_key: The public key in OpenSSH's form.
        fingerprint: Of it, for the audit log.
        version: Of the connection whose server has shown the key.
        actor: Kind and identifier of who confirms it, as the audit log has them.

    Raises:
        PreconditionFailed: The connection was changed meanwhile.
    """

    async def unit(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        before = await connection.fetchrow(_QUERIES["pin_host_key"], tenant, host_key, version)
        if before is None:
            raise PreconditionFailed("The connection was changed since its server was asked.")
        detail = {
            "version": version + 1,
            "fingerprint": fingerprint,
            "replaces_another": bool(before["host_key"]),
        }
        kind, identifier = actor
        await connection.execute(
            _QUERIES["append_audit"], kind, identifier, "connection.host_key_pinned", "sftp", detail
        )

    await database.run(unit, tenant=tenant)
