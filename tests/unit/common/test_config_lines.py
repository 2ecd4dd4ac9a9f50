"""On which line of a TOML file a key stands, for everything that TOML allows."""

import pytest

from troupe.common.config_lines import line_of

FILE = """\
# a comment
state_directory = "/x"

[groups.data]
tasks = 4        # theirs
hosts = [
    "a",  # = not a key
    "b",
]
motd = '''
tasks = 9
[groups.auth]
'''
"quoted key" = 1
groups2 = 1

[groups]
auth.tasks = 3
analytics = { tasks = 1, mailbox = 2 }
[[lists]]
a = 1
[[lists]]
b = 2
"""


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (["state_directory"], 2),
        (["groups", "data", "tasks"], 5),
        (["groups", "data", "hosts"], 6),
        (["groups", "data", "hosts", "1"], 6),
        (["groups", "data", "motd"], 10),
        (["groups", "data", "quoted key"], 14),
        (["groups", "data"], 4),
        (["groups", "auth", "tasks"], 18),
        (["groups", "analytics", "mailbox"], 19),
        (["groups", "data", "not", "there"], 4),
        (["nothing"], None),
        ([], None),
    ],
)
def test_the_statement_that_sets_a_key_is_found(keys: list[str], line: int | None) -> None:
    assert line_of(FILE, keys) == line


def test_a_file_beyond_the_bound_is_not_looked_through() -> None:
    assert line_of("\n" * 3000 + "a = 1\n", ["a"]) is None
