"""What an erasure has found and removed, in words.

A job says how many rows of which table it has touched. People do not know tables: rows of what they
do know are named, the rest is added up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from troupe.http.dashboard import formats
from troupe.http.dashboard.job_words import JobWords
from troupe.platform.jobs import Job

_DELETED: Final[Mapping[str, tuple[str, str]]] = {"customers": ("customer", "customers")}
_NAMELESS: Final[Mapping[str, tuple[str, str]]] = {
    "events": ("event", "events"),
    "data.sessions": ("session", "sessions"),
    "data.purchases": ("purchase", "purchases"),
    "data.refunds": ("refund", "refunds"),
    "data.cart_episodes": ("cart", "carts"),
    "data.searches": ("search", "searches"),
    "analytics.tasks": ("task", "tasks"),
}


@dataclass(frozen=True, slots=True)
class ErasureWords:
    """One request to forget a person.

    Attributes:
        job: How far it is.
        found: What was found, in a sentence; empty while that is not known.
    """

    job: JobWords
    found: str

    @classmethod
    def of(cls, job: Job) -> "ErasureWords":
        """From its job."""
        result = job.result if isinstance(job.result, Mapping) else {}
        rows = result.get("rows")
        known = isinstance(rows, Mapping)
        counts = {
            str(name): value
            for name, value in (rows.items() if isinstance(rows, Mapping) else ())
            if isinstance(value, int)
        }
        return cls(JobWords.of(job), told(counts) if known else "")


def told(counts: Mapping[str, int]) -> str:
    """What was found, in a sentence.

    >>> told({"customers": 1, "events": 24, "data.sessions": 3, "data.user_day": 2})
    '1 customer was deleted; 24 events, 3 sessions and 2 other rows no longer lead to anybody.'
    >>> told({"customers": 0, "events": 0})
    'Nothing was found under these identifiers.'
    """
    deleted = _named(counts, _DELETED)
    nameless = _named(counts, _NAMELESS)
    others = sum(
        count for name, count in counts.items() if name not in _DELETED and name not in _NAMELESS
    )
    if others:
        nameless.append(f"{formats.count(others)} other {'row' if others == 1 else 'rows'}")
    sentences = []
    if deleted:
        sentences.append(f"{_listed(deleted)} {'was' if _is_one(deleted) else 'were'} deleted")
    if nameless:
        verb = "leads" if _is_one(nameless) else "lead"
        sentences.append(f"{_listed(nameless)} no longer {verb} to anybody")
    if not sentences:
        return "Nothing was found under these identifiers."
    return "; ".join(sentences) + "."


def _named(counts: Mapping[str, int], words: Mapping[str, tuple[str, str]]) -> list[str]:
    return [
        f"{formats.count(counts[name])} {one if counts[name] == 1 else several}"
        for name, (one, several) in words.items()
        if counts.get(name)
    ]


def _is_one(parts: list[str]) -> bool:
    return len(parts) == 1 and parts[0].startswith("1 ")


def _listed(parts: list[str]) -> str:
    *before, last = parts
    return f"{', '.join(before)} and {last}" if before else last
