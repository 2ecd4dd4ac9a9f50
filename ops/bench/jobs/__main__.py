"""The command line: measure what was asked for, print tables, say which targets are met.

Exit code 0: every target that was measured is met; 1: one is not; 2: something went wrong.
"""

import argparse
import asyncio
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
from rich.console import Console
from rich.table import Table

from ops.bench.jobs import report
from ops.bench.jobs.arena import Arena
from ops.bench.jobs.endurance import RATE, measure_endurance
from ops.bench.jobs.entrants import (
    OURS,
    PGQUEUER,
    PROCRASTINATE,
    Entrant,
    ours,
    pgqueuer,
    procrastinate,
)
from ops.bench.jobs.latency import IDLE, STEADY, measure_waits
from ops.bench.jobs.peers import PLACE, ROOT, install_peers, pinned
from ops.bench.jobs.processes import ContenderFailed, obeyed
from ops.bench.jobs.throughput import Throughput, measure_throughput
from troupe.common import logs
from troupe.common.postgres import start_embedded_sync

THROUGHPUT: Final = "throughput"
LATENCY: Final = "latency"
RATE_200: Final = "rate"
ENDURANCE: Final = "endurance"
QUEUES: Final = (OURS, PGQUEUER, PROCRASTINATE)
TABLES: Final = (THROUGHPUT, LATENCY, RATE_200, ENDURANCE)


def _settings(pairs: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE, values as JSON."""
    return {name: json.loads(value) for name, _, value in (pair.partition("=") for pair in pairs)}


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        names = text.split(",")
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
        return names

    return read


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ops.bench.jobs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--only", type=_names(TABLES), default=list(TABLES), metavar=",".join(TABLES),
        help="what to measure")  # fmt: skip
    add("--queues", type=_names(QUEUES), default=list(QUEUES), metavar=",".join(QUEUES),
        help="who takes part")  # fmt: skip
    add("--rounds", type=int, default=5, help="rounds of everything but endurance (%(default)s)")
    add("--jobs", type=int, default=50_000, help="jobs in a round of throughput (%(default)s)")
    add("--procrastinate-jobs", type=int, default=4_000, help="the same for it (%(default)s)")
    add("--chunk", type=int, default=5_000, help="jobs per transaction in bulk (%(default)s)")
    add("--minutes", type=float, default=10, help="of one run of endurance (%(default)s)")
    add("--ours", action="append", default=[], metavar="NAME=VALUE",
        help="slots, connections, tenants; several times")  # fmt: skip
    add("--runner", action="append", default=[], metavar="NAME=VALUE",
        help="a field of RunnerSettings; several times")  # fmt: skip
    add("--pgqueuer-batches", type=_numbers, default=[250, 500, 1000], metavar="N,N,...",
        help="batch sizes to try, with either asyncpg driver (250,500,1000)")  # fmt: skip
    add("--procrastinate-concurrency", type=_numbers, default=[5, 10], metavar="N,N,...",
        help="to try (5,10)")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser


class Benchmark:
    """One run of what the command line asks for."""

    def __init__(self, options: argparse.Namespace, arena: Arena, python: Path) -> None:
        self._options = options
        self._arena = arena
        settings = _settings(options.ours) | {"runner": _settings(options.runner)}
        self._ours = ours(settings)
        self._entrants = self._all(python)
        self.figures: dict[str, Any] = {}
        self.tables: list[Table] = []
        self.targets: list[report.Target] = []

    def _all(self, python: Path) -> list[Entrant]:
        batches, concurrency = (
            self._options.pgqueuer_batches,
            self._options.procrastinate_concurrency,
        )
        entrants = [
            self._ours,
            *(pgqueuer(python, batch, pool=pool) for pool in (False, True) for batch in batches),
            *(procrastinate(python, jobs) for jobs in concurrency),
        ]
        return [entrant for entrant in entrants if entrant.queue in self._options.queues]

    async def run(self) -> None:
        """Prepare, then measure table by table."""
        for entrant in self._one_each():
            await self._arena.make(entrant.template)
            await obeyed(entrant, self._arena.urls(entrant.template), do="prepare")
        measures = {
            THROUGHPUT: self._throughput,
            LATENCY: self._latency,
            RATE_200: self._rate,
            ENDURANCE: self._endurance,
        }
        for name in self._options.only:
            print(f"{name}:", flush=True)
            await measures[name]()

    def _one_each(self) -> list[Entrant]:
        """An entrant per queue: the one that drained best, or else the last named."""
        chosen = {entrant.queue: entrant for entrant in self._entrants}
        drained = self.figures.get(THROUGHPUT, {})
        for entrant in self._entrants:
            if drained and self._drain(entrant) > self._drain(chosen[entrant.queue]):
                chosen[entrant.queue] = entrant
        return list(chosen.values())

    def _drain(self, entrant: Entrant) -> float:
        figure: Throughput = self.figures[THROUGHPUT][entrant.label]
        return statistics.median(figure.drain)

    async def _throughput(self) -> None:
        options = self._options
        figures = await measure_throughput(
            self._arena,
            self._entrants,
            jobs={
                OURS: options.jobs,
                PGQUEUER: options.jobs,
                PROCRASTINATE: options.procrastinate_jobs,
            },
            chunk=options.chunk,
            rounds=options.rounds,
        )
        self.figures[THROUGHPUT] = figures
        self.tables.append(report.throughput_table(figures))
        self.targets += report.throughput_targets(figures)

    async def _latency(self) -> None:
        figures = await measure_waits(
            self._arena, self._one_each(), IDLE, rounds=self._options.rounds
        )
        self.figures[LATENCY] = figures
        self.tables.append(report.waits_table("One job on an idle system", figures))
        self.targets += report.waits_targets("one job on an idle system", figures, 0.010, 0.050)

    async def _rate(self) -> None:
        figures = await measure_waits(
            self._arena, self._one_each(), STEADY, rounds=self._options.rounds
        )
        self.figures[RATE_200] = figures
        self.tables.append(report.waits_table("200 jobs per second", figures))
        self.targets += report.waits_targets("200 jobs per second", figures, None, 0.030)

    async def _endurance(self) -> None:
        entrants = [entrant for entrant in self._one_each() if entrant.queue != PROCRASTINATE]
        figures = await measure_endurance(
            self._arena, entrants, minutes=self._options.minutes, backlog=self._options.jobs
        )
        self.figures[ENDURANCE] = figures
        title = f"{RATE} jobs per second for {self._options.minutes:g} minutes"
        self.tables.append(report.endurance_table(title, figures))
        self.targets += report.endurance_targets(figures)


async def _surroundings(arena: Arena) -> dict[str, Any]:
    """What the figures depend on beside the code."""
    async with arena.connected("postgres") as connection:
        server = await connection.fetchval("SHOW server_version")
    commit = subprocess.run(  # noqa: ASYNC221 - quick, and nothing is measured yet
        ["git", "describe", "--always", "--dirty"],  # noqa: S607
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip() or "unknown",
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "machine": platform.machine(),
        "python": platform.python_version(),
        "postgresql": server,
        "asyncpg": asyncpg.__version__,
        PGQUEUER: pinned(PGQUEUER),
        PROCRASTINATE: pinned(PROCRASTINATE),
    }


async def _run(options: argparse.Namespace, arena: Arena) -> bool:
    surroundings = await _surroundings(arena)
    print(", ".join(f"{name} {value}" for name, value in surroundings.items()), flush=True)
    python = await install_peers()
    benchmark = Benchmark(options, arena, python)
    await benchmark.run()
    console = Console(width=None if sys.stdout.isatty() else 160)
    tables = benchmark.tables
    if benchmark.targets:
        tables.append(report.targets_table(benchmark.targets))
    report.show(console, tables)
    if options.json is not None:
        plain = {
            "surroundings": surroundings,
            "figures": benchmark.figures,
            "targets": benchmark.targets,
        }
        options.json.write_text(json.dumps(plain, default=dataclasses.asdict, indent=2) + "\n")
    return all(target.met for target in benchmark.targets)


def main() -> int:
    """Run the command line; its exit code."""
    options = _parser().parse_args()
    logs.configure(level="warning")
    scratch = PLACE.parent
    scratch.mkdir(exist_ok=True)
    with (
        # Not in the system's directory for temporary files, which may live in memory.
        tempfile.TemporaryDirectory(dir=scratch) as directory,
        start_embedded_sync(Path(directory)) as server,
    ):
        try:
            return 0 if asyncio.run(_run(options, Arena(server))) else 1
        except ContenderFailed as failure:
            print(f"failed: {failure}", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
