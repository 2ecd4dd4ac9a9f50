"""Secrets at rest: what a tenant entrusts to us and we must be able to read back.

The problem: client secrets, provider tokens and service-account files lie in PostgreSQL, so they
are in every dump, replica and backup. A row-level policy does not help there; encryption by the
database (disk, TDE) does not either, because whoever reads the dump reads through it.

The choice: envelope encryption in the program. Each tenant has a *data key* (AES-256) that seals
its values; data keys lie in `auth.data_keys`, themselves sealed ("wrapped") by the *key-encryption
key*, which lies in a file outside the database. A dump without that file is noise, and erasing a
tenant's data keys makes its secrets unreadable in every backup as well.

AES-256-GCM with a fresh random nonce; a tenant's key may seal 2^32 values before the nonce's 96
bits are a matter of concern. The *additional data* of every value name the tenant, table, column
and row: a ciphertext that somebody copies to another row, column or tenant does not open there.

A sealed value says which key sealed it, so that keys can change while old values still open::

    version (1 byte) | key id (16 bytes) | nonce (12 bytes) | ciphertext and tag (length + 16 bytes)

The cost: the database cannot search or compare sealed values, and losing the key file loses every
secret. Rejected: one key for all tenants (no erasure, one mistake in a query shows all), pgcrypto
(the key travels in SQL and its logs), a cloud KMS as the only way (the program must run offline;
a KMS fits later behind `KeyRing`, which is all that touches the outer key).
"""

import base64
import binascii
import contextlib
import fcntl
import hashlib
import os
import secrets
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from troupe.common.errors import ConfigurationError
from troupe.common.files import sync_directory
from troupe.common.ids import TenantId, new_id
from troupe.common.sql import load
from troupe.common.units import KiB

if TYPE_CHECKING:
    import asyncpg

_QUERIES = load(__package__, "secrets.sql")

_VERSION: Final = b"\x01"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_ID_BYTES: Final = 16
_HEADER_BYTES: Final = len(_VERSION) + _ID_BYTES + _NONCE_BYTES
_TAG_BYTES: Final = 16
_MAX_KEY_FILE_BYTES: Final = 4 * KiB
_OTHERS_MAY_READ: Final = 0o007

MAX_SECRET_BYTES: Final = 64 * KiB
"""Largest value that is sealed; a service-account file has about 2.4 KB."""


class UnreadableSecret(ConfigurationError):
    """A sealed value does not open with the keys at hand, or was moved or altered."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed value lies; it opens nowhere else.

    Attributes:
        table: With its schema: ``auth.connections``.
        column: ``secret``.
        row: The rest of the primary key after the tenant, as text.
    """

    table: str
    column: str
    row: str


def alert_secret_place(alert_id: uuid.UUID) -> Place:
    """What the secret is sealed for that signs an alert's webhooks."""
    return Place("analytics.alerts", "webhook_secret", str(alert_id))


def _additional_data(*parts: str | bytes) -> bytes:
    """Parts joined so that no two different lists give the same bytes."""
    encoded = [part.encode() if isinstance(part, str) else part for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def _encrypt(key: bytes, key_id: bytes, context: Sequence[str | bytes], plain: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    header = _VERSION + key_id + nonce
    return header + AESGCM(key).encrypt(nonce, plain, _additional_data(_VERSION + key_id, *context))


def _decrypt(key: bytes, context: Sequence[str | bytes], sealed: bytes) -> bytes:
    key_id = sealed[1 : 1 + _ID_BYTES]
    nonce = sealed[1 + _ID_BYTES : _HEADER_BYTES]
    try:
        return AESGCM(key).decrypt(
            nonce, sealed[_HEADER_BYTES:], _additional_data(_VERSION + key_id, *context)
        )
    except InvalidTag:
        raise UnreadableSecret(
            "A stored secret does not open: it was altered, moved, or sealed with another key."
        ) from None


def sealed_with(sealed: bytes) -> uuid.UUID:
    """Identifier of the key that sealed a value.

    Raises:
        UnreadableSecret: Not a sealed value, or of a later version of this program.
    """
    if len(sealed) < _HEADER_BYTES + _TAG_BYTES or not sealed.startswith(_VERSION):
        raise UnreadableSecret("A stored secret is not in a form that this version reads.")
    return uuid.UUID(bytes=sealed[1 : 1 + _ID_BYTES])


def _mark_of(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is another one; None when it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _parse_keys(text: str) -> list[bytes]:
    lines = [line.strip() for line in text.splitlines()]
    try:
        return [
            base64.b64decode(line, validate=True)
            for line in lines
            if line and not line.startswith("#")
        ]
    except (binascii.Error, ValueError):
        raise ConfigurationError("A key-encryption key is not valid base64.") from None


def _read_keys(path: Path) -> list[bytes]:
    """The keys in a file; see `KeyRing.load`."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS_MAY_READ:
                raise ConfigurationError(
                    f"{path} is open to every account of this host; run: chmod 600 {path}"
                )
            content = file.read(_MAX_KEY_FILE_BYTES + 1)
        if len(content) > _MAX_KEY_FILE_BYTES:
            raise ConfigurationError(f"{path} is too large to be a key file.")
        return _parse_keys(content.decode("ascii"))
    except OSError as error:
        raise ConfigurationError(
            f"The key-encryption key cannot be read: {error.strerror}: {path}"
        ) from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not a key file.") from None


def _unwritable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"The key-encryption key cannot be written: {error.strerror}: {path}")


def _write_keys(path: Path, keys: Sequence[bytes], *, replace: bool) -> None:
    """Write a key file, whole or not at all; without `replace` one that is there stays."""
    lines = "\n".join(base64.b64encode(key).decode() for key in keys)
    text = (
        "# Troupe's key-encryption keys, the one in use first. Back this file up apart from the\n"
        "# database: without it every stored secret is lost; with it and a dump every secret is\n"
        f"# readable. 'troupe keys' changes it.\n{lines}\n"
    )
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            before = path.stat()
            draft.chmod(before.st_mode & 0o777)
            if os.geteuid() == 0:
                os.chown(draft, before.st_uid, before.st_gid)
            draft.replace(path)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
        sync_directory(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


@contextlib.contextmanager
def changing_keys(path: Path) -> Iterator[list[bytes]]:
    """The keys in a file, to be changed in place; written when the body ends without an error.

    One change at a time: who comes second waits for the first.

    Raises:
        ConfigurationError: The file cannot be read or written, or no key would be left.
    """
    try:
        directory = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        keys = _read_keys(path)
        before = list(keys)
        yield keys
        KeyRing(keys)
        if keys != before:
            _write_keys(path, keys, replace=True)
    finally:
        os.close(directory)


def new_key() -> bytes:
    """A fresh key-encryption key."""
    return secrets.token_bytes(_KEY_BYTES)


def identifier_of(key: bytes) -> uuid.UUID:
    """What a key-encryption key is called where it may not be shown."""
    return KeyRing([key]).identifiers[0]


class KeyRing:
    """Key-encryption keys: the first wraps, all unwrap.

    A ring that was read from a file follows the file: it looks again before it wraps and when it
    lacks a key, so that a rotation needs no restart and no word to the processes that run.

    Args:
        keys: 32 bytes each, at least one.
        path: The file that they come from.
    """

    def __init__(self, keys: Sequence[bytes], path: Path | None = None) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._take(keys)

    def _take(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != _KEY_BYTES for key in keys):
            raise ConfigurationError("A key-encryption key must have exactly 32 bytes.")
        self._keys = {self._identify(key): key for key in keys}
        self._active = self._identify(keys[0])

    def __repr__(self) -> str:
        return f"KeyRing({len(self._keys)} keys)"

    @property
    def identities(self) -> tuple[str, ...]:
        """What the keys are called in sealed values, in hexadecimal; says nothing about them."""
        return tuple(identity.hex() for identity in self._keys)

    @property
    def identifiers(self) -> tuple[uuid.UUID, ...]:
        """Which keys there are, the one that wraps first; they tell nothing about the keys."""
        return tuple(uuid.UUID(bytes=identifier) for identifier in self._keys)

    def _follow(self) -> None:
        """Read the file again if it is another one; a file that is no key file leaves the ring."""
        if self._path is None or (mark := _mark_of(self._path)) in {None, self._seen}:
            return
        with contextlib.suppress(ConfigurationError):
            self._take(_read_keys(self._path))
            self._seen = mark

    @staticmethod
    def _identify(key: bytes) -> bytes:
        return hashlib.sha256(b"troupe key-encryption key\x00" + key).digest()[:_ID_BYTES]

    @classmethod
    def parse(cls, text: str) -> "KeyRing":
        """Read keys in base64, one a line; empty lines and lines from ``#`` on are skipped.

        Raises:
            ConfigurationError: No key, or a line that is not one.
        """
        return cls(_parse_keys(text))

    @classmethod
    def load(cls, path: Path) -> "KeyRing":
        """Read the key file.

        Raises:
            ConfigurationError: Not readable, open to every account of the host, or without a key.
        """
        mark = _mark_of(path)  # before it is read: a file that changes in between is read again
        ring = cls(_read_keys(path), path)
        ring._seen = mark
        return ring

    @classmethod
    def load_or_create(cls, path: Path) -> "KeyRing":
        """Read the key file, or make one (0600) with a fresh key.

        The file appears whole or not at all, also when two processes start at once: both then read
        the one that came first.

        Raises:
            ConfigurationError: Neither readable nor creatable.
        """
        if not path.exists():
            try:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise _unwritable(path, error) from error
            # Another process may have been first; then its key is read below.
            _write_keys(path, [secrets.token_bytes(_KEY_BYTES)], replace=False)
        return cls.load(path)

    def wrap(self, tenant: TenantId, key_id: uuid.UUID, data_key: bytes) -> bytes:
        """Seal a tenant's data key with the first key of the ring."""
        self._follow()
        context = ("auth.data_keys", tenant.bytes, key_id.bytes)
        return _encrypt(self._keys[self._active], self._active, context, data_key)

    def unwrap(self, tenant: TenantId, key_id: uuid.UUID, wrapped: bytes) -> bytes:
        """Open a tenant's data key.

        Raises:
            UnreadableSecret: The ring lacks the key that wrapped it, or it belongs elsewhere.
        """
        identifier = sealed_with(wrapped).bytes
        if identifier not in self._keys:
            self._follow()
        key = self._keys.get(identifier)
        if key is None:
            raise UnreadableSecret(
                "The tenant's data key was wrapped by a key-encryption key that is not at hand; "
                "check auth.key_encryption_key_file."
            )
        return _decrypt(key, ("auth.data_keys", tenant.bytes, key_id.bytes), wrapped)


class Vault:
    """Seals and opens the secrets of tenants. One per process and group.

    Its methods run inside a unit of work of `troupe.common.database`, on the unit's connection, in
    a transaction whose tenant is set: row-level security then guards the data keys too.

    Args:
        ring: The key-encryption keys.
        capacity: Data keys kept open in memory; beyond it the least recently used is forgotten.
    """

    def __init__(self, ring: KeyRing, *, capacity: int = 1024) -> None:
        self._ring = ring
        self._capacity = capacity
        self._open: OrderedDict[tuple[TenantId, uuid.UUID], bytes] = OrderedDict()

    async def seal(
        self,
        connection: "asyncpg.Connection[asyncpg.Record]",
        tenant: TenantId,
        place: Place,
        plain: bytes,
    ) -> bytes:
        """Seal a value for one place, making the tenant's first data key when there is none.

        Args:
            connection: Of the unit of work; its transaction's tenant is `tenant`.
            tenant: Whose secret it is.
            place: Where the result will be stored.
            plain: At most `MAX_SECRET_BYTES`.

        Raises:
            ValueError: Too long; callers check what comes from outside.
            UnreadableSecret: The tenant's data key does not open.
        """
        if len(plain) > MAX_SECRET_BYTES:
            raise ValueError(f"a secret of {len(plain)} bytes")
        row = await connection.fetchrow(_QUERIES["active_key"], tenant)
        if row is None:
            await self._make_key(connection, tenant)
            # A concurrent first use may have won; whichever row is there now is the key. The
            # statement above waited for it, and READ COMMITTED shows it.
            row = await connection.fetchrow(_QUERIES["active_key"], tenant)
            if row is None:
                raise UnreadableSecret("The tenant's data key is not visible.")
        key = self._unwrapped(tenant, row["key_id"], row["wrapped_key"])
        return _encrypt(key, row["key_id"].bytes, self._context(tenant, place), plain)

    async def unseal(
        self,
        connection: "asyncpg.Connection[asyncpg.Record]",
        tenant: TenantId,
        place: Place,
        sealed: bytes,
    ) -> bytes:
        """Open a value from the place that it was sealed for.

        Raises:
            UnreadableSecret: Another tenant's, moved, altered, or the keys are gone.
        """
        key_id = sealed_with(sealed)
        key = self._open.get((tenant, key_id))
        if key is None:
            wrapped = await connection.fetchval(_QUERIES["key"], tenant, key_id)
            if wrapped is None:
                raise UnreadableSecret("A stored secret was sealed with a key that is gone.")
            key = self._unwrapped(tenant, key_id, wrapped)
        return _decrypt(key, self._context(tenant, place), sealed)

    async def renew(
        self, connection: "asyncpg.Connection[asyncpg.Record]", tenant: TenantId
    ) -> uuid.UUID:
        """Give a tenant a new data key for what is sealed from now on; returns its identifier.

        The old one still opens what it sealed.
        """
        await connection.execute(_QUERIES["retire_key"], tenant)
        return await self._make_key(connection, tenant)

    async def rewrap(
        self, connection: "asyncpg.Connection[asyncpg.Record]", tenant: TenantId
    ) -> int:
        """Wrap a tenant's data keys with the first key of the ring; returns how many were changed.

        Raises:
            UnreadableSecret: One does not open; nothing is changed then.
        """
        changed = 0
        for row in await connection.fetch(_QUERIES["keys"], tenant):
            if sealed_with(row["wrapped_key"]) != self._ring.identifiers[0]:
                key = self._ring.unwrap(tenant, row["key_id"], row["wrapped_key"])
                wrapped = self._ring.wrap(tenant, row["key_id"], key)
                await connection.execute(_QUERIES["put_wrapped"], tenant, row["key_id"], wrapped)
                changed += 1
        return changed

    async def _make_key(
        self, connection: "asyncpg.Connection[asyncpg.Record]", tenant: TenantId
    ) -> uuid.UUID:
        key_id = new_id()
        wrapped = self._ring.wrap(tenant, key_id, secrets.token_bytes(_KEY_BYTES))
        await connection.execute(_QUERIES["create_key"], tenant, key_id, wrapped)
        return key_id

    def _unwrapped(self, tenant: TenantId, key_id: uuid.UUID, wrapped: bytes) -> bytes:
        entry = (tenant, key_id)
        key = self._open.get(entry)
        if key is None:
            key = self._open[entry] = self._ring.unwrap(tenant, key_id, wrapped)
        self._open.move_to_end(entry)
        while len(self._open) > self._capacity:
            self._open.popitem(last=False)
        return key

    @staticmethod
    def _context(tenant: TenantId, place: Place) -> tuple[str | bytes, ...]:
        return (tenant.bytes, place.table, place.column, place.row)
