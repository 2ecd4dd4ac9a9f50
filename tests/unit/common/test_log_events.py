"""Log events are an interface: each stands in docs/observability.md, and nothing else does."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
LOGGERS = {"log", "_log", "_logger", "logger"}


def events_in_the_code() -> Iterator[tuple[str, str]]:
    for path in (ROOT / "troupe").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in LEVELS
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in LOGGERS
            ):
                event = node.args[0]
                assert isinstance(event, ast.Constant), f"{path}:{node.lineno}: not a constant"
                yield event.value, node.func.attr.replace("exception", "error")


def test_the_table_names_every_event_with_its_level() -> None:
    text = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8").split("## Metrics")[0]
    documented = set(re.findall(r"^\| `([a-z_]+)` \| ([a-z]+) \| .{10,} \|$", text, re.MULTILINE))
    assert documented == set(events_in_the_code())
