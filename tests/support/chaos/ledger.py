"""What clients were told, to be compared in the end with what is there.

A client writes down what it was told and nothing else: that its request was acknowledged, or that
it does not know. It asks again under the same key for as long as it does not know.
"""

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """One answer.

    Attributes:
        at: Wall clock, in seconds.
        what: The kind of request.
        key: The client's own, the same for all tries.
        outcome: ``acknowledged``, ``refused`` (nothing was done) or ``unknown``.
        result: What an acknowledgement named: the job.
    """

    at: float
    what: str
    key: str
    outcome: str
    result: str = ""


class Ledger:
    """All answers in their order, also in a file, for whoever looks into a failure.

    Args:
        path: Of the file: one JSON object a line.
    """

    def __init__(self, path: Path) -> None:
        self.entries: list[Entry] = []
        self.path = path

    def note(self, what: str, key: str, outcome: str, result: object = "") -> None:
        """Write an answer down."""
        entry = Entry(time.time(), what, key, outcome, str(result))
        self.entries.append(entry)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(entry)) + "\n")

    def counts(self) -> Counter[tuple[str, str]]:
        """How often each kind of request was answered how."""
        return Counter((entry.what, entry.outcome) for entry in self.entries)

    def acknowledged(self, what: str) -> dict[str, set[str]]:
        """Key to what its acknowledgements named."""
        found: dict[str, set[str]] = {}
        for entry in self.entries:
            if (entry.what, entry.outcome) == (what, "acknowledged"):
                found.setdefault(entry.key, set()).add(entry.result)
        return found

    def asked(self, what: str) -> set[str]:
        """All keys under which something was asked."""
        return {entry.key for entry in self.entries if entry.what == what}
