"""Changing keys while everything runs.

There are two layers, and each has its own reason to change:

- The *key-encryption key* (the file) is changed when somebody who had it leaves, or may have lost
  it. Every data key is wrapped anew; no secret is touched. Cheap: one row for each tenant.
- The *data keys* are changed when a dump and the file may have met: then every secret is sealed
  anew with a new data key.

No request fails meanwhile. A process that meets a data key wrapped by a key that it does not know
looks into the file again; the new key is in the file before anything is wrapped with it, and the
old one stays until nothing needs it. What is sealed with a retired data key still opens, because
the key stays as long as a value names it. Each value is changed only if it is still what was read.

A rotation that is interrupted is simply run again: it goes on with what is left.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from troupe.actors.auth.audit import OPERATOR, append
from troupe.actors.auth.providers import provider_secret_place
from troupe.actors.auth.session_tokens import tokens_place
from troupe.common.connections import secret_place
from troupe.common.database import Database
from troupe.common.errors import ConfigurationError
from troupe.common.ids import TenantId
from troupe.common.secrets import (
    Place,
    UnreadableSecret,
    Vault,
    alert_secret_place,
    changing_keys,
    identifier_of,
    new_key,
    sealed_with,
)
from troupe.common.sql import load
from troupe.common.tenants import all_tenants
from troupe.common.units import HOURS

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

_QUERIES: Final = load(__package__, "key_rotation.sql")
KEPT_AFTER_RETIREMENT: Final = 24 * HOURS
"""A retired data key stays for at least so long: a request may have read a value and not yet its
key."""


@dataclass(frozen=True, slots=True)
class KeysInUse:
    """Who wraps what.

    Attributes:
        wrapped: Key-encryption key to the number of data keys that it wraps.
        data_keys: Data keys in all.
        retired: Of them, those that seal nothing new.
    """

    wrapped: dict[UUID, int]
    data_keys: int
    retired: int


async def keys_in_use(database: Database) -> KeysInUse:
    """Look at the data keys of every tenant."""
    wrapped: dict[UUID, int] = {}
    total = retired = 0
    for tenant in await all_tenants(database):
        for row in await database.fetch(_QUERIES["data_keys"], tenant, tenant=tenant):
            by = sealed_with(row["wrapped_key"])
            wrapped[by] = wrapped.get(by, 0) + 1
            total += 1
            retired += row["state"] == "retired"
    return KeysInUse(wrapped, total, retired)


def add_key(path: Path) -> UUID:
    """Put a fresh key at the end of the file: every process can open with it, none wraps with it.

    Returns:
        Its identifier, for `make_first`.
    """
    fresh = new_key()
    with changing_keys(path) as keys:
        keys.append(fresh)
    return identifier_of(fresh)


def make_first(path: Path, identifier: UUID) -> None:
    """Let a key of the file be the one that wraps.

    Raises:
        ConfigurationError: The file has no such key.
    """
    with changing_keys(path) as keys:
        chosen = [key for key in keys if identifier_of(key) == identifier]
        if not chosen:
            raise ConfigurationError(
                f"{path} has no key {identifier}; 'troupe keys show' lists them."
            )
        keys.remove(chosen[0])
        keys.insert(0, chosen[0])


async def retire_unused(database: Database, path: Path) -> list[UUID]:
    """Take keys out of the file that wrap nothing any more; the first always stays.

    Returns:
        Their identifiers.
    """
    with changing_keys(path) as keys:
        used = (await keys_in_use(database)).wrapped
        gone = [key for key in keys[1:] if identifier_of(key) not in used]
        for key in gone:
            keys.remove(key)
    return [identifier_of(key) for key in gone]


async def rewrap_all(database: Database, vault: Vault) -> int:
    """Wrap every tenant's data keys with the first key of the file; returns how many changed."""
    changed = 0
    for tenant in await all_tenants(database):

        async def unit(connection: "Connection", tenant: TenantId = tenant) -> int:
            return await vault.rewrap(connection, tenant)

        changed += await database.run(unit, tenant=tenant)
    return changed


@dataclass(slots=True)
class Resealed:
    """What a change of data keys did.

    Attributes:
        tenants: How many have a new key.
        values: Secrets that were sealed anew.
        unreadable: Secrets that do not open with any key, and stay as they are.
        keys_dropped: Data keys that sealed nothing any more.
    """

    tenants: int = 0
    values: int = 0
    unreadable: int = 0
    keys_dropped: int = 0


async def renew_data_keys(
    database: Database, vault: Vault, *, keep: float = KEPT_AFTER_RETIREMENT
) -> Resealed:
    """Give every tenant a new data key and seal its secrets anew.

    Args:
        database: Where.
        vault: With the key file.
        keep: Seconds for which a retired data key stays although no value names it.
    """
    done = Resealed()
    for tenant in await all_tenants(database):
        if not await database.fetch(_QUERIES["data_keys"], tenant, tenant=tenant):
            continue  # has no secret yet

        async def renew(connection: "Connection", tenant: TenantId = tenant) -> None:
            key = await vault.renew(connection, tenant)
            await append(connection, OPERATOR, "keys.rotated", str(key))

        await database.run(renew, tenant=tenant)
        done.tenants += 1
        await _reseal(database, vault, tenant, done)
        dropped = await database.fetch(
            _QUERIES["drop_unused_keys"], tenant, timedelta(seconds=keep), tenant=tenant
        )
        done.keys_dropped += len(dropped)
    return done


async def _reseal(database: Database, vault: Vault, tenant: TenantId, done: Resealed) -> None:
    """Seal every value of one tenant anew, each in a transaction of its own."""
    for query, place_of in _PLACES.items():
        for row in await database.fetch(_QUERIES[f"{query}_sealed"], tenant=tenant):
            place = place_of(row["key"])

            async def unit(
                connection: "Connection",
                sealed: bytes = row["sealed"],
                key: str = row["key"],
                place: Place = place,
                write: str = _QUERIES[f"{query}_put"],
            ) -> bool:
                plain = await vault.unseal(connection, tenant, place, sealed)
                fresh = await vault.seal(connection, tenant, place, plain)
                # False: somebody has changed the value meanwhile, hence with the new key.
                written: bool = await connection.fetchval(write, key, sealed, fresh)
                return written

            try:
                done.values += bool(await database.run(unit, tenant=tenant))
            except UnreadableSecret:
                done.unreadable += 1


_PLACES: Final[dict[str, Callable[[Any], Place]]] = {
    "connections": secret_place,
    "providers": lambda key: provider_secret_place(UUID(key)),
    "sessions": lambda key: tokens_place(UUID(key)),
    "alerts": lambda key: alert_secret_place(UUID(key)),
}
"""Every column that holds sealed values, with what it seals for. A test looks for others."""
