"""``python -m ops.bench.ingest``: BigQuery's answers to figures, beside dlt.

Everybody loads the same recorded answers into the same PostgreSQL, in processes of their own, one
after the other within every round. docs/benchmarks.md says what exactly is measured and what the
weaknesses are.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
from rich.console import Console
from rich.table import Table

from ops.bench.ingest.corpus import PROFILE, Corpus, recorded
from ops.bench.ingest.phases import STEPS, Phases
from ops.bench.jobs import report
from ops.bench.jobs.arena import Arena
from ops.bench.jobs.peers import ROOT, install_peers, pinned
from troupe.common import logs
from troupe.common.migrate import migrate_in_asyncio
from troupe.common.postgres import start_embedded_sync
from troupe.common.units import MINUTES, MiB
from troupe_demo.bigquery import StandIn, create_service_account, start

PLACE: Final = ROOT / ".bench"
PINS: Final = Path(__file__).with_name("peers.txt")
OURS: Final = "troupe"
ROWS_ONLY: Final = "troupe rows"
DEFAULT: Final = "dlt rows"
DEFAULT_ARROW: Final = "dlt arrow"
TEMPLATE: Final = "ingest_ours"
EMPTY: Final = "ingest_empty"
DEADLINE: Final = 8 * MINUTES
"""Seconds that one load may take."""
LOAD, PHASES, AGAIN, MEMORY = "load", "phases", "again", "memory"
TABLES: Final = (LOAD, PHASES, AGAIN, MEMORY)
FIGURES: Final = ("seconds", "rows_seconds", "cpu_seconds", "server_cpu_seconds", "peak_bytes")
_NAMES: Final = (OURS, ROWS_ONLY, DEFAULT, DEFAULT_ARROW, "dlt adbc", "dlt adbc files")


@dataclass(frozen=True)
class Peer:
    """One way of running dlt."""

    items: str
    format: str | None
    environment: dict[str, str] = field(default_factory=dict)
    share: int = 1
    """Of the days, one in so many: what is very slow need not load them all."""


PEERS: Final = {
    DEFAULT: Peer("rows", None, share=10),
    DEFAULT_ARROW: Peer("batches", None),
    "dlt adbc": Peer("batches", "parquet"),
    "dlt adbc files": Peer("days", "parquet", {"DATA_WRITER__FILE_MAX_ITEMS": "50000"}),
}


@dataclass
class Loads:
    """What one contender's rounds took."""

    rows: int
    seconds: list[float] = field(default_factory=list)
    rows_seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    server_cpu_seconds: list[float] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Rows per second until everything can be asked for, the median."""
        return self.rows / statistics.median(self.seconds)

    @property
    def rows_rate(self) -> float:
        """Rows per second until they are there, the median."""
        return self.rows / statistics.median(self.rows_seconds)


class LoadFailed(Exception):
    """A contender's process ended badly, or took too long."""


class Benchmark:
    """One run of what the command line asks for."""

    def __init__(self, options: argparse.Namespace, arena: Arena, python: Path | None) -> None:
        self._options = options
        self._arena = arena
        self._python = python
        self._settings = {
            name: json.loads(value)
            for name, _, value in (pair.partition("=") for pair in options.ours)
        }
        self._expected: dict[str, int] = {}
        self.figures: dict[str, Any] = {}
        self.tables: list[Table] = []
        self.targets: list[report.Target] = []

    def run(self) -> None:
        """Measure table by table."""
        options = self._options
        asyncio.run(self._prepare())
        corpus = recorded(PLACE / "ingest-corpus", events=options.events, days=options.days)
        print(f"{corpus.rows:,} rows of {len(corpus.days)} days", flush=True)
        measures: dict[str, Callable[[Corpus], None]] = {
            LOAD: self._load,
            PHASES: self._phases,
            AGAIN: self._again,
            MEMORY: self._memory,
        }
        for name in options.only:
            print(f"{name}:", flush=True)
            measures[name](corpus)

    async def _prepare(self) -> None:
        await self._arena.make(EMPTY)
        await self._arena.make(TEMPLATE)
        await migrate_in_asyncio(self._arena.urls(TEMPLATE)["owner"])

    # ---- source to figures

    def _load(self, corpus: Corpus) -> None:
        loads: dict[str, Loads] = {}
        for number in range(self._options.rounds):
            for name in self._options.contenders:
                share = PEERS[name].share if name in PEERS else 1
                chosen = corpus.days[::share] if share < len(corpus.days) else corpus.days[:1]
                rows = sum(t.rows for t in corpus.tables() if t.day in {str(d) for d in chosen})
                found = loads.setdefault(name, Loads(rows))
                if number and name == DEFAULT:
                    continue
                took = (
                    self._dlt(name, corpus, chosen)
                    if name in PEERS
                    else self._ours(corpus, rows_only=name == ROWS_ONLY)
                )
                for figure in FIGURES:
                    if figure in took:
                        getattr(found, figure).append(took[figure])
                self._compare(name, took, rows, whole=len(chosen) == len(corpus.days))
                print(
                    f"  {name}: {took['seconds']:.2f} s, {rows / took['seconds']:,.0f} rows/s,"
                    f" {took['peak_bytes'] / MiB:.0f} MiB",
                    flush=True,
                )
        self.figures[LOAD] = {name: asdict(figure) for name, figure in loads.items()}
        self.tables.append(_load_table(loads))
        self.targets += _load_targets(loads)

    def _compare(self, name: str, took: dict[str, Any], rows: int, *, whole: bool) -> None:
        """Refuse to compare contenders that derive different things."""
        derived = took.get("derived")
        if derived is None:
            return
        if derived["events"] != rows:
            raise LoadFailed(f"{name}: {rows} rows were recorded, {derived['events']} rolled up")
        if whole:
            self._expected = self._expected or derived
            if derived != self._expected:
                raise LoadFailed(f"{name} derives {derived}, another {self._expected}")

    def _ours(self, corpus: Corpus, *, rows_only: bool) -> dict[str, Any]:
        with self._database(TEMPLATE) as database:
            took = self._job(database, corpus, rows_only=rows_only)
            if rows_only and took["rows"] != corpus.rows:
                raise LoadFailed(f"{corpus.rows} rows were recorded, {took['rows']} loaded")
            if rows_only:
                took["rows_seconds"] = took["seconds"]
            else:
                took["derived"] = asyncio.run(self._check(database, corpus))
        return took

    def _job(
        self,
        database: str,
        corpus: Corpus,
        *,
        connection: tuple[dict[str, str], str] | None = None,
        tenant: str | None = None,
        touched: Sequence[Any] = (),
        rows_only: bool = False,
    ) -> dict[str, Any]:
        days = touched or corpus.days
        order = {
            "corpus": str(corpus.directory),
            "tenant": tenant,
            "connection": connection or ({}, _account(corpus, "https://localhost/token")),
            "touched": [str(day) for day in touched],
            "first": str(days[0]),
            "last": str(days[-1]),
            "settings": self._settings,
            "rows_only": rows_only,
        }
        url = self._arena.urls(database)["runtime"]
        return self._process([sys.executable, "-m", "ops.bench.ingest.contenders.ours"], url, order)

    def _dlt(self, name: str, corpus: Corpus, days: Sequence[Any]) -> dict[str, Any]:
        peer = PEERS[name]
        with self._database(EMPTY) as database, tempfile.TemporaryDirectory(dir=PLACE) as scratch:
            answers = Path(scratch) / "answers"
            answers.mkdir()
            for day in days:
                (answers / f"{day}.arrow").symlink_to(corpus.answers / f"{day}.arrow")
            order = {
                "answers": str(answers),
                "scratch": scratch,
                "items": peer.items,
                "format": peer.format,
                "zone": PROFILE.zone,
                "currency": PROFILE.currency,
                "environment": peer.environment,
            }
            module = "ops.bench.ingest.contenders.dlt_load"
            url = self._arena.urls(database)["admin"]
            return self._process([str(self._python), "-m", module], url, order)

    def _process(self, command: list[str], url: str, order: dict[str, Any]) -> dict[str, Any]:
        before = self._arena.cpu_seconds()
        try:
            ended = subprocess.run(  # noqa: S603 - our own
                [*command, json.dumps(order)],
                cwd=ROOT,
                env={**os.environ, "INGEST_BENCH_URL": url},
                capture_output=True,
                text=True,
                timeout=DEADLINE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise LoadFailed(f"{command[-1]} took longer than {DEADLINE:g} s") from None
        if ended.returncode != 0:
            raise LoadFailed(f"{command[-1]} ended with {ended.returncode}:\n{ended.stderr}")
        took: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
        took["server_cpu_seconds"] = self._arena.cpu_seconds() - before
        return took

    @contextmanager
    def _database(self, template: str) -> Any:
        async def make() -> None:
            await self._arena.make(database, template)
            await self._arena.calm(database)

        async def drop() -> None:
            async with self._arena.connected("postgres") as connection:
                await connection.execute(f'DROP DATABASE "{database}" WITH (FORCE)')

        database = f"{template}_round"
        asyncio.run(make())
        try:
            yield database
        finally:
            asyncio.run(drop())

    async def _check(self, database: str, corpus: Corpus) -> dict[str, int]:
        """How many of each are there; a load that lost rows is none."""
        async with self._arena.connected(database) as connection:
            ((rows, events, sessions, purchases),) = await connection.fetch(
                "SELECT (SELECT count(*) FROM data.events),"
                " (SELECT sum(events)::bigint FROM data.daily_rollup),"
                " (SELECT count(*) FROM data.sessions),"
                " (SELECT count(*) FROM data.purchases WHERE counted)"
            )
        if not rows == events == corpus.rows:
            raise LoadFailed(f"{corpus.rows} rows were recorded, {rows} loaded, {events} rolled up")
        return {"events": events, "sessions": sessions, "purchases": purchases}

    # ---- step by step

    def _phases(self, corpus: Corpus) -> None:
        async def measure(database: str) -> Phases:
            urls = self._arena.urls(database)
            runtime, admin = (
                await asyncpg.connect(urls["runtime"]),
                await asyncpg.connect(urls["admin"]),
            )
            try:
                phases = Phases(runtime, admin)
                await phases.run(corpus)
            finally:
                await runtime.close()
                await admin.close()
            return phases

        with self._database(TEMPLATE) as database:
            phases = asyncio.run(measure(database))
        self.figures[PHASES] = {
            "rows": phases.rows,
            "seconds": phases.seconds,
            "statements": phases.statements,
            "load_seconds": phases.load_seconds,
            "server_copy_seconds": phases.server_seconds,
            "bytes_per_row": phases.sent_bytes / phases.rows,
        }
        self.tables.append(_phases_table(phases))
        share = phases.server_seconds / phases.load_seconds
        self.targets.append(
            report.Target(
                "load phase, of a server-side COPY of the same rows", share, 0.5, True, "x"
            )
        )

    # ---- a second time

    def _again(self, corpus: Corpus) -> None:
        many = recorded(PLACE / "ingest-corpus", events=self._options.events, days=90)
        with self._database(TEMPLATE) as database:
            first = self._job(database, corpus)
            with self._stand_in(corpus) as (connection, service):
                # Of two, the second: the stand-in reads its files when it is first asked.
                _, again = [
                    self._job(database, corpus, connection=connection, tenant=first["tenant"])
                    for _ in range(2)
                ]
                scans = sum(asked.operation == "job.run" for asked in service.faults.log())
                scans += sum(asked.operation == "jobs.insert" for asked in service.faults.log())
        with self._database(TEMPLATE) as database:
            all_days = self._job(database, many)
            one = [
                self._job(database, many, tenant=all_days["tenant"], touched=[many.days[place]])
                for place in (30, 45, 60)
            ]
        unchanged = again["seconds"] / first["seconds"]
        one_day = statistics.median(took["seconds"] for took in one)
        average = all_days["seconds"] / len(many.days)
        self.figures[AGAIN] = {
            "first_seconds": first["seconds"],
            "again_seconds": again["seconds"],
            "queries": scans,
            "ninety_days_seconds": all_days["seconds"],
            "one_of_ninety_seconds": one_day,
            "ninety_days_peak_bytes": all_days["peak_bytes"],
        }
        table = Table(title="A second time, seconds")
        for heading in ("what", "seconds", "in proportion"):
            table.add_column(heading, justify="left" if heading == "what" else "right")
        table.add_row(f"first load, {len(corpus.days)} days", f"{first['seconds']:.2f}", "")
        table.add_row("again, all unchanged", f"{again['seconds']:.3f}", f"{unchanged:.2%}")
        table.add_row(f"first load, {len(many.days)} days", f"{all_days['seconds']:.2f}", "")
        table.add_row(
            "one of them again", f"{one_day:.2f}", f"{one_day / average:.1f} average days"
        )
        self.tables.append(table)
        self.targets += [
            report.Target("queries for unchanged days", scans, 0, False, ""),
            report.Target("unchanged days, of the first load", 100 * unchanged, 1, False, "%"),
            report.Target("one day of 90, in average days", one_day / average, 3, False, ""),
            report.Target("peak memory, 90 days", all_days["peak_bytes"] / MiB, 400, False, "MiB"),
        ]

    # ---- through Google's clients

    def _memory(self, corpus: Corpus) -> None:
        with self._database(TEMPLATE) as database, self._stand_in(corpus) as (connection, _):
            took = self._job(database, corpus, connection=connection)
            asyncio.run(self._check(database, corpus))
        peak = took["peak_bytes"] / MiB
        self.figures[MEMORY] = took
        table = Table(title="Through Google's clients, from the stand-in")
        for heading in ("seconds", "CPU seconds", "peak MiB"):
            table.add_column(heading, justify="right")
        table.add_row(f"{took['seconds']:.1f}", f"{took['cpu_seconds']:.1f}", f"{peak:.0f}")
        self.tables.append(table)
        self.targets.append(
            report.Target("peak memory, through Google's clients", peak, 400, False, "MiB")
        )

    @contextmanager
    def _stand_in(self, corpus: Corpus) -> Any:
        with start(corpus.exports) as service:
            yield _connection(corpus, service), service


def _connection(corpus: Corpus, service: StandIn) -> tuple[dict[str, str], str]:
    endpoints = {"api_endpoint": service.url, "storage_endpoint": service.grpc}
    return endpoints, _account(corpus, service.token_uri)


def _account(corpus: Corpus, token_uri: str) -> str:
    return json.dumps(create_service_account(corpus.exports, PROFILE.project, token_uri))


def _load_table(loads: dict[str, Loads]) -> Table:
    table = Table(title="Source to tables: medians (min - max)")
    headings = ("", "rows/s", "seconds", "ours is", "rows alone, rows/s", "ours is")
    for heading in (*headings, "CPU, µs per row: client + server", "MiB"):
        table.add_column(heading, justify="right" if heading else "left")
    ours, rows_only = loads.get(OURS), loads.get(ROWS_ONLY)
    for name, figure in loads.items():
        client, server = (
            1e6 * statistics.median(values) / figure.rows
            for values in (figure.cpu_seconds, figure.server_cpu_seconds)
        )
        whole = name != ROWS_ONLY
        table.add_row(
            name,
            f"{figure.rate:,.0f}" if whole else "",
            report.spread(figure.seconds, lambda value: f"{value:.2f}"),
            f"{ours.rate / figure.rate:.2f} x" if ours and whole else "",
            f"{figure.rows_rate:,.0f}" if figure.rows_seconds else "",
            f"{rows_only.rate / figure.rows_rate:.2f} x"
            if rows_only and figure.rows_seconds
            else "",
            f"{client:.1f} + {server:.1f}",
            f"{statistics.median(figure.peak_bytes) / MiB:.0f}",
        )
    return table


def _load_targets(loads: dict[str, Loads]) -> list[report.Target]:
    ours = loads.get(OURS)
    fast = [figure for name, figure in loads.items() if name.startswith("dlt adbc")]
    targets: list[report.Target] = []
    if ours is None:
        return targets
    for name, what in ((DEFAULT, "default"), (DEFAULT_ARROW, "default with Arrow")):
        if name in loads:
            ratio = ours.rate / loads[name].rate
            targets.append(report.Target(f"rate, of dlt's {what}", ratio, 4, True, "x"))
    if fast:
        fastest = max(fast, key=lambda figure: figure.rate)
        share = statistics.median(ours.peak_bytes) / statistics.median(fastest.peak_bytes)
        targets += [
            report.Target("rate, of dlt's fastest", ours.rate / fastest.rate, 1.5, True, "x"),
            report.Target("memory, of dlt's fastest", share, 0.25, False, "x"),
        ]
    peak = max(ours.peak_bytes) / MiB
    return [*targets, report.Target("peak memory", peak, 400, False, "MiB")]


def _phases_table(phases: Phases) -> Table:
    table = Table(title="Step by step on one connection, µs per row")
    table.add_column("step")
    table.add_column("µs per row", justify="right")
    for step in STEPS:
        table.add_row(step, f"{1e6 * phases.seconds[step] / phases.rows:.2f}")
    for name, seconds in list(phases.statements.items())[:12]:
        table.add_row(f"  {name}", f"{1e6 * seconds / phases.rows:.2f}")
    limit = 1e6 * phases.server_seconds / phases.rows
    table.add_row("a server-side COPY of the same bytes", f"{limit:.2f}")
    return table


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",")]
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
        return names

    return read


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ops.bench.ingest",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--only", type=_names(TABLES), default=list(TABLES), metavar=",".join(TABLES),
        help="what to measure")  # fmt: skip
    add("--contenders", type=_names(_NAMES), default=list(_NAMES), metavar=",".join(_NAMES),
        help="who takes part in load")  # fmt: skip
    add("--events", type=int, default=1_000_000, help="events to load (%(default)s)")
    add("--days", type=int, default=10, help="days that they are of (%(default)s)")
    add("--rounds", type=int, default=3, help="rounds of load (%(default)s)")
    add("--ours", action="append", default=[], metavar="NAME=VALUE",
        help="a field of DataSettings; several times")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser


def _surroundings() -> dict[str, Any]:
    commit = subprocess.run(
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
        "dlt": pinned("dlt", PINS),
        "adbc": pinned("adbc-driver-postgresql", PINS),
    }


def main() -> int:
    """Run the command line; its exit code."""
    options = _parser().parse_args()
    logs.configure(level="warning")
    PLACE.mkdir(exist_ok=True)
    surroundings = _surroundings()
    print(", ".join(f"{name} {value}" for name, value in surroundings.items()), flush=True)
    compared = LOAD in options.only and not PEERS.keys().isdisjoint(options.contenders)
    python = asyncio.run(install_peers(PLACE / "ingest-peers", PINS)) if compared else None
    with (
        # Not in the system's directory for temporary files, which may live in memory.
        tempfile.TemporaryDirectory(dir=PLACE) as directory,
        start_embedded_sync(Path(directory)) as server,
    ):
        benchmark = Benchmark(options, Arena(server), python)
        try:
            benchmark.run()
        except LoadFailed as failure:
            print(f"failed: {failure}", file=sys.stderr)
            return 2
    tables = benchmark.tables
    if benchmark.targets:
        tables.append(report.targets_table(benchmark.targets))
    report.show(Console(width=None if sys.stdout.isatty() else 140), tables)
    if options.json is not None:
        plain = {
            "surroundings": surroundings,
            "figures": benchmark.figures,
            "targets": [asdict(target) for target in benchmark.targets],
        }
        options.json.write_text(json.dumps(plain, indent=2) + "\n")
    return 0 if all(target.met for target in benchmark.targets) else 1


if __name__ == "__main__":
    sys.exit(main())
