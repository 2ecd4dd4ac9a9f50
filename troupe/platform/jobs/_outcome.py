"""What an error means for a job: whose fault it is decides whether a retry can help."""

from dataclasses import dataclass
from typing import Final

from troupe.common.errors import CallerError, ConfigurationError, PeerRefused, TooManyRequests
from troupe.common.units import MINUTES, SECONDS
from troupe.platform.errors import PermanentJobError, leaves, summarise
from troupe.platform.supervision import Backoff

DEFAULT_RETRY: Final = Backoff(first=2 * SECONDS, factor=3.0, limit=15 * MINUTES, jitter=0.25)
"""Waits between attempts: about 2, 6, 18, 54 s, …"""

_PERMANENT: Final = (PermanentJobError, CallerError, ConfigurationError, PeerRefused)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to record about a failed attempt.

    Attributes:
        kind: The error's class.
        message: One line for a person.
        permanent: Whether a retry cannot help.
        retry_after: Seconds that the error itself asks to wait.
    """

    kind: str
    message: str
    permanent: bool
    retry_after: float = 0.0


def judge(error: Exception) -> Verdict:
    """Sort an error.

    What the caller, the configuration or a peer's final word is to blame for comes out the same the
    next time, and so does the whole group that it is part of. A limit (`TooManyRequests`) passes.
    Everything else, our own mistakes included, is worth another attempt.
    """
    permanent: BaseException | None = None
    retry_after = 0.0
    for leaf in leaves(error):
        if isinstance(leaf, _PERMANENT) and not isinstance(leaf, TooManyRequests):
            permanent = permanent or leaf
        hint = getattr(leaf, "retry_after", None)
        if isinstance(hint, int | float):
            retry_after = max(retry_after, float(hint))
    told = permanent or next(leaves(error))
    return Verdict(
        kind=type(told).__name__,
        message=summarise(permanent or error),
        permanent=permanent is not None,
        retry_after=retry_after,
    )
