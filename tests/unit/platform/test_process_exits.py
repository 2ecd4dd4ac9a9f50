"""How a process ended is told in words that an operator can act on."""

import signal

import pytest

from troupe.platform.processes import describe_exit


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with code 0"),
        (1, "ended with code 1"),
        (-signal.SIGKILL, "out of memory"),
        (-signal.SIGSEGV, "not Python"),
        (-signal.SIGTERM, "killed by SIGTERM"),
        (-99, "killed by signal 99"),
    ],
)
def test_an_exit_in_words(code, words):
    assert words in describe_exit(code)
