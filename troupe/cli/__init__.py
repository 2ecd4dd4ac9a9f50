"""The command line; `main` is the console script ``troupe``."""

from troupe.cli.commands import main

__all__ = ["main"]
