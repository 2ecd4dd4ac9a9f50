"""What every group is given, and what is read off the configuration for all of them alike."""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Any

from troupe.common.config import Configuration, GroupSettings
from troupe.common.database import CACHED_STATEMENTS, PoolSettings
from troupe.common.outbound import OutboundGuard
from troupe.common.secrets import KeyRing
from troupe.http.operations import Others, nobody_else
from troupe.platform.group import Sizes
from troupe.platform.supervision import Snapshot


@dataclass(frozen=True, kw_only=True)
class Site:
    """What the groups are given.

    Attributes:
        configuration: In force.
        sockets: Group to its listening socket; those of the groups that run here.
        urls: Group to the URL of its port; of all groups.
        runtime_url: Where PostgreSQL is now; raises DatabaseUnavailable before it has started.
        keys: Key-encryption keys.
        snapshot: The whole tree in this process as it is now.
        reserved: Processors that whoever gives way keeps off.
        instance: Name of the one instance of a group that this process is; empty: it is none.
        around: How the whole group of this instance looks from outside; None: not known yet.
        others: Asks the other instances of the group for their figures.
        figures_from: Told how to get those of this one.
    """

    configuration: Configuration
    sockets: dict[str, socket]
    urls: dict[str, str]
    runtime_url: Callable[[], str]
    keys: KeyRing
    snapshot: Callable[[], Snapshot]
    reserved: frozenset[int] = frozenset()
    instance: str = ""
    around: Callable[[], Mapping[str, Any] | None] = lambda: None
    others: Others = nobody_else
    figures_from: Callable[[Callable[[], list[Any]]], None] = lambda _figures: None

    def settings(self, group: str) -> GroupSettings:
        """The group's section of the configuration."""
        return self.configuration.groups.named(group)

    def left_to_others(self, group: str) -> frozenset[int]:
        """Processors that whatever belongs to the group keeps off."""
        return self.reserved if self.settings(group).niceness else frozenset()

    @property
    def auth_url(self) -> str:
        """Where browsers reach the auth group."""
        return self.configuration.auth.public_url or self.urls["auth"]

    @property
    def dashboard_url(self) -> str:
        """Where browsers reach the dashboard."""
        return self.configuration.auth.dashboard_url or self.urls["analytics"]

    @property
    def data_url(self) -> str:
        """Where browsers reach the data group."""
        return self.configuration.auth.data_url or self.urls["data"]

    def guard(self) -> OutboundGuard:
        """What decides which hosts a tenant may name."""
        return outbound_guard(self.configuration)


def outbound_guard(configuration: Configuration) -> OutboundGuard:
    """What decides which hosts tenants may name."""
    allowed = configuration.auth.allow_private_peers
    return OutboundGuard(ipaddress.ip_network(network) for network in allowed)


def key_file(configuration: Configuration) -> Path:
    """Where the key-encryption keys lie, or will lie."""
    given = configuration.auth.key_encryption_key_file
    return Path(given) if given else configuration.state_directory / "keys"


def key_ring(configuration: Configuration) -> KeyRing:
    """The key-encryption keys: the operator's file, or one made on the first start.

    Raises:
        ConfigurationError: The file cannot be read or holds no keys.
    """
    if configuration.auth.key_encryption_key_file:
        return KeyRing.load(key_file(configuration))
    configuration.state_directory.mkdir(parents=True, exist_ok=True)
    return KeyRing.load_or_create(key_file(configuration))


def pool_settings(
    configuration: Configuration, *, niceness: int = 0, keep_off: frozenset[int] = frozenset()
) -> PoolSettings:
    """How connections are treated, in every pool; `niceness` is that of the group."""
    database = configuration.database
    return PoolSettings(
        deadline=database.statement_deadline,
        connect_deadline=database.connect_deadline,
        statement_cache_size=0 if database.transaction_pooler else CACHED_STATEMENTS,
        niceness=niceness,
        keep_off=keep_off,
    )


def sizes_of(settings: GroupSettings) -> Sizes:
    """The bounds of a group that change while it runs."""
    return Sizes(
        tasks=settings.tasks,
        mailbox=settings.mailbox,
        database_connections=settings.database_connections,
    )
