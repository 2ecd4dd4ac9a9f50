"""What follows from a placement before anything runs."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from troupe.common.config import Configuration, load
from troupe.common.errors import ConfigurationError
from troupe.instance import Assignment, without_database
from troupe.placement import (
    LISTENERS,
    SPARE_CONNECTIONS,
    check_placements,
    connections_needed,
    groups_here,
)


def configured(**data: object) -> Configuration:
    return load(environment={}, overrides={"groups": {"data": data}})


SHARED: dict[str, Any] = {
    "database": {"url": "postgresql://o:p@h/d", "runtime_url": "postgresql://r:p@h/d"}
}


def shared(host: str = "a", *, keys: str = "/keys", **hosts: list[str]) -> Configuration:
    """On a PostgreSQL that several hosts share; group to the names of its hosts."""
    groups = {name: {"hosts": names} for name, names in hosts.items()}
    auth = {"key_encryption_key_file": keys}
    return load(environment={}, overrides={**SHARED, "auth": auth, "host": host, "groups": groups})


def test_a_group_may_run_here_or_elsewhere() -> None:
    for placement in ("inline", "process"):
        check_placements(configured(placement=placement))
    check_placements(shared(data=["b"]))
    assert groups_here(shared(data=["b"])) == ["auth", "analytics"]
    assert groups_here(shared("b", data=["b"])) == ["auth", "data", "analytics"]
    assert groups_here(configured(placement="elsewhere")) == ["auth", "analytics"]
    check_placements(configured(hosts=[socket.gethostname()]))  # a single host needs nothing


@pytest.mark.parametrize(
    ("configuration", "says"),
    [
        (configured(placement="elsewhere"), r"groups\.data\.placement: several hosts share one"),
        (configured(hosts=["other"]), r"groups\.data\.hosts: several hosts share one"),
        (shared(keys="", data=["b"]), r"auth\.key_encryption_key_file"),
        (shared(analytics=["b"]), r"analytics runs on another host: auth\.dashboard_url must say"),
        (shared(auth=["b"]), r"auth runs on another host: auth\.public_url must say"),
        (
            shared("c", auth=["a"], data=["a", "b"], analytics=["b"]),
            r"called c; groups\.\*\.hosts name a, b.*--host",
        ),
    ],
)
def test_what_several_hosts_need_is_said_clearly(configuration: Configuration, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        check_placements(configuration)


def test_the_embedded_database_has_room_for_every_generation_and_its_successor() -> None:
    inline = connections_needed(configured(database_connections=10))
    assert inline == 2 * (4 + 10 + (4 + 3) + 3 * LISTENERS) + SPARE_CONNECTIONS
    several = configured(database_connections=10, placement="process", processes=3)
    assert connections_needed(several) == inline + 2 * (10 + LISTENERS)
    assert connections_needed(shared(data=["b"])) < inline


def test_an_instance_gets_the_whole_configuration_without_the_rights_of_the_owner() -> None:
    configuration = load(
        environment={},
        overrides={
            "database": {
                "url": "postgresql://owner:canary@h/d",
                "runtime_url": "postgresql://runtime:canary@h/d",
                "listen_url": "postgresql://runtime:password@direct/d",
                "statement_deadline": 7,
            },
            "auth": {"allow_private_peers": ["10.0.0.0/8"]},
            "state_directory": "/somewhere",
        },
    )
    assignment = Assignment(
        group="data",
        configuration=without_database(configuration),
        runtime_url="postgresql://runtime:password@h/d",
        urls={"data": "http://127.0.0.1:1"},
        reserved=frozenset({0, 5}),
        plain_tracebacks=False,
    )
    assert "password" not in repr(assignment)
    sent = json.dumps(assignment.as_message())
    assert "canary" not in sent
    arrived = Assignment.model_validate(json.loads(sent))
    assert arrived == assignment
    assert arrived.configuration.database.statement_deadline == 7
    assert arrived.configuration.database.url.get_secret_value() == ""
    assert "password" in arrived.configuration.database.listen_url.get_secret_value()
    assert arrived.configuration.auth.allow_private_peers == ("10.0.0.0/8",)
    assert arrived.configuration.state_directory == Path("/somewhere")
