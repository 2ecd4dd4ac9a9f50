"""What was scaled is laid over the file until the file says something else."""

from pathlib import Path

import pytest

from troupe.common.config import Placement
from troupe.common.errors import ConfigurationError
from troupe.common.scaling import FILE, MAX_BYTES, Scaling, Source, read_scaling


@pytest.fixture
def source(tmp_path: Path) -> Source:
    file = tmp_path / "troupe.toml"
    source = Source(file, {"state_directory": tmp_path}, environment={})
    say(source, "[groups.data]\ntasks = 4\n")
    return source


def say(source: Source, text: str) -> None:
    assert source.path is not None
    source.path.write_text(text)


def test_it_is_kept_until_it_is_withdrawn(source: Source, tmp_path: Path) -> None:
    values = {"tasks": 16, "processes": 3, "placement": Placement.PROCESS}
    Scaling({}).scaled("data", values, source.file()).save(tmp_path)
    settings = source.load().groups.data
    assert (settings.tasks, settings.processes, settings.placement) == (16, 3, "process")
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0
    read_scaling(tmp_path).without("data").save(tmp_path)
    assert source.load().groups.data.tasks == 4


def test_the_last_word_counts(source: Source, tmp_path: Path) -> None:
    Scaling({}).scaled("data", {"tasks": 16, "mailbox": 9}, source.file()).save(tmp_path)
    say(source, "# a comment\n[groups.data]\ntasks = 4\nprocesses = 2\n")
    assert source.load().groups.data.tasks == 16
    say(source, "[groups.data]\ntasks = 5\n")
    assert source.load().groups.data.tasks == 5
    assert source.load().groups.data.mailbox == 9  # about which the file says nothing still
    say(source, "[groups.data]\ntasks = 5\nmailbox = 7\n")
    assert source.load().groups.data.mailbox == 7


def test_the_environment_and_the_command_line_win(source: Source, tmp_path: Path) -> None:
    Scaling({}).scaled("data", {"tasks": 16}, source.file()).save(tmp_path)
    here = {"TROUPE_GROUPS__DATA__TASKS": "8"}
    assert Source(source.path, source.overrides, here).load().groups.data.tasks == 8


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"groups": 3}',
        '{"groups": {"data": {"port": {"value": 1}}}}',
        '{"groups": {"data": {"tasks": {"value": "many"}}}}',
        '{"other": {}}',
    ],
)
def test_a_damaged_file_is_an_error_that_says_what_to_do(
    source: Source, tmp_path: Path, text: str
) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ConfigurationError, match="damaged: delete it"):
        source.load()


def test_a_huge_file_is_not_read(source: Source, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(" " * (MAX_BYTES + 1))
    with pytest.raises(ConfigurationError, match="larger"):
        source.load()


def test_a_value_that_the_configuration_does_not_allow_is_refused(
    source: Source, tmp_path: Path
) -> None:
    scaling = Scaling({}).scaled("data", {"tasks": 0}, source.file())
    with pytest.raises(ConfigurationError, match=r"groups\.data\.tasks"):
        source.load_with(scaling)
