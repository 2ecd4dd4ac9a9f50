"""``python -m ops.bench.isolation``: see docs/benchmarks.md, "Isolation"."""

import statistics
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from ops.bench.isolation.source import Source, open_source
from ops.bench.isolation.troubled import FLAG, MODULE
from ops.bench.site import running_site
from ops.bench.visitors import Options, Seen, visitors
from troupe.common.niceness import reserved

ALLOWED: Final = {"process": 1.2, "inline": 2.0}
MS: Final = 1e3
ASKED: Final = {
    "page": "/?preset=28d&compare=previous",
    "answer": "/api/v1/stats?preset=28d&compare=previous",
}
"""What people look at, and the shortest answer there is."""
SETTLE: Final = 2.0


@dataclass
class Figures:
    """Of one trouble in one placement, over all rounds."""

    allowed: float
    alone: Seen = field(default_factory=Seen)
    beside: Seen = field(default_factory=Seen)
    rates: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Of the 99th percentiles."""
        return self.beside.percentile(0.99) / self.alone.percentile(0.99)

    @property
    def good(self) -> bool:
        """Whether the dashboard noticed no more than it may."""
        return self.ratio <= self.allowed and not self.beside.failed


Trouble = Callable[[Figures], AbstractContextManager[None]]


def _troubles(source: Source, flag: Path) -> dict[str, Trouble]:
    def ingestion(figures: Figures) -> AbstractContextManager[None]:
        return source.at_full_speed(figures.rates)

    def misbehaviour(kind: str) -> Trouble:
        @contextmanager
        def trouble(_figures: Figures) -> Iterator[None]:
            flag.touch()
            source.misbehave(kind)
            time.sleep(SETTLE)
            try:
                yield
            finally:
                flag.unlink()
                time.sleep(3 * SETTLE)

        return trouble

    return {"ingestion": ingestion, "spin": misbehaviour("spin"), "eat": misbehaviour("eat")}


def _measure(placement: str, directory: Path, options: Namespace) -> dict[str, Figures]:
    flag = directory / "trouble"
    placed = {
        "TROUPE_GROUPS__DATA__PLACEMENT": placement,
        "TROUPE_GROUPS__DATA__MEMORY_LIMIT": "600",
        "TROUPE_AUTH__ALLOW_PRIVATE_PEERS": "127.0.0.0/8",
        "TROUPE_LOG__LEVEL": "warning",
        FLAG: str(flag),
    }
    with (
        running_site(directory / placement, module=MODULE, **placed) as site,
        open_source(site, directory, options.events) as source,
    ):
        source.ingest()
        troubles = _troubles(source, flag)
        wanted = options.only or (list(troubles) if placement == "process" else ["ingestion"])
        figures = {name: Figures(ALLOWED[placement]) for name in wanted}

        def look(seed: int) -> Seen:
            return visitors(
                Options(
                    url=site.urls["analytics"] + ASKED[options.ask],
                    token=source.token,
                    rate=options.rate,
                    seconds=options.seconds,
                    seed=seed,
                    processors=tuple(reserved(1)),
                )
            )

        look(0)
        for number in range(options.rounds):
            for name, figure in figures.items():
                figure.alone += look(number)
                with troubles[name](figure):
                    figure.beside += look(number)
                told = f"{placement}: {name}: {figure.ratio:.2f}"
                print(f"round {number + 1}: {told}", file=sys.stderr)
    return figures


def _table(measured: dict[str, dict[str, Figures]]) -> Table:
    drawn = Table(title="The dashboard's waits in ms, alone and beside the data group at work")
    for heading in ("data group", "does"):
        drawn.add_column(heading)
    headings = ("p50 alone", "beside", "p99 alone", "beside", "ratio", "allowed", "rows/s")
    for heading in headings:
        drawn.add_column(heading, justify="right")
    for placement, figures in measured.items():
        for name, of in figures.items():
            drawn.add_row(
                placement,
                name,
                *(
                    f"{MS * seen.percentile(share):.1f}"
                    for share in (0.5, 0.99)
                    for seen in (of.alone, of.beside)
                ),
                f"{of.ratio:.2f}" + ("" if of.good else " !"),
                f"{of.allowed:.1f}",
                f"{statistics.median(of.rates):.0f}" if of.rates else "",
            )
    return drawn


def main() -> int:
    """Measure and print; 0 if the dashboard notices no more than it may."""
    parser = ArgumentParser(prog="python -m ops.bench.isolation")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20, help="of each window")
    parser.add_argument("--ask", choices=[*ASKED], default="page")
    parser.add_argument("--rate", type=float, default=40, help="requests per second")
    parser.add_argument("--events", type=int, default=10_000, help="of each ingested day")
    parser.add_argument("--placements", nargs="*", choices=[*ALLOWED], default=[*ALLOWED])
    parser.add_argument("--only", nargs="*", choices=["ingestion", "spin", "eat"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        measured = {
            placement: _measure(placement, Path(directory), options)
            for placement in options.placements
        }
    Console(width=110).print(_table(measured))
    every = [of for figures in measured.values() for of in figures.values()]
    lost = sum(of.alone.failed + of.beside.failed for of in every)
    print(f"{lost} requests of the dashboard failed")
    return 0 if all(of.good for of in every) and not lost else 1


if __name__ == "__main__":
    sys.exit(main())
