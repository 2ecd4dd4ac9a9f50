"""What follows from a placement before anything runs."""

import json
from pathlib import Path

import pytest

from troupe.common.config import Configuration, load
from troupe.common.errors import ConfigurationError
from troupe.instance import Assignment, without_database
from troupe.placement import LISTENERS, SPARE_CONNECTIONS, check_placements, connections_needed


def configured(**data: object) -> Configuration:
    return load(environment={}, overrides={"groups": {"data": data}})


def test_inline_and_process_are_available_and_elsewhere_is_refused_by_name() -> None:
    for placement in ("inline", "process"):
        check_placements(configured(placement=placement))
    with pytest.raises(ConfigurationError, match=r"groups\.data\.placement: only 'inline'"):
        check_placements(configured(placement="elsewhere"))


def test_the_embedded_database_has_room_for_every_process_and_one_that_is_leaving() -> None:
    inline = connections_needed(configured(database_connections=10))
    assert inline == 4 + 10 + 4 + SPARE_CONNECTIONS
    several = configured(database_connections=10, placement="process", processes=3)
    assert connections_needed(several) == inline - 10 + 4 * (10 + LISTENERS)


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
