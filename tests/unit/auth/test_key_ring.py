"""The outer key: how it is kept, and that what it wraps opens nowhere else."""

import base64
from pathlib import Path

import pytest

from troupe.common.errors import ConfigurationError
from troupe.common.ids import TenantId, new_id
from troupe.common.secrets import (
    KeyRing,
    UnreadableSecret,
    changing_keys,
    identifier_of,
    sealed_with,
)

OLD, NEW = b"o" * 32, b"n" * 32
TENANT, KEY_ID, DATA_KEY = TenantId(new_id()), new_id(), b"d" * 32


def test_a_wrapped_key_opens_for_its_tenant_and_id_only() -> None:
    ring = KeyRing([OLD])
    wrapped = ring.wrap(TENANT, KEY_ID, DATA_KEY)
    assert DATA_KEY not in wrapped
    assert ring.unwrap(TENANT, KEY_ID, wrapped) == DATA_KEY
    with pytest.raises(UnreadableSecret):
        ring.unwrap(TenantId(new_id()), KEY_ID, wrapped)
    with pytest.raises(UnreadableSecret):
        ring.unwrap(TENANT, new_id(), wrapped)


def test_the_first_key_wraps_and_all_open() -> None:
    before, after = KeyRing([OLD]), KeyRing([NEW, OLD])
    old = before.wrap(TENANT, KEY_ID, DATA_KEY)
    new = after.wrap(TENANT, KEY_ID, DATA_KEY)
    assert after.unwrap(TENANT, KEY_ID, old) == DATA_KEY
    assert sealed_with(old) != sealed_with(new)
    with pytest.raises(UnreadableSecret, match="not at hand"):
        before.unwrap(TENANT, KEY_ID, new)


@pytest.mark.parametrize("sealed", [b"", b"\x01", b"\x02" + bytes(60), b"\x01" + bytes(43)])
def test_what_is_no_sealed_value(sealed: bytes) -> None:
    with pytest.raises(UnreadableSecret):
        sealed_with(sealed)


def test_a_ring_does_not_show_its_keys() -> None:
    assert "oooo" not in repr(KeyRing([OLD]))


@pytest.mark.parametrize("text", ["", "# only a comment", "not base64!", "c2hvcnQ=", "\x00"])
def test_texts_without_a_key(text: str) -> None:
    with pytest.raises(ConfigurationError):
        KeyRing.parse(text)


def test_the_file_is_made_once_and_privately(tmp_path: Path) -> None:
    path = tmp_path / "state" / "keys"
    first = KeyRing.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]
    wrapped = first.wrap(TENANT, KEY_ID, DATA_KEY)
    assert KeyRing.load_or_create(path).unwrap(TENANT, KEY_ID, wrapped) == DATA_KEY


def test_a_file_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(base64.b64encode(OLD).decode())
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        KeyRing.load(path)
    path.chmod(0o640)
    KeyRing.load(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        KeyRing.load(tmp_path / "nothing")
    large = tmp_path / "large"
    large.write_bytes(b"A" * 10_000)
    large.chmod(0o600)
    with pytest.raises(ConfigurationError, match="too large"):
        KeyRing.load(large)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff" * 32)
    binary.chmod(0o600)
    with pytest.raises(ConfigurationError):
        KeyRing.load(binary)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        KeyRing.load_or_create(binary / "keys")


def write(path: Path, *keys: bytes) -> None:
    """As an editor or a rotation does: another file in the place of the old one."""
    draft = path.with_name("draft")
    draft.write_text("\n".join(base64.b64encode(key).decode() for key in keys))
    draft.chmod(0o600)
    draft.replace(path)


def test_a_ring_follows_its_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    write(path, OLD)
    running, other = KeyRing.load(path), KeyRing.load(path)
    write(path, NEW, OLD)
    rotated = KeyRing.load(path).wrap(TENANT, KEY_ID, DATA_KEY)
    # It meets a key that it does not know, looks again, and opens.
    assert running.unwrap(TENANT, KEY_ID, rotated) == DATA_KEY
    # And one that wraps does so with the new key, although nobody has told it.
    assert sealed_with(other.wrap(TENANT, KEY_ID, DATA_KEY)) == sealed_with(rotated)
    assert running.identifiers == KeyRing([NEW, OLD]).identifiers


def test_a_broken_file_does_not_break_what_runs(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    write(path, OLD)
    running = KeyRing.load(path)
    wrapped = running.wrap(TENANT, KEY_ID, DATA_KEY)
    path.write_text("half a fi")
    assert running.unwrap(TENANT, KEY_ID, wrapped) == DATA_KEY
    assert sealed_with(running.wrap(TENANT, KEY_ID, DATA_KEY)) == sealed_with(wrapped)
    path.unlink()
    assert running.unwrap(TENANT, KEY_ID, wrapped) == DATA_KEY


def test_keys_are_changed_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    KeyRing.load_or_create(path)
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), changing_keys(path) as keys:  # noqa: PT012
        keys.append(NEW)
        raise ZeroDivisionError
    assert path.read_bytes() == before
    with pytest.raises(ConfigurationError), changing_keys(path) as keys:
        keys.clear()
    assert path.read_bytes() == before
    path.chmod(0o640)
    with changing_keys(path) as keys:
        keys.insert(0, NEW)
    assert KeyRing.load(path).identifiers[0] == identifier_of(NEW)
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]
