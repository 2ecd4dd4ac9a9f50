"""How a tenant's systems are reached, as forms; and what the last try of each has found.

The secret is a field that is always empty: what is typed goes in, what is there never comes out. An
empty field keeps the present secret, and says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from troupe.actors.auth import connections
from troupe.common.connections import CONFIGS, ConnectionKind, NotConnected
from troupe.common.database import Database
from troupe.common.errors import NotFound
from troupe.common.ids import TenantId
from troupe.http.dashboard.fields import Field, FieldGroup, Words, fields_of
from troupe.platform.jobs import Job, JobState

_HOST: Final = "A name or an address, without a scheme and without a port."
_HEADER: Final = "The column's header as it stands in the file."
_FILE: Final = "A path; only its last part may be a pattern, such as customers_{YYYY}{MM}{DD}.csv."
_FORMATS: Final = {"auto": "By its content", "csv": "CSV", "xlsx": "XLSX"}
_TAKES: Final = {"newest": "The newest alone", "all": "Each that is new"}

_FILE_WORDS: Final = {
    "file": Words("File", wrong=_FILE),
    "take": Words("Of several", choices=_TAKES),
    "format": Words("Format", choices=_FORMATS, advanced=True),
    "sheet": Words("Sheet", advanced=True),
    "columns": Words("Columns of the file"),
}


def _file(name: str, title: str, columns: Mapping[str, str]) -> dict[str, Words]:
    return {
        name: Words(title),
        **{f"{name}.{key}": words for key, words in _FILE_WORDS.items()},
        **{f"{name}.columns.{key}": Words(label, wrong=_HEADER) for key, label in columns.items()},
    }


CONNECTION_WORDS: Final[Mapping[ConnectionKind, Mapping[str, Words]]] = {
    "bigquery": {
        "project": Words("Project", wrong="A project's id, such as nordwerk-analytics."),
        "dataset": Words("Dataset", wrong="A dataset's name, such as analytics_312345678."),
        "location": Words("Region", wrong="A region, such as EU or europe-west3."),
        "billing_project": Words("Project that pays", wrong="A project's id."),
        "property_time_zone": Words("Zone of the property", advanced=True),
        "api_endpoint": Words("API address", wrong="An http or https address.", advanced=True),
        "storage_endpoint": Words("Storage address", wrong="host:port", advanced=True),
    },
    "sftp": {
        "host": Words("Server", wrong=_HOST),
        "port": Words("Port"),
        "username": Words("Account"),
        "authentication": Words(
            "Signs in with", choices={"password": "Password", "key": "Private key"}
        ),
        "host_key": Words("Host key", wrong="One line, as in known_hosts: ssh-ed25519 AAAA…"),
        "directory": Words("Directory"),
        "archive_directory": Words("Move loaded files to", advanced=True),
        "delimiter": Words("Between two cells"),
        "encoding": Words("Characters"),
        "bad_row_share": Words("Tolerated share of bad rows", "0.1 is 10%", advanced=True),
        **_file(
            "locations",
            "Branches",
            {
                "location_id": "Id of the branch",
                "name": "Name",
                "city": "City",
                "email": "E-mail",
                "manager": "Manager",
            },
        ),
        **_file(
            "customers",
            "Customers",
            {
                "customer_id": "Customer number",
                "company": "Company",
                "contact": "Contact",
                "email": "E-mail",
                "phone": "Telephone",
                "location_id": "Branch",
                "city": "City",
            },
        ),
    },
    "smtp": {
        "host": Words("Server", wrong=_HOST),
        "port": Words("Port"),
        "security": Words(
            "Encryption",
            choices={"starttls": "STARTTLS", "tls": "TLS from the start", "none": "None"},
        ),
        "username": Words("Account"),
        "sender": Words("Sender", wrong="One plain address, such as reports@example.com."),
        "bounce_address": Words("Undeliverable mail to", wrong="One plain address.", advanced=True),
        "bounce_host": Words("Its IMAP server", wrong=_HOST, advanced=True),
        "bounce_port": Words("Its port", advanced=True),
        "bounce_username": Words("Its account", advanced=True),
    },
}
"""What people call each field; a test sees that none is missing."""


@dataclass(frozen=True, slots=True)
class About:
    """What a kind of connection is, for people."""

    title: str
    use: str
    tried: str
    secret: str
    secret_help: str
    secret_lines: bool


ABOUT: Final[Mapping[ConnectionKind, About]] = {
    "bigquery": About(
        "BigQuery",
        "Where the Google Analytics export of your shop lies. All figures come from there.",
        "Signs in, lists the export's tables of the last 14 days and prices a query.",
        "Service account",
        "The account's JSON file, whole. It needs the roles BigQuery Data Viewer and Job User.",
        secret_lines=True,
    ),
    "sftp": About(
        "SFTP",
        "Where your ERP puts the files with customers and branches.",
        "Compares the host key, logs in and looks at each file. Nothing is changed there.",
        "Password or private key",
        "What the account signs in with; a key without a passphrase, in PEM or OpenSSH form.",
        secret_lines=True,
    ),
    "smtp": About(
        "Mail server",
        "How reports and alerts reach your people.",
        "Connects, encrypts, logs in and offers the sender. No mail is sent.",
        "Password",
        "Of the account on the mail server.",
        secret_lines=False,
    ),
}

_LIVE: Final = frozenset({JobState.AVAILABLE, JobState.RUNNING})


@dataclass(frozen=True, slots=True)
class Trial:
    """The last try of a connection.

    Attributes:
        is_under_way: Whether it is not over yet.
        works: What it found; None: nothing yet, or it could not be done.
        message: In a sentence.
        steps: Name, whether it went well, and a sentence for each.
        finished_at: When it was over.
        is_outdated: Whether the connection was changed since.
    """

    is_under_way: bool
    works: bool | None
    message: str
    steps: tuple[tuple[str, bool, str], ...]
    finished_at: datetime | None
    is_outdated: bool

    @classmethod
    def of(cls, job: Job, version: int) -> "Trial":
        """From its job and the connection's present version."""
        result: Mapping[str, Any] = job.result if isinstance(job.result, dict) else {}
        under_way = job.state in _LIVE
        if result:
            message = result["message"]
        elif under_way:
            message = job.progress.message or "It waits for its turn."
        else:
            message = job.error.message if job.error else "It was given up."
        return cls(
            under_way,
            result.get("works"),
            message,
            tuple((step["name"], step["ok"], step["message"]) for step in result.get("steps", ())),
            job.finished_at,
            is_outdated=bool(result) and result["version"] != version,
        )


@dataclass(frozen=True, slots=True)
class ConnectionForm:
    """One connection as its page shows it.

    Attributes:
        kind: Which.
        about: What that is.
        fields: How it is set up; defaults where it is not.
        is_set_up: Whether there is one.
        has_secret: Whether there is a secret.
        version: 0 where there is none.
        updated_at: When it was changed last.
        trial: The last try; None: never tried.
    """

    kind: ConnectionKind
    about: About
    fields: tuple[Field | FieldGroup, ...]
    is_set_up: bool
    has_secret: bool
    version: int
    updated_at: datetime | None
    trial: Trial | None

    @property
    def usual(self) -> tuple[Field | FieldGroup, ...]:
        """What everybody fills in, before the secret."""
        return tuple(one for one in self.fields if isinstance(one, Field) and not _is_advanced(one))

    @property
    def groups(self) -> tuple[Field | FieldGroup, ...]:
        """What is there together or not at all, after the secret."""
        return tuple(one for one in self.fields if isinstance(one, FieldGroup))

    @property
    def advanced(self) -> tuple[Field | FieldGroup, ...]:
        """What hardly anybody needs."""
        return tuple(one for one in self.fields if _is_advanced(one))


def _is_advanced(field: Field | FieldGroup) -> bool:
    return isinstance(field, Field) and field.words.advanced


async def read_connection_form(
    database: Database, tenant: TenantId, kind: ConnectionKind
) -> ConnectionForm:
    """A connection with its last try.

    Raises:
        DatabaseError: The database failed.
    """
    config: Mapping[str, Any] = {}
    has_secret, version, updated_at, trial = False, 0, None, None
    try:
        stored = await connections.show_connection(database, tenant, kind)
    except NotConnected:
        stored = None
    if stored is not None:
        config, has_secret = stored.config, stored.has_secret
        version, updated_at = stored.version, stored.updated_at
        try:
            trial = Trial.of(await connections.last_test(database, tenant, kind), version)
        except NotFound:
            trial = None
    fields = fields_of(CONFIGS[kind], config, CONNECTION_WORDS[kind], path="config")
    return ConnectionForm(
        kind, ABOUT[kind], fields, stored is not None, has_secret, version, updated_at, trial
    )
