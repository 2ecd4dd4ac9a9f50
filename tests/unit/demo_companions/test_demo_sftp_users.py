"""The SFTP companion's users file."""

import json

import asyncssh
import pytest

from troupe_demo.sftp.users import Users

KEY = asyncssh.generate_private_key("ssh-ed25519")
PUBLIC = KEY.export_public_key().decode()


def read(tmp_path, text: str) -> Users:
    path = tmp_path / "users.json"
    path.write_text(text)
    return Users.read(path)


def test_passwords_and_keys(tmp_path) -> None:
    known = {"erp": {"password": "sésame"}, "robot": {"keys": [PUBLIC.strip()]}}
    users = read(tmp_path, json.dumps({"users": known})).users
    assert users["erp"].accepts_password("sésame")
    assert not users["erp"].accepts_password("sesame")
    assert not users["erp"].accepts_key(KEY)
    assert users["robot"].accepts_key(KEY.convert_to_public())
    assert not users["robot"].accepts_key(asyncssh.generate_private_key("ssh-ed25519"))
    assert not users["robot"].accepts_password("")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"users": {"erp": {}}}',
        '{"users": {"erp": {"password": ""}}}',
        '{"users": {"../up": {"password": "x"}}}',
        '{"users": {".host_key": {"password": "x"}}}',
        '{"users": {"erp": {"password": "x", "shell": true}}}',
        '{"users": {"erp": {"keys": ["not a key"]}}}',
    ],
)
def test_refuses_what_it_does_not_understand(tmp_path, text) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - several libraries word it, each in its way
        read(tmp_path, text)
