"""The outer key: how it is kept, and that what it wraps opens nowhere else."""

import base64
from pathlib import Path

import pytest

from troupe.common.errors import ConfigurationError
from troupe.common.ids import TenantId, new_id
from troupe.common.secrets import KeyRing, UnreadableSecret, sealed_with

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
