"""One contender's process: what it is told, how it answers, what it writes down.

Every contender runs in a process of its own, with its own interpreter and event loop (asyncio on
uvloop, or trio), so this module knows the standard library only. A process gets one order as JSON
on its command line and its database's URLs in its environment; it answers in JSON lines on standard
output. Orders that last end when standard input ends.

Instants are seconds of the system's monotonic clock, which all processes of a machine share; they
go to a file of doubles, indexed by the job's number. A job's number is all that its payload holds.
"""

import json
import os
import random
import sys
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

URLS_VARIABLE: Final = "JOBS_BENCH_URLS"
POLL: Final = 0.005
"""Seconds between two looks whether the last outcomes are committed, once all handlers have run."""
PROGRESS_EVERY: Final = 0.5
"""Seconds."""

now = time.monotonic


@dataclass(frozen=True)
class Effort:
    """What a measurement took.

    Attributes:
        seconds: By the clock.
        cpu_seconds: Of this process.
    """

    seconds: float
    cpu_seconds: float


class Watch:
    """Measures from its making on."""

    def __init__(self) -> None:
        self._cpu_seconds = time.process_time()
        self._seconds = now()

    def stop(self) -> Effort:
        """What it has taken until now."""
        return Effort(now() - self._seconds, time.process_time() - self._cpu_seconds)


class Contender(Protocol):
    """A job queue, as the benchmark sees it; each method owns its process and its event loop."""

    def prepare(self) -> None:
        """Make the schema in an empty database."""

    def enqueue(self, count: int, chunk: int) -> Effort:
        """Enqueue jobs in bulk, ``chunk`` per transaction."""

    def drain(self, count: int) -> Effort:
        """Run ``count`` waiting jobs, from the consumer's start to the last outcome."""

    def consume(self, started: "Instants") -> None:
        """Run jobs as they come until standard input ends; note when each handler started."""

    def produce(self, arrivals: "Arrivals", committing: "Instants", connections: int) -> None:
        """Enqueue on schedule, a transaction per arrival; note when each commit was sent."""


class Instants:
    """When something happened to each job, by the job's number."""

    def __init__(self, path: Path, count: int) -> None:
        """Room for ``count`` jobs; what never happens stays 0."""
        self._path = path
        self._seconds = array("d", bytes(8 * count))
        self.noted = 0

    def note(self, number: int) -> None:
        """It happened now."""
        self._seconds[number] = now()
        self.noted += 1

    def write(self) -> None:
        """Leave the instants to the parent."""
        self._path.write_bytes(self._seconds.tobytes())


def read_instants(path: Path) -> "array[float]":
    """What `Instants.write` wrote."""
    seconds: array[float] = array("d")
    seconds.frombytes(path.read_bytes())
    return seconds


@dataclass(frozen=True)
class Arrivals:
    """When jobs arrive, as offsets from the first.

    Attributes:
        count: Jobs in all.
        batch: Jobs per transaction.
        pauses: Shortest and longest pause between two transactions, seconds; equal for a fixed
            rate.
        seed: Of the pauses.
    """

    count: int
    batch: int
    pauses: tuple[float, float]
    seed: int

    def __iter__(self) -> Iterator[tuple[float, range]]:
        """Offset (seconds) and the numbers of the jobs that arrive then."""
        dice = random.Random(self.seed)  # noqa: S311 - no secret
        offset = 0.0
        for first in range(0, self.count, self.batch):
            yield offset, range(first, min(first + self.batch, self.count))
            offset += dice.uniform(*self.pauses)


def say(**answer: Any) -> None:
    """Answer the parent."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def wait_for_end() -> None:
    """Block until the parent closes standard input; call it in a thread."""
    sys.stdin.read()


def url_of(role: str) -> str:
    """Where this contender's database is, for the role ``owner``, ``runtime`` or ``admin``.

    ``admin`` is for looking at it from outside only.
    """
    urls: dict[str, str] = json.loads(os.environ[URLS_VARIABLE])
    return urls[role]


def check(ran: int, count: int) -> None:
    """Refuse a measurement in which a job ran twice, or not at all."""
    if ran != count:
        raise RuntimeError(f"{ran} handlers ran for {count} jobs")


def order() -> dict[str, Any]:
    """What this process shall do."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    return given


def obey(contender: Contender, given: dict[str, Any]) -> None:
    """Carry out the order on the command line."""
    match given["do"]:
        case "prepare":
            contender.prepare()
            say(done=True)
        case "enqueue":
            say(**asdict(contender.enqueue(given["count"], given["chunk"])))
        case "drain":
            say(**asdict(contender.drain(given["count"])))
        case "consume":
            started = Instants(Path(given["file"]), given["count"])
            with _telling_progress(started):
                contender.consume(started)
            started.write()
            say(done=True)
        case "produce":
            committing = Instants(Path(given["file"]), given["count"])
            arrivals = Arrivals(
                given["count"], given["batch"], tuple(given["pauses"]), given["seed"]
            )
            contender.produce(arrivals, committing, given["connections"])
            committing.write()
            say(done=True)
        case unknown:
            raise ValueError(f"no such order: {unknown}")


@contextmanager
def _telling_progress(instants: Instants) -> Iterator[None]:
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(PROGRESS_EVERY):
            say(noted=instants.noted)

    thread = threading.Thread(target=tell)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
