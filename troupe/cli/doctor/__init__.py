"""``troupe doctor``: what Troupe depends on, looked at one by one, and what to do about it."""

from troupe.cli.doctor._command import add_to

__all__ = ["add_to"]
