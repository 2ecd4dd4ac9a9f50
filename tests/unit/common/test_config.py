from pathlib import Path

import pytest

from troupe.common.config import load
from troupe.common.errors import ConfigurationError


def test_defaults_run_without_a_file() -> None:
    configuration = load(environment={})
    groups = configuration.groups
    assert (groups.analytics.port, groups.data.port, groups.auth.port) == (8001, 8002, 8003)
    assert configuration.database.url.get_secret_value() == ""


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "troupe.toml"
    file.write_text("[groups.data]\ntasks = 4\nprocesses = 2\n")
    configuration = load(file, environment={"TROUPE_GROUPS__DATA__TASKS": "8"})
    assert configuration.groups.data.tasks == 8
    assert configuration.groups.data.processes == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[groups.data]\ntasks = 0\n", "groups.data.tasks"),
        ("[groups.data]\ntask = 4\n", "groups.data.task"),
        ("[groups.data\n", "line 1"),
        ("[log]\nlevel = 'loud'\n", "log.level"),
        ("[http]\ntrusted_proxies = ['10.0.0.1/8']\n", "http.trusted_proxies"),
        ("[http]\ncors_origins = ['*']\n", "http.cors_origins"),
        ("[http]\ncors_origins = ['https://*.example']\n", "http.cors_origins"),
        ("[http]\ncors_origins = ['https://app.example/']\n", "http.cors_origins"),
        ("[http]\ncors_origins = ['https://App.example']\n", "http.cors_origins"),
        ("[http]\ncors_origins = ['app.example']\n", "http.cors_origins"),
        ("[http]\ntenant_rate = 0\n", "http.tenant_rate"),
        ("state_directory = 5\n", "state_directory"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_place(
    tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "troupe.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load(file, environment={})
    message = str(caught.value)
    assert says in message
    assert str(file) in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\n\n[groups.data]\nmailbox = 5\ntasks = 0\n", 5),
        ("[groups.data]\nhosts = [\n'a',\n'not a name'\n]\n", 2),
        ("[groups.data]\nmailbox = 5\ntask = 4\n", 3),
        ("[groups.data]\nx = 1\nx = 2\n", 3),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    file = tmp_path / "troupe.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=f"line {line}[:,]"):
        load(file, environment={})


def test_a_mistake_in_a_variable_is_told_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "troupe.toml"
    file.write_text("[groups.data]\ntasks = 4\n")
    with pytest.raises(ConfigurationError) as caught:
        load(file, environment={"TROUPE_GROUPS__DATA__TASKS": "0"})
    assert str(caught.value).startswith("TROUPE_GROUPS__DATA__TASKS: groups.data.tasks:")
    assert str(file) not in str(caught.value)


def test_a_group_runs_where_its_hosts_say() -> None:
    def here(host: str, **data: object) -> bool:
        overrides = {"host": host, "groups": {"data": data}}
        return load(environment={}, overrides=overrides).runs_here("data")

    assert here("a")
    assert here("a", hosts=["a", "b"])
    assert not here("c", hosts=["a", "b"])
    assert not here("a", placement="elsewhere")
    assert not here("a", placement="elsewhere", hosts=["a"])


def test_a_variable_writes_a_list_with_commas() -> None:
    configuration = load(environment={"TROUPE_AUTH__ALLOW_PRIVATE_PEERS": "10.0.0.0/8, ::1/128"})
    assert configuration.auth.allow_private_peers == ("10.0.0.0/8", "::1/128")
    with pytest.raises(ConfigurationError, match=r"allow_private_peers"):
        load(environment={"TROUPE_AUTH__ALLOW_PRIVATE_PEERS": "10.0.0.0/8,elsewhere"})


def test_a_misspelt_variable_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"groups\.dta"):
        load(environment={"TROUPE_GROUPS__DTA__TASKS": "8"})


def test_a_variable_cannot_be_value_and_section() -> None:
    with pytest.raises(ConfigurationError, match="as a value and as a section"):
        load(environment={"TROUPE_GROUPS": "x", "TROUPE_GROUPS__DATA__TASKS": "8"})


def test_secrets_do_not_show_when_the_tree_is_printed() -> None:
    configuration = load(environment={"TROUPE_DATABASE__URL": "postgresql://a:canary@localhost/b"})
    assert "canary" not in repr(configuration)
    assert "canary" not in configuration.model_dump_json()
