"""Tables for people, figures for programs, and whether the targets are met."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.table import Table

from ops.bench.jobs.endurance import Endurance
from ops.bench.jobs.entrants import OURS, PGQUEUER, PROCRASTINATE
from ops.bench.jobs.latency import Waits
from ops.bench.jobs.throughput import Throughput

MS: Final = 1e3
US: Final = 1e6


@dataclass(frozen=True)
class Target:
    """What is promised.

    Attributes:
        what: In a few words.
        measured: The figure.
        wanted: Its bound.
        at_least: Whether the bound is the lowest or the highest good figure.
        unit: Behind the figures.
    """

    what: str
    measured: float
    wanted: float
    at_least: bool
    unit: str

    @property
    def met(self) -> bool:
        """Whether the figure is good."""
        if self.at_least:
            return self.measured >= self.wanted
        return self.measured <= self.wanted


def spread(values: Sequence[float], show: Callable[[float], str]) -> str:
    """Median, least and most."""
    return f"{show(statistics.median(values))}  ({show(min(values))} - {show(max(values))})"


def _queue(label: str) -> str:
    return label.partition(" ")[0]


def best(figures: Mapping[str, Throughput], queue: str) -> float | None:
    """Highest median drain among a queue's entrants."""
    medians = [statistics.median(f.drain) for label, f in figures.items() if _queue(label) == queue]
    return max(medians, default=None)


def bulk(figures: Mapping[str, Throughput], queue: str) -> float | None:
    """Median of all of a queue's rounds of enqueueing: its entrants differ in draining only."""
    rates = [rate for label, f in figures.items() if _queue(label) == queue for rate in f.enqueue]
    return statistics.median(rates) if rates else None


def throughput_table(figures: Mapping[str, Throughput]) -> Table:
    """Rates, and ours as a multiple of each."""
    table = Table(
        title="Throughput, jobs per second: median (min - max); CPU, µs per job: client + server"
    )
    for heading in ("", "bulk enqueue", "ours is", "CPU", "drain", "ours is", "CPU"):
        table.add_column(heading, justify="left" if not heading else "right")
    our_drain, our_bulk = best(figures, OURS), bulk(figures, OURS)

    def ratio(ours: float | None, theirs: float) -> str:
        return f"{ours / theirs:.2f} x" if ours is not None else ""

    for label, figure in figures.items():
        table.add_row(
            label,
            spread(figure.enqueue, "{:,.0f}".format),
            ratio(our_bulk, statistics.median(figure.enqueue)),
            _cpu(figure.enqueue_cpu),
            spread(figure.drain, "{:,.0f}".format),
            ratio(our_drain, statistics.median(figure.drain)),
            _cpu(figure.drain_cpu),
        )
    return table


def _cpu(rounds: Sequence[tuple[float, float]]) -> str:
    client, server = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    return f"{US * client:.0f} + {US * server:.0f}"


def throughput_targets(figures: Mapping[str, Throughput]) -> list[Target]:
    """Ours against the best of each peer."""
    targets = []

    def compare(what: str, ours: float | None, theirs: float | None, wanted: float) -> None:
        if ours is not None and theirs is not None:
            targets.append(Target(what, ours / theirs, wanted, at_least=True, unit="x"))

    our_drain = best(figures, OURS)
    compare("drain, of PgQueuer's best", our_drain, best(figures, PGQUEUER), 1.5)
    compare("drain, of Procrastinate's", our_drain, best(figures, PROCRASTINATE), 10)
    compare("bulk enqueue, of PgQueuer's", bulk(figures, OURS), bulk(figures, PGQUEUER), 1)
    return targets


def waits_table(title: str, figures: Mapping[str, Waits]) -> Table:
    """From commit to handler."""
    table = Table(title=f"{title}: median of rounds (min - max), ms")
    for heading in ("", "p50", "p99"):
        table.add_column(heading, justify="left" if not heading else "right")
    for label, figure in figures.items():
        table.add_row(label, *(spread(values, _ms) for values in (figure.p50, figure.p99)))
    return table


def _ms(seconds: float) -> str:
    return f"{MS * seconds:.1f}"


def waits_targets(
    what: str, figures: Mapping[str, Waits], p50: float | None, p99: float
) -> list[Target]:
    """Bounds in seconds on the medians of our rounds."""
    targets = []
    for label, figure in figures.items():
        if _queue(label) == OURS:
            if p50 is not None:
                median = statistics.median(figure.p50)
                targets.append(Target(f"{what}, p50", MS * median, MS * p50, False, "ms"))
            median = statistics.median(figure.p99)
            targets.append(Target(f"{what}, p99", MS * median, MS * p99, False, "ms"))
    return targets


def endurance_table(title: str, figures: Mapping[str, Mapping[str, Endurance]]) -> Table:
    """Without and beside an open transaction."""
    table = Table(title=title)
    headings = (
        "", "jobs/s", "slowest window", "wait p50 ms", "p99 ms", "p99, last tenth",
        "dead rows", "grown MB", "log B/job", "server CPU µs/job", "then drains/s",
    )  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="left" if not heading else "right")
    for label, runs in figures.items():
        for way, run in runs.items():
            table.add_row(
                f"{label}, {way}",
                f"{run.rate:,.0f}",
                f"{min(run.windows):,.0f}",
                _ms(run.wait_p50),
                _ms(run.wait_p99),
                _ms(run.late_wait_p99),
                f"{sum(run.dead.values()):,}",
                f"{run.grown / 2**20:,.0f}",
                f"{run.log_bytes:,.0f}",
                f"{US * run.server_cpu:,.0f}",
                f"{run.drain:,.0f}",
            )
    return table


def endurance_targets(figures: Mapping[str, Mapping[str, Endurance]]) -> list[Target]:
    """What we still run beside an open transaction, of what we run without."""
    return [
        Target(
            "jobs/s beside an open transaction, of those without",
            100 * runs["beside"].rate / runs["without"].rate,
            90,
            at_least=True,
            unit="%",
        )
        for label, runs in figures.items()
        if _queue(label) == OURS
    ]


def targets_table(targets: Sequence[Target]) -> Table:
    """Each target with its verdict."""
    table = Table(title="Targets")
    for heading in ("", "wanted", "measured", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for target in targets:
        bound = "at least" if target.at_least else "at most"
        table.add_row(
            target.what,
            f"{bound} {target.wanted:g} {target.unit}",
            f"{target.measured:.2f} {target.unit}",
            "[green]pass[/]" if target.met else "[red]FAIL[/]",
        )
    return table


def show(console: Console, tables: Sequence[Table]) -> None:
    """Print them, apart from each other."""
    for table in tables:
        console.print()
        console.print(table)
