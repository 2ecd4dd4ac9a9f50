"""How the live tree is drawn for a person."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from troupe.cli.status import Status, _length, draw
from troupe.supervisor import RunFile

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
URLS = {"auth": "http://127.0.0.1:1", "data": "http://127.0.0.1:2"}


def node(name: str, kind: str, state: str = "running", **options: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "state": state,
        "ready": state == "running",
        "restarts": options.get("restarts", 0),
        "last_error": options.get("last_error"),
        "since": (NOW - timedelta(seconds=options.get("seconds", 5))).isoformat(),
        "details": options.get("details", {}),
        "children": options.get("children", []),
    }


BOX = {
    "mailbox_depth": 3,
    "mailbox_capacity": 256,
    "mailbox_waiting": 0,
    "delivered": 90,
    "busy": True,
    "dead_letters": 7,
    "dead_letters_rejected": 5,
    "dead_letters_stopped": 2,
}
TREE = node(
    "data",
    "group",
    details={"tasks_running": 2, "tasks_limit": 32, "tasks_waiting": 0, "threads_running": 0},
    children=[
        node("database", "resource", seconds=7300),
        node(
            "actors",
            "supervisor",
            children=[
                node("totals", "actor", details=BOX),
                node(
                    "imports",
                    "actor",
                    "backing_off",
                    restarts=4,
                    last_error="no file [/red] today",
                    details={"jobs_running": 2, "leads": True, "next_look": None},
                ),
            ],
        ),
        node("http", "service", "stopping", details={"stuck": True}),
    ],
)


def drawn(trees: dict[str, Any], width: int = 120) -> list[str]:
    status = Status(RunFile(pid=42, urls=URLS), trees, NOW)
    console = Console(file=io.StringIO(), width=width)
    console.print(draw(status))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_every_part_has_its_place_in_the_tree_and_its_figures():
    lines = drawn({"data": TREE})
    totals = "mailbox 3 of 256 · dead letters 7 (5 rejected, 2 stopped)"
    imports = "restarts 4 · jobs running 2 · leads · last error: no file [/red] today"
    assert lines == [
        "troupe (process 42)",
        "part                  state        since",
        "data group            running      5 s    tasks 2 of 32",
        "├─ database resource  running      2 h",
        "├─ actors supervisor  running      5 s",
        f"│  ├─ totals actor    running      5 s    {totals}",
        f"│  └─ imports actor   backing_off  5 s    {imports}",
        "└─ http service       stopping     5 s    stuck",
    ]


def test_a_narrow_terminal_wraps_remarks_and_cuts_no_word_of_the_tree():
    lines = drawn({"data": TREE}, width=80)
    text = " ".join(line.split("5 s")[-1].strip(" │") for line in lines)
    assert "dead letters 7 (5 rejected, 2 stopped)" in text
    assert all("…" not in line for line in lines)
    assert any(line.startswith("│  └─ imports actor   backing_off") for line in lines)


def test_a_group_that_does_not_answer_is_named_with_its_address():
    lines = drawn({"auth": None, "data": TREE})
    assert lines[2].split() == ["auth", "silent", "does", "not", "answer", "on", URLS["auth"]]
    assert lines[3].startswith("data group")


def test_full_mailboxes_and_exhausted_pools_are_red():
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system="standard")
    full = node("a", "actor", details={**BOX, "mailbox_depth": 256, "mailbox_waiting": 9})
    console.print(draw(Status(RunFile(pid=42, urls=URLS), {"data": full}, NOW)))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "\x1b[31mmailbox 256 of 256\x1b[0m" in text
    assert "\x1b[31mmailbox waiting 9\x1b[0m" in text


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-1, "0 s"), (0.9, "0 s"), (59, "59 s"), (60, "1 min"), (7199, "1 h"), (200_000, "2 d")],
)
def test_lengths_of_time_are_told_in_their_largest_unit(seconds, expected):
    assert _length(timedelta(seconds=seconds)) == expected
