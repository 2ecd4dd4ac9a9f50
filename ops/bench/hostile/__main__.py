"""``python -m ops.bench.hostile``: see docs/benchmarks.md, "Slow and hostile clients"."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from ops.bench.hostile.crowd import KINDS, TO_AUTH, Options
from ops.bench.site import Site, resident, running_site
from ops.bench.visitors import Options as Visit
from ops.bench.visitors import Seen, visitors
from troupe.common.niceness import give_way, keep_off, reserved

RATIO: Final = 1.2
MS: Final = 1e3
MiB: Final = 1024 * 1024
SETTLE: Final = 3.0
NICENESS: Final = 10
ANSWER: Final = "/api/v1/stats?preset=28d"


@dataclass
class Figures:
    """Of one kind of bad clients, over all rounds."""

    without: Seen = field(default_factory=Seen)
    beside: Seen = field(default_factory=Seen)
    open: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Of the 99th percentiles."""
        return self.beside.percentile(0.99) / self.without.percentile(0.99)

    @property
    def good(self) -> bool:
        """Whether good clients noticed nothing."""
        return self.ratio <= RATIO and not self.beside.failed


def _elsewhere() -> None:
    """Bad clients compute on machines of their own, as far as that can be said with one."""
    give_way(NICENESS)
    keep_off(os.getpid(), reserved(1))


@contextmanager
def crowd(options: Options) -> Iterator[dict[str, float]]:
    """Bad clients while the context is open; tells at its end how they fared."""
    told: dict[str, float] = {}
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "ops.bench.hostile.crowd", json.dumps(asdict(options))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_elsewhere,  # noqa: PLW1509 - one thread
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes")
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the bad clients did not begin")
        try:
            yield told
        finally:
            process.stdin.close()
            told |= json.loads(process.stdout.readline() or "{}")
            process.kill()


@contextmanager
def others(share: float) -> Iterator[None]:
    """Somebody who keeps as much of a processor busy, while the context is open."""
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "ops.bench.hostile.elsewhere", str(share)],
        start_new_session=True,
        preexec_fn=_elsewhere,  # noqa: PLW1509 - one thread
    ) as process:
        try:
            yield
        finally:
            process.kill()


def measure(site: Site, options: Any) -> dict[str, Figures]:
    """All kinds in turn, beside and without, in every round.

    Without them another process keeps as much of a processor busy, on the same terms: on a shared
    machine of two that alone is 1.1 to 1.2 times the 99th percentile, and no bad client's doing.
    """
    figures = {kind: Figures() for kind in options.only or KINDS}
    token = site.tenant("Bench")

    def good(seed: int) -> Seen:
        return visitors(
            Visit(
                url=site.urls["analytics"] + ANSWER,
                token=token,
                rate=options.rate,
                seconds=options.seconds,
                seed=seed,
                processors=tuple(reserved(1)),
            )
        )

    good(0)
    for number in range(options.rounds):
        for kind, figure in figures.items():
            address = urlsplit(site.urls["auth" if kind in TO_AUTH else "analytics"])
            host, port = address.hostname or "", address.port or 0
            with crowd(Options(host, port, options.connections, kind)) as told:
                figure.beside += good(number)
                figure.memory.append(resident(site.pid))
            time.sleep(SETTLE)  # two thousand connections are buried
            with others(told["busy"]):
                figure.without += good(number)
            figure.busy.append(told["busy"])
            figure.open.append(told["open"])
            figure.ended.append(told["ended"])
            print(f"round {number + 1}: {kind}: {figure.ratio:.2f}", file=sys.stderr)
    return figures


def table(figures: dict[str, Figures]) -> Table:
    """What good clients waited, in ms."""
    drawn = Table(title="Good clients' waits in ms, without bad ones and beside them")
    headings = (
        *("p50 without", "beside", "p99 without", "beside", "ratio"),
        *("open", "ended", "busy %", "MiB"),
    )
    drawn.add_column("bad clients")
    for heading in headings:
        drawn.add_column(heading, justify="right")
    for kind, of in figures.items():
        drawn.add_row(
            kind.replace("_", " "),
            *(
                f"{MS * seen.percentile(share):.1f}"
                for share in (0.5, 0.99)
                for seen in (of.without, of.beside)
            ),
            f"{of.ratio:.2f}" + ("" if of.good else " !"),
            f"{statistics.median(of.open):.0f}",
            f"{statistics.median(of.ended):.0f}",
            f"{100 * statistics.median(of.busy):.0f}",
            f"{max(of.memory) / MiB:.0f}",
        )
    return drawn


def main() -> int:
    """Measure and print; 0 if good clients notice nothing."""
    parser = ArgumentParser(prog="python -m ops.bench.hostile")
    parser.add_argument("--connections", type=int, default=2000, help="bad ones at once")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6, help="of each window")
    parser.add_argument("--rate", type=float, default=100, help="good requests per second")
    parser.add_argument("--only", nargs="*", choices=[*KINDS], help="these kinds")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        running_site(Path(directory), TROUPE_LOG__LEVEL="warning") as site,
    ):
        figures = measure(site, options)
    Console().print(table(figures))
    lost = sum(of.without.failed + of.beside.failed for of in figures.values())
    print(f"{lost} good requests failed; a ratio of at most {RATIO} is promised")
    return 0 if all(of.good for of in figures.values()) and not lost else 1


if __name__ == "__main__":
    sys.exit(main())
