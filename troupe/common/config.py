"""The operator's configuration: one frozen, typed tree, validated once.

It is read from a TOML file, then from environment variables, which win: ``TROUPE_`` plus the keys
joined by two underscores (``TROUPE_GROUPS__DATA__TASKS=8``). With neither, every default holds and
``troupe up`` runs on an embedded PostgreSQL. Secrets never stand in the file: they come from files
that it names or from the environment.

Every field says its meaning, its unit and what a wrong value does. docs/configuration.md is written
from these docstrings; a test compares the two.
"""

import ipaddress
import os
import socket
import tomllib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_origin
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from troupe.common.config_lines import line_of
from troupe.common.errors import ConfigurationError
from troupe.common.units import DAYS, HOURS, MINUTES, SECONDS

ENVIRONMENT_PREFIX: Final = "TROUPE_"
MAX_FILE_BYTES: Final = 1024 * 1024

Tree = Mapping[str, Any]
"""Values under keys, as TOML nests them."""

Port = Annotated[int, Field(ge=0, le=65535)]
"""A TCP port; 0 asks the system for any free one."""


def default_state_directory() -> Path:
    """Where state lies when nothing is said: the system's place for root, else the user's own."""
    if os.geteuid() == 0:
        return Path("/var/lib/troupe")
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "troupe"


def _is_list(field: FieldInfo | None) -> bool:
    return field is not None and get_origin(field.annotation) is tuple


def _network(text: str) -> str:
    ipaddress.ip_network(text)
    return text


Network = Annotated[str, AfterValidator(_network)]
"""A network in CIDR notation."""


def _origin(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"https", "http"} or not parts.hostname or "*" in text:
        raise ValueError("must be an origin such as https://app.example")
    if text != f"{parts.scheme}://{parts.netloc}" or "@" in parts.netloc or text != text.lower():
        raise ValueError("must be scheme and host in lower case, without a path or a user")
    return text


Origin = Annotated[str, AfterValidator(_origin)]
"""What a browser calls an origin: scheme and host."""

HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
"""What a supervisor is called among those that share a PostgreSQL."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _lists_in_variables(cls, values: Any) -> Any:
        """An environment variable writes a list with commas."""
        if not isinstance(values, dict):
            return values
        return {
            key: [item.strip() for item in value.split(",") if item.strip()]
            if isinstance(value, str) and _is_list(cls.model_fields.get(key))
            else value
            for key, value in values.items()
        }


class Placement(StrEnum):
    """Where a group runs."""

    INLINE = "inline"
    PROCESS = "process"
    ELSEWHERE = "elsewhere"


class DatabaseSettings(_Section):
    """PostgreSQL."""

    url: SecretStr = SecretStr("")
    """Connection URL of an existing server, for migrations: its role owns the database and has
    CREATEROLE, or is a member of troupe_owner. Empty starts the embedded one. Several servers may
    be named (`postgresql://…@db1:5432,db2:5432/troupe`): the one that takes changes is used, also
    after a failover."""
    runtime_url: SecretStr = SecretStr("")
    """Connection URL of the role troupe_runtime on that server; needed when `url` is given."""
    transaction_pooler: bool = False
    """Whether `runtime_url` leads to a pooler that gives every transaction another connection, such
    as PgBouncer in transaction mode. Statements are then not prepared by name."""
    listen_url: SecretStr = SecretStr("")
    """Connection URL of troupe_runtime for LISTEN, directly to the server; needed with
    `transaction_pooler`. Without it notifications are lost and everything waits for polling."""
    embedded_account: str = ""
    """Account that the embedded PostgreSQL runs as when Troupe runs as root; empty: `postgres` if
    it exists, else `nobody`. Ignored without root."""
    connect_deadline: Annotated[float, Field(gt=0)] = 10 * SECONDS
    """Seconds to wait for a new connection. Too short: start-up fails on a slow host."""
    statement_deadline: Annotated[float, Field(gt=0)] = 30 * SECONDS
    """Seconds that a unit of work may take unless it says otherwise. Too short: slow answers become
    errors; too long: a stuck statement holds its connection."""


class GroupSettings(_Section):
    """One actor group."""

    host: str = "127.0.0.1"
    """Address to listen on. `0.0.0.0` exposes the port to the network: put TLS in front."""
    port: Port
    """TCP port; 0 takes any free one."""
    placement: Placement = Placement.INLINE
    """`inline`: in the supervisor's process, where it shares one event loop with every other such
    group. `process`: in processes of its own, which a crash or a stuck loop elsewhere does not
    touch. `elsewhere`: not on this host; another supervisor on the same PostgreSQL runs it."""
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    """Child processes, with placement = "process". Each has its own task pool, database pool and
    80 to 160 MiB of memory."""
    watchdog: Annotated[float, Field(ge=0, le=10 * MINUTES)] = 5 * SECONDS
    """Seconds for which the event loop of a child process may stand still before the process is
    killed and replaced; 0: for ever. Too short: a busy host kills healthy processes."""
    start_deadline: Annotated[float, Field(gt=0, le=1 * HOURS)] = 2 * MINUTES
    """Seconds that a child process may take to become ready, during which the watchdog does not
    look. Too short: a slow host never gets it started."""
    memory_limit: Annotated[int, Field(ge=0)] = 0
    """MiB of resident memory above which a child process is killed and replaced (Linux); 0: no
    limit. Too low: requests are lost over and over."""
    niceness: Annotated[int, Field(ge=0, le=19)] = 0
    """How far the group gives way to others when processors are short: its child processes, and its
    sessions of a PostgreSQL on this host. 0: not at all; 19: most. Too high: its own answers and
    work become slow on a busy host."""
    hosts: tuple[HostName, ...] = ()
    """Names of the supervisors that run the group; empty: every one. On any other the group is
    elsewhere, whatever its `placement` says."""
    tasks: Annotated[int, Field(ge=1, le=1024)] = 32
    """Bound of the group's task pool. Too small: work waits; too large: memory grows."""
    database_connections: Annotated[int, Field(ge=1, le=100)] = 4
    """Bound of the group's database pool. The sum over all groups and processes must stay below
    the server's max_connections."""
    mailbox: Annotated[int, Field(ge=1, le=65536)] = 256
    """Messages that an actor may have waiting."""
    connections: Annotated[int, Field(ge=8, le=60_000)] = 4000
    """Client connections that a process has open. One more takes the place of the one that has kept
    it waiting longest; when it waits for none, connections wait in the kernel. Too small: idle
    browsers are disconnected; too large: memory, about 50 KiB each."""
    requests: Annotated[int, Field(ge=1, le=10_000)] = 256
    """Requests that a process answers at the same time. More are refused with 503. Too small:
    bursts are refused; too large: all become slow together."""

    @property
    def all_connections(self) -> int:
        """Connections that the pools of a process may have open."""
        return self.database_connections


class AuthGroup(GroupSettings):
    """The auth group."""

    port: Port = 8003
    """TCP port; 0 takes any free one."""


class DataGroup(GroupSettings):
    """The data group."""

    port: Port = 8002
    """TCP port; 0 takes any free one."""
    niceness: Annotated[int, Field(ge=0, le=19)] = 10
    """How far the group gives way to others when processors are short: its child processes, and its
    sessions of a PostgreSQL on this host. 0: not at all; 19: most. Too high: its own answers and
    work become slow on a busy host."""


class AnalyticsGroup(GroupSettings):
    """The analytics group."""

    port: Port = 8001
    """TCP port; 0 takes any free one."""
    background_connections: Annotated[int, Field(ge=1, le=100)] = 3
    """Bound of a second database pool, for reports, tasks, alerts and answers that are got ready
    before somebody asks. They give way to the dashboard (`background_niceness`) and never make it
    wait for a connection."""
    background_niceness: Annotated[int, Field(ge=0, le=19)] = 10
    """As `niceness`, for the sessions of that pool, if it is more. Too high: reports become slow on
    a busy host."""

    @property
    def all_connections(self) -> int:
        """Connections that the pools of a process may have open."""
        return self.database_connections + self.background_connections


class Groups(_Section):
    """The three actor groups."""

    auth: AuthGroup = AuthGroup()
    data: DataGroup = DataGroup()
    analytics: AnalyticsGroup = AnalyticsGroup()

    def named(self, name: str) -> GroupSettings:
        """The section of the group called `name`."""
        settings: GroupSettings = getattr(self, name)
        return settings


class AuthSettings(_Section):
    """Login, sessions, secrets."""

    public_url: str = ""
    """URL under which browsers reach the auth group; empty: its own address and port."""
    dashboard_url: str = ""
    """URL under which browsers reach the dashboard; empty: the analytics group's own address."""
    data_url: str = ""
    """URL under which the dashboard's pages reach the data group; empty: its own address."""
    session_idle: Annotated[float, Field(gt=0)] = 12 * HOURS
    """Seconds without a request after which a session ends."""
    session_absolute: Annotated[float, Field(gt=0)] = 7 * DAYS
    """Seconds after login at which a session ends in any case."""
    session_confirm: Annotated[float, Field(ge=0, le=30 * DAYS)] = 1 * HOURS
    """Seconds after which the identity provider is asked again whether it still stands by a login,
    if it gave a refresh token; 0: never. Short: a person who is locked out there is out here
    sooner; each time costs one request for each session."""
    session_unconfirmed: Annotated[float, Field(gt=0, le=30 * DAYS)] = 8 * HOURS
    """Seconds for which such a session goes on when the provider cannot be asked. Too short: its
    outage becomes ours."""
    login_state_lifetime: Annotated[float, Field(gt=0, le=1 * HOURS)] = 10 * MINUTES
    """Seconds that a person has to finish a login at the identity provider."""
    key_encryption_key_file: str = ""
    """File with the key-encryption key; empty: made on first start under the state directory. Lose
    it, and every stored secret is lost."""
    allow_private_peers: tuple[Network, ...] = ()
    """Networks (CIDR) inside the private ranges that tenants may name as hosts of identity
    providers, BigQuery endpoints, SFTP and SMTP servers. Empty: none."""


class HttpSettings(_Section):
    """What the three ports have in common."""

    trusted_proxies: tuple[Network, ...] = ()
    """Networks (CIDR) of your own proxies, whose `X-Forwarded-For` and `X-Forwarded-Proto` are
    believed. Empty: nobody's, and all clients behind a proxy count as one address. Too wide:
    clients choose their address themselves."""
    cors_origins: tuple[Origin, ...] = ()
    """Further origins (`https://app.example`) whose pages may read answers and, with a session,
    change things. The dashboard may do so in any case."""
    address_rate: Annotated[int, Field(ge=12)] = 1200
    """Requests a minute of one address to what needs no credentials, and of failed
    authentications; a quarter of them at once. Counted by each process for itself."""
    account_rate: Annotated[int, Field(ge=12)] = 60_000
    """Requests a minute of one person or token; a twelfth of them at once. Likewise."""
    tenant_rate: Annotated[int, Field(ge=12)] = 240_000
    """Requests a minute of everybody in one tenant; a twelfth of them at once. Likewise."""


class DataSettings(_Section):
    """Extraction."""

    days_in_flight: Annotated[int, Field(ge=1, le=16)] = 3
    """Days of one ingestion that are extracted at the same time. The first uses the job's slot of
    the group's task pool, the others one each while it is free."""
    memory_mib: Annotated[int, Field(ge=32, le=65_536)] = 256
    """MiB of rows that all ingestions of a process may hold between BigQuery and PostgreSQL. Too
    small: days wait for each other."""
    batch_rows: Annotated[int, Field(ge=100, le=100_000)] = 16_384
    """Rows encoded and copied at a time; a batch also ends at 4 MiB. Larger: slightly faster."""
    query_deadline: Annotated[float, Field(gt=0)] = 10 * MINUTES
    """Seconds that the query of one day may take in BigQuery."""
    scan_budget_gib: Annotated[float, Field(ge=0, le=1_000_000)] = 100.0
    """GiB that the queries of one tenant may scan per day of its reporting zone, unless its own
    settings say otherwise; 0: any number. BigQuery bills by what is scanned. Too small: days stay
    unloaded until midnight."""
    maximum_days: Annotated[int, Field(ge=1, le=3660)] = 800
    """Days that one ingestion may ask for."""
    maximum_schedules: Annotated[int, Field(ge=0, le=1000)] = 50
    """Schedules that one tenant may have. Those that are there stay when it is lowered."""


class AnalyticsSettings(_Section):
    """Answers."""

    answer_cache: Annotated[int, Field(ge=0, le=65536)] = 64
    """MiB of answers that each process of the analytics group keeps in memory; 0: none. Too small:
    answers are computed again and again."""
    warm_presets: bool = True
    """Whether the answers to the usual questions are computed right after each load, before anybody
    asks."""


class JobSettings(_Section):
    """Durable jobs, of all groups."""

    lease: Annotated[float, Field(ge=2, le=10 * MINUTES)] = 15 * SECONDS
    """Seconds without a heartbeat after which a process counts as dead; its jobs run again within
    twice that. Too short: a process that is only busy loses its jobs."""
    poll: Annotated[float, Field(ge=0.05, le=1 * MINUTES)] = 1 * SECONDS
    """Seconds between two looks for jobs without being notified."""
    history_days: Annotated[int, Field(ge=1, le=400)] = 30
    """Days for which finished jobs, and the idempotency keys of jobs, are remembered."""


class LogSettings(_Section):
    """Logging."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is written."""
    style: Literal["auto", "json", "console"] = "auto"
    """`auto` writes for people into a terminal, else JSON lines."""


class ProcessorSettings(_Section):
    """The processors of this host."""

    reserved: Annotated[int, Field(ge=0, le=1024)] = 1
    """How many are reserved for those who answer people: groups and sessions that give way
    (`niceness`) do not run there, nor do worker threads of such a group inline. They are the first
    that the supervisor may use, and never all of them. 0: none; ingestion is faster then where
    there are few, and answers wait for it by some milliseconds."""


class ShutdownSettings(_Section):
    """Stopping."""

    grace: Annotated[float, Field(gt=0, le=1 * HOURS)] = 10 * SECONDS
    """Seconds that running requests and jobs have to end after SIGTERM."""


class Configuration(_Section):
    """The whole tree."""

    state_directory: Path = Field(default_factory=default_state_directory)
    """Directory of the embedded database, the keys and the run files. Default: `/var/lib/troupe`
    for root, else `$XDG_STATE_HOME/troupe` (`~/.local/state/troupe`)."""
    host: HostName = Field(default_factory=socket.gethostname)
    """Name of this supervisor among those that share a PostgreSQL, for `hosts` and `troupe status`;
    `troupe up --host` overrides it. Default: the machine's host name."""
    database: DatabaseSettings = DatabaseSettings()
    groups: Groups = Groups()
    auth: AuthSettings = AuthSettings()
    http: HttpSettings = HttpSettings()
    data: DataSettings = DataSettings()
    analytics: AnalyticsSettings = AnalyticsSettings()
    jobs: JobSettings = JobSettings()
    log: LogSettings = LogSettings()
    processors: ProcessorSettings = ProcessorSettings()
    shutdown: ShutdownSettings = ShutdownSettings()

    def runs_here(self, group: str) -> bool:
        """Whether this host runs the group."""
        settings = self.groups.named(group)
        return settings.placement is not Placement.ELSEWHERE and (
            not settings.hosts or self.host in settings.hosts
        )

    @field_validator("state_directory")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The tree that ``TROUPE_…`` variables describe; values stay text, for pydantic to read."""
    tree: dict[str, Any] = {}
    for name, value in sorted(environment.items()):
        if not name.startswith(ENVIRONMENT_PREFIX) or name == "TROUPE_CONFIG":
            continue
        *sections, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
            if not isinstance(branch, dict):
                raise ConfigurationError(f"{name}: {section!r} is set as a value and as a section")
        branch[key] = value
    return tree


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = (
            _merge(below, value)
            if isinstance(below, dict) and isinstance(value, Mapping)
            else value
        )
    return merged


def _first_problem(error: ValidationError, path: Path | None, environment: Tree) -> str:
    """One sentence about the first problem, and where to find it: a line, or a variable."""
    problem = error.errors(include_url=False, include_input=False)[0]
    keys = tuple(str(part) for part in problem["loc"])
    said = f"{'.'.join(keys) or 'the file'}: {problem['msg']}"
    named = next((n for n in range(len(keys), 0, -1) if _holds(environment, keys[:n])), 0)
    if named == len(keys) > 0 or (named and isinstance(_at(environment, keys[:named]), str)):
        return f"{variable(*keys[:named])}: {said}"
    if path is None:
        return said
    line = line_of(path.read_text(encoding="utf-8"), keys)
    return f"{path}: {f'line {line}: ' if line else ''}{said}"


def variable(*keys: str) -> str:
    """The environment variable that sets a key.

    >>> variable("groups", "data", "tasks")
    'TROUPE_GROUPS__DATA__TASKS'
    """
    return ENVIRONMENT_PREFIX + "__".join(keys).upper()


def _at(tree: Tree, keys: Sequence[str]) -> Any:
    found: Any = tree
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _holds(tree: Tree, keys: Sequence[str]) -> bool:
    return _at(tree, keys) is not None


def revealed(configuration: Configuration) -> dict[str, Any]:
    """The tree as plain JSON values, secrets included; for a private channel to a process of ours.

    `Configuration.model_validate` reads it again.
    """
    tree: dict[str, Any] = _plain(configuration.model_dump())
    return tree


def _plain(value: Any) -> Any:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case dict():
            return {key: _plain(inner) for key, inner in value.items()}
        case tuple():
            return [_plain(inner) for inner in value]
        case Path():
            return str(value)
        case _:
            return value


def read_file(path: Path) -> dict[str, Any]:
    """The tree in one TOML file.

    Raises:
        ConfigurationError: Not readable, too large, or not TOML (with line and column).
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigurationError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def load(
    path: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    scaled: Tree | None = None,
) -> Configuration:
    """Read, merge and validate: defaults, file, `scaled`, environment, `overrides`; the last wins.

    Args:
        path: The operator's file.
        environment: By default the process's.
        overrides: Of the command line.
        scaled: What `troupe scale` said, see `troupe.common.scaling`.

    Raises:
        ConfigurationError: One sentence that names the file or key and what is wrong.
    """
    variables = from_environment(os.environ if environment is None else environment)
    tree = read_file(path) if path else {}
    for over in (scaled or {}, variables, overrides or {}):
        tree = _merge(tree, over)
    try:
        return Configuration.model_validate(tree)
    except ValidationError as error:
        raise ConfigurationError(_first_problem(error, path, variables)) from error
