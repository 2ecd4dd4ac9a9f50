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
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, field_validator

from troupe.common.database import Database
from troupe.common.errors import NotFound
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


class LocationFile(_Config):
    """The file with the locations."""

    file: FileName
    """Its path on the server, below ``directory`` unless it begins with a slash."""
    columns: LocationColumns
    """Our columns to the file's headers."""


class CustomerFile(_Config):
    """The file with the customers."""

    file: FileName
    """Its path on the server, below ``directory`` unless it begins with a slash."""
    columns: CustomerColumns
    """Our columns to the file's headers."""


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
    delimiter: Literal[",", ";", "\t", "|"] = ","
    """What stands between two cells of the files."""
    encoding: Encoding = "utf-8"
    """How the files write characters; a byte order mark in a file trumps it."""
    bad_row_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
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


ConnectionConfig = BigQueryConfig | SftpConfig | SmtpConfig

CONFIGS: Final[Mapping[ConnectionKind, type[ConnectionConfig]]] = MappingProxyType(
    {"bigquery": BigQueryConfig, "sftp": SftpConfig, "smtp": SmtpConfig}
)
"""The form of each kind's configuration."""


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
