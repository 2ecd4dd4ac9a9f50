"""The command line: measure answers beside a first version's, say which targets are met.

Exit code 0: every target that was measured is met; 1: one is not; 2: something went wrong.
"""

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import asyncpg
import trio
from rich.console import Console
from rich.table import Table

from ops.bench.answers import data
from ops.bench.answers.client import Line, Reply, keep_asking, request
from ops.bench.jobs.arena import Arena
from ops.bench.jobs.peers import ROOT, install_peers
from ops.bench.jobs.report import Target, show, targets_table
from troupe.actors.auth.access_tokens import issue_token
from troupe.common import logs
from troupe.common.bridge import open_bridge
from troupe.common.database import open_database
from troupe.common.niceness import keep_off, reserved
from troupe.common.postgres import start_embedded_sync
from troupe.http.history_ids import read_session_id

PEERS: Final = ROOT / ".bench" / "answers-peers"
PINS: Final = Path(__file__).with_name("peers.txt")
PARTS: Final = ("uncached", "tasks", "cached", "mix")
TOKENS: Final = 64
"""As many callers: one would meet its rate limit."""
START_DEADLINE: Final = 60.0
MS: Final = 1e3

Compared = tuple[str, str, int, dict[str, str], float | None]
"""What, route, days, our parameters, target in ms."""
Looked = tuple[str, str, dict[str, str]]
"""What, route, parameters."""

UNCACHED: Final[tuple[Compared, ...]] = (
    ("stats, 30 days", "stats", 30, {}, 15),
    ("stats, 90 days", "stats", 90, {}, 30),
    ("chart, 30 days", "stats/chart", 30, {"metric": "M"}, None),
    ("chart, 90 days", "stats/chart", 90, {"metric": "M"}, 30),
    ("locations, 30 days", "stats/locations", 30, {}, None),
    ("locations, 90 days", "stats/locations", 90, {}, 30),
)
TASKS: Final[tuple[Compared, ...]] = (
    ("purchases, 30 days", "tasks/purchases", 30, {}, 50),
    ("abandoned carts, 30 days", "tasks/cart-abandonment", 30, {}, 50),
    ("failed searches, 30 days", "tasks/search-analysis", 30, {}, 50),
    ("repeat visits, 30 days", "tasks/repeat-visits", 30, {}, 50),
    ("pages' performance, 30 days", "tasks/performance/pages", 30, {}, 50),
    ("branches' performance, 30 days", "tasks/performance/locations", 30, {}, 50),
)
FURTHER: Final[tuple[Looked, ...]] = (
    ("carts, by priority", "tasks/cart-abandonment", {"sort": "-priority"}),
    ("carts, open and of worth", "tasks/cart-abandonment", {"status": "open", "min_value": "200"}),
    ("carts, a word searched", "tasks/cart-abandonment", {"q": "product 19"}),
    ("carts, a rare word searched", "tasks/cart-abandonment", {"q": "cv4711"}),
)
LOAD_DEADLINE: Final = 120.0
TIMELINES_MS: Final = 10
TIMELINES: Final = 100
"""Sessions and persons asked for, each once. The first dozen of them include what a session of
PostgreSQL learns at the first sight of a day's partition, which it does once in half an hour."""
OTHERS: Final[tuple[Looked, ...]] = (
    ("stats, 30 days, compared", "stats", {"compare": "previous"}),
    ("stats, 30 days, on mobile", "stats", {"device": "mobile"}),
    ("channels, 30 days", "channels", {}),
    ("funnel, 30 days", "funnel", {}),
    ("top products, 30 days", "top/products", {}),
    ("top pages, 30 days", "top/pages", {}),
    ("top terms, 30 days", "top/terms", {}),
    ("everything, 30 days", "stats/complete", {}),
)
MIX: Final = (
    "stats?preset=30d", "stats?preset=90d&compare=previous", "stats?preset=7d&location=L1",
    "stats/chart?preset=30d", "stats/chart?preset=90d&granularity=week&metric=sessions",
    "stats/locations?preset=30d", "stats/complete?preset=28d", "funnel?preset=30d",
    "channels?preset=30d", "top/products?preset=30d&limit=10",
)  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops.bench.answers", description=__doc__)
    add = parser.add_argument
    add("--only", default=",".join(PARTS), help="what to measure (%(default)s)")
    add("--events", type=int, default=data.EVENTS, help="of the shop (%(default)s)")
    add("--samples", type=int, default=15, help="of each uncached question (%(default)s)")
    add("--naive-samples", type=int, default=3, help="of each by the first version (%(default)s)")
    add("--seconds", type=float, default=5, help="of a round of cached answers (%(default)s)")
    add("--rounds", type=int, default=3, help="of cached answers (%(default)s)")
    add("--clients", type=int, default=16, help="of the mix (%(default)s)")
    add("--minute", type=float, default=60, help="seconds of the mix (%(default)s)")
    add("--prepare", action="store_true", help="make the data and measure nothing")
    add("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _serving(command: list[str], log: Path, **environment: str) -> Iterator[int]:
    """A server in a process of its own; its port."""
    port = _free_port()
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603
            command,
            cwd=ROOT,
            env={**os.environ, **environment, "PORT": str(port)},
            stdout=output,
            stderr=output,
        )
    try:
        end = time.monotonic() + START_DEADLINE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"{command} did not start, see {log}") from None
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _tokens(url: str) -> list[str]:
    async with open_bridge(), open_database(url, connections=1) as database:
        return [
            (await issue_token(database, data.SHOP, name=f"bench {n}", role="viewer")).token
            for n in range(TOKENS)
        ]


def _median(values: list[float]) -> float:
    return statistics.median(values)


class Benchmark:
    """One run."""

    def __init__(
        self, options: argparse.Namespace, arena: Arena, server: int, python: Path, place: Path
    ) -> None:
        self._options = options
        self._server = server
        self._runtime = arena.urls(data.DATABASE)["runtime"]
        self._python = python
        self._place = place
        self._tokens = trio.run(_tokens, self._runtime)
        self.figures: dict[str, Any] = {}
        self.tables: list[Table] = []
        self.targets: list[Target] = []

    def _ours(self, level: str = "info") -> Any:
        return _serving(
            [sys.executable, "-m", "ops.bench.answers.ours"],
            self._place / "ours.log",
            DATABASE_URL=self._runtime,
            STATE=str(self._place / "state"),
            LEVEL=level,
        )

    def _naive(self, level: str = "info") -> Any:
        constant = self._place / "constant.json"
        if not constant.exists():
            constant.write_text("{}")
        return _serving(
            [str(self._python), str(Path(__file__).with_name("naive.py"))],
            self._place / "naive.log",
            DATABASE_URL=self._runtime,
            CONSTANT=str(constant),
            LEVEL=level,
        )

    def _ask(self, line: Line, path: str, token: int = 0) -> Reply:
        reply = line.ask(request(f"/api/v1/{path}", self._tokens[token]))
        if reply.status != 200:
            raise SystemExit(f"{path}: {reply.status} {reply.body[:300]!r}")
        return reply

    # --- uncached ---

    def uncached(self) -> None:
        """Each question over ranges that nobody has asked for; one client."""
        table, figures = self._new_table("Uncached")
        with self._ours() as port, self._naive() as other:
            self._check_figures(Line(port), Line(other))
            for row in UNCACHED:
                self._compare(port, other, row, table, figures)
            self._look(port, OTHERS, table, figures)
        self.figures["uncached"] = figures

    def tasks(self) -> None:
        """Task lists and timelines, which are never kept; one client."""
        table, figures = self._new_table("Tasks and timelines")
        with self._ours() as port, self._naive() as other:
            for row in TASKS:
                self._compare(port, other, row, table, figures)
            self._look(port, FURTHER, table, figures)
            many = {"limit": str(TIMELINES)}
            page = self._ask(Line(port), self._path("tasks/cart-abandonment", 30, 0, many))
            found = json.loads(page.body)["data"]
            ours, naive = Line(port), Line(other)
            for what, kind in (("a session", "session"), ("a person", "user")):
                paths = [f"history/{kind}s/{task[f'{kind}_id']}" for task in found]
                mine = [self._ask(ours, path).seconds for path in paths]
                theirs = [self._ask_naive(naive, self._history(kind, task)) for task in found]
                figures[what] = {"ours": mine, "naive": theirs}
                self._add(table, what, mine, theirs)
                self._target(what, MS * _median(mine), TIMELINES_MS, "ms", at_least=False)
        self.figures["tasks"] = figures

    @staticmethod
    def _history(kind: str, task: Any) -> str:
        _stream, visitor, session = read_session_id(task["session_id"])
        asked: dict[str, Any] = {"tenant": str(data.SHOP), "visitor": visitor}
        if kind == "session":
            asked["session"] = session
        return f"history/{kind}s?{urlencode(asked)}"

    def _new_table(self, title: str) -> tuple[Table, dict[str, Any]]:
        table = Table(title=f"{title}, median over the API, ms (first version: median, least)")
        for heading in ("", "Troupe", "least", "most", "first version", "least", "times"):
            table.add_column(heading, justify="right" if heading else "left")
        self.tables.append(table)
        return table, {}

    def _compare(
        self, port: int, other: int, row: Compared, table: Table, figures: dict[str, Any]
    ) -> None:
        what, route, days, more, target = row
        # The first version takes longer than a server keeps an idle connection.
        ours, naive = Line(port), Line(other)
        mine = [
            self._ask(ours, self._path(route, days, sample, more)).seconds
            for sample in range(self._options.samples)
        ]
        theirs = [
            self._ask_naive(naive, self._path(route, days, sample, {}, True))
            for sample in range(self._options.naive_samples)
        ]
        figures[what] = {"ours": mine, "naive": theirs}
        self._add(table, what, mine, theirs)
        if target is not None:
            self._target(what, MS * _median(mine), target, "ms", at_least=False)
        times = _median(theirs) / _median(mine)
        self._target(f"{what}, first version's time", times, 20, "x", at_least=True)

    def _look(
        self, port: int, rows: tuple[Looked, ...], table: Table, figures: dict[str, Any]
    ) -> None:
        ours = Line(port)
        for what, route, more in rows:
            took = [
                self._ask(ours, self._path(route, 30, sample, more)).seconds
                for sample in range(min(self._options.samples, 7))
            ]
            figures[what] = {"ours": took}
            self._add(table, what, took)

    @staticmethod
    def _add(table: Table, what: str, mine: list[float], theirs: list[float] | None = None) -> None:
        cells = [f"{MS * value:,.1f}" for value in (_median(mine), min(mine), max(mine))]
        if theirs:
            cells += [f"{MS * value:,.0f}" for value in (_median(theirs), min(theirs))]
            cells.append(f"{_median(theirs) / _median(mine):,.0f}")
        table.add_row(what, *cells)

    def _ask_naive(self, line: Line, path: str) -> float:
        reply = line.ask(request(f"/{path}"))
        if reply.status != 200:
            raise SystemExit(f"first version: {path}: {reply.status}")
        return reply.seconds

    @staticmethod
    def _path(route: str, days: int, sample: int, more: dict[str, str], naive: bool = False) -> str:
        end = data.LAST_DAY - timedelta(days=sample)
        said: dict[str, Any] = {"start_date": end - timedelta(days=days - 1), "end_date": end}
        if naive:
            return f"{route}?{urlencode({'tenant': str(data.SHOP), **said})}"
        if more.get("metric") == "M":
            more = {"metric": ["total_users", "sessions", "gross_revenue"]}  # type: ignore[dict-item]
        return f"{route}?{urlencode({**said, **more}, doseq=True)}"

    def _check_figures(self, ours: Line, naive: Line) -> None:
        """Refuse to compare two that count different things."""
        path = self._path("stats", 90, 0, {})
        mine = json.loads(self._ask(ours, path).body)["metrics"]
        theirs = json.loads(naive.ask(request(f"/{self._path('stats', 90, 0, {}, True)}")).body)
        for name in ("events", "total_users", "purchases", "searches"):
            if mine[name]["value"] != theirs[name]:
                raise SystemExit(f"{name}: {mine[name]['value']} is not {theirs[name]}")

    # --- cached ---

    def cached(self) -> None:
        """Requests per second of one kept answer, and of a constant of the same size.

        Once with a line in the log for each request, as both do by default, and once without.
        """
        table = Table(title="One kept answer, requests per second")
        for heading in ("", "median", "least", "most"):
            table.add_column(heading, justify="right" if heading else "left")
        self.figures["cached"] = {
            lines: self._cached(table, lines, level)
            for lines, level in (("each in the log", "info"), ("none in the log", "warning"))
        }
        self.tables.append(table)

    def _cached(self, table: Table, lines: str, level: str) -> dict[str, list[float]]:
        rates: dict[str, list[float]] = {"ours": [], "constant": []}
        with self._ours(level) as port:
            body = self._ask(Line(port), "stats?preset=30d").body
            (self._place / "constant.json").write_bytes(body)
            mine = [request("/api/v1/stats?preset=30d", token) for token in self._tokens]
            with self._naive(level) as other:
                constant = [request("/constant")]
                for _ in range(self._options.rounds):
                    rates["ours"].append(self._rate(port, mine, len(body)))
                    rates["constant"].append(self._rate(other, constant, len(body)))
        for name, label in (("ours", "Troupe"), ("constant", "FastAPI, a constant")):
            values = rates[name]
            table.add_row(
                f"{label}, {len(body):,} bytes, {lines}",
                *(f"{v:,.0f}" for v in (_median(values), min(values), max(values))),
            )
        ratio = _median(rates["ours"]) / _median(rates["constant"])
        self._target(f"kept answers, {lines}, of FastAPI's", ratio, 1.0, "x", at_least=True)
        return rates

    def _rate(self, port: int, requests: list[bytes], size: int) -> float:
        answered = 0

        def next_request(_: int) -> bytes:
            return requests[answered % len(requests)]

        def seen(_: int, reply: Reply) -> None:
            nonlocal answered
            answered += 1
            if reply.status != 200 or len(reply.body) != size:
                raise SystemExit(f"not the kept answer: {reply.status} {reply.body[:200]!r}")

        keep_asking(port, 8, 1.0, next_request, seen)
        answered = 0
        began = time.perf_counter()
        keep_asking(port, 8, self._options.seconds, next_request, seen)
        return answered / (time.perf_counter() - began)

    # --- a mix, and a load meanwhile ---

    def mix(self) -> None:
        """Many clients, ten questions; then the same while a day is loaded.

        From here on the server keeps off the processor of those who answer, as the program has it.
        """
        keep_off(self._server, reserved(1), with_children=True)
        table = Table(title=f"{self._options.clients} clients, ten questions, ms")
        for heading in ("", "requests/s", "p50", "p99", "most", "versions", "errors"):
            table.add_column(heading, justify="right" if heading else "left")
        figures: dict[str, Any] = {}
        with self._ours() as port:
            self._mixed(port, 5, loading=False)
            for what, loading in (("quiet", False), ("a day is loaded", True)):
                found = self._mixed(port, self._options.minute, loading=loading)
                figures[what] = found
                table.add_row(
                    what,
                    f"{found['rate']:,.0f}",
                    *(f"{MS * found[name]:,.2f}" for name in ("p50", "p99", "most")),
                    str(found["versions"]),
                    str(found["errors"]),
                )
        self._loaded(self._load("as-before"))
        quiet, loaded = figures["quiet"], figures["a day is loaded"]
        self._target("mix, p99 of p50", quiet["p99"] / quiet["p50"], 5, "x", at_least=False)
        self._target("mix, errors", quiet["errors"] + loaded["errors"], 0, "", at_least=False)
        self._target(
            "mix while a day is loaded, p99 of the quiet one",
            loaded["p99"] / quiet["p99"], 1.2, "x", at_least=False,
        )  # fmt: skip
        self._target(
            "answers older than 1 s after the load's commit", loaded["stale"], 0, "", at_least=False
        )
        self._target(
            "answers that differ under one version", loaded["differing"], 0, "", at_least=False
        )
        self.figures["mix"] = figures
        self.tables.append(table)

    def _load(self, what: str) -> "subprocess.Popen[bytes]":
        """Load the last day again, by a process of its own."""
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "ops.bench.answers.load", self._runtime,
             str(self._options.events), what],
            cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    @staticmethod
    def _loaded(loader: "subprocess.Popen[bytes]") -> dict[str, Any]:
        """What it says at its end."""
        output, _ = loader.communicate(timeout=LOAD_DEADLINE)
        if loader.returncode != 0:
            raise SystemExit("the load failed")
        told: dict[str, Any] = json.loads(output)
        return told

    def _mixed(self, port: int, seconds: float, *, loading: bool) -> dict[str, Any]:
        requests = [[request(f"/api/v1/{path}", token) for path in MIX] for token in self._tokens]
        asked = [0] * self._options.clients
        took: list[float] = []
        bodies: dict[tuple[int, int], bytes] = {}
        seen_at: list[tuple[float, int]] = []
        counts = {"errors": 0, "differing": 0}
        loader: subprocess.Popen[bytes] | None = None
        began = time.perf_counter()

        def next_request(client: int) -> bytes:
            nonlocal loader
            if loading and loader is None and time.perf_counter() - began > seconds / 3:
                loader = self._load("changed")
            asked[client] += 1
            return requests[client % TOKENS][(asked[client] * 7 + client) % len(MIX)]

        def seen(client: int, reply: Reply) -> None:
            took.append(reply.seconds)
            if reply.status != 200:
                counts["errors"] += 1
                return
            at = reply.body.find(b'"data_version":') + 15
            version = int(reply.body[at : reply.body.find(b",", at)])
            question = (asked[client] * 7 + client) % len(MIX)
            kept = bodies.setdefault((question, version), reply.body)
            counts["differing"] += kept != reply.body
            seen_at.append((time.perf_counter() - reply.seconds, version))

        keep_asking(port, self._options.clients, seconds, next_request, seen)
        stale = 0
        if loader is not None:
            told = self._loaded(loader)
            stale = sum(
                version < told["version"]
                for asked_at, version in seen_at
                if asked_at > told["committed_at"] + 1.0
            )
        took.sort()
        return {
            "rate": len(took) / seconds,
            "p50": took[len(took) // 2],
            "p99": took[len(took) * 99 // 100],
            "most": took[-1],
            "versions": len({version for _, version in seen_at}),
            "stale": stale,
            **counts,
        }

    def _target(
        self, what: str, measured: float, wanted: float, unit: str, *, at_least: bool
    ) -> None:
        self.targets.append(Target(what, measured, wanted, at_least, unit))


async def _prepared(arena_of: Any, events: int) -> tuple[Arena, list[int], str]:
    arena = await data.prepare(arena_of, events)
    await data.plan_for_each_day(arena)
    async with arena.connected("postgres") as connection:
        server = await connection.fetchval("SHOW server_version")
    return arena, list(await data.counts(arena)), server


def main() -> int:
    """Run the command line; its exit code."""
    options = _parser().parse_args()
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}")
    logs.configure(level="warning")
    data.PLACE.mkdir(parents=True, exist_ok=True)
    with (
        start_embedded_sync(data.PLACE) as server,
        tempfile.TemporaryDirectory(dir=data.PLACE.parent) as scratch,
    ):
        arena, counts, version = asyncio.run(_prepared(server, options.events))
        surroundings = {
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "python": platform.python_version(),
            "postgresql": version,
            "asyncpg": asyncpg.__version__,
            **dict(zip(("events", "sessions", "visitors"), counts, strict=True)),
        }
        print(", ".join(f"{name} {value}" for name, value in surroundings.items()), flush=True)
        python = asyncio.run(install_peers(PEERS, PINS))
        if options.prepare:
            return 0
        benchmark = Benchmark(options, arena, server.pid, python, Path(scratch))
        for part in parts:
            print(f"{part}:", flush=True)
            getattr(benchmark, part)()
        console = Console(width=None if sys.stdout.isatty() else 160)
        show(console, [*benchmark.tables, targets_table(benchmark.targets)])
        if options.json is not None:
            plain = {"surroundings": surroundings, "figures": benchmark.figures}
            options.json.write_text(json.dumps(plain, indent=2) + "\n")
        return 0 if all(target.met for target in benchmark.targets) else 1


if __name__ == "__main__":
    sys.exit(main())
