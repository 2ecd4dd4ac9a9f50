"""Units as constants, so that a number in code says what it measures: ``30 * SECONDS``."""

from typing import Final

SECONDS: Final = 1.0
MILLISECONDS: Final = 0.001
MINUTES: Final = 60 * SECONDS
HOURS: Final = 60 * MINUTES
DAYS: Final = 24 * HOURS

KiB: Final = 1024
MiB: Final = 1024 * KiB
GiB: Final = 1024 * MiB
