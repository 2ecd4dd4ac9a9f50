"""How a process ended, in words."""

import signal
from typing import Final

_WORDS: Final = {
    signal.SIGKILL: "killed by SIGKILL: out of memory, or by somebody’s hand",
    signal.SIGSEGV: "crashed with SIGSEGV, in code that is not Python",
    signal.SIGBUS: "crashed with SIGBUS, in code that is not Python",
    signal.SIGABRT: "aborted with SIGABRT, in code that is not Python",
}


def describe_exit(code: int) -> str:
    """One clause about a process's exit.

    Args:
        code: As `subprocess` has it: negative for a signal.

    >>> describe_exit(-9)
    'killed by SIGKILL: out of memory, or by somebody’s hand'
    >>> describe_exit(3)
    'ended with code 3'
    >>> describe_exit(-15)
    'killed by SIGTERM'
    """
    if code >= 0:
        return f"ended with code {code}"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"killed by signal {-code}"
    return _WORDS.get(number, f"killed by {number.name}")
