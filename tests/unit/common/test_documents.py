"""What the documents say about the code is compared with the code."""

from pathlib import Path

import pytest

from troupe.actors.analytics.metrics import METRICS
from troupe.actors.analytics.subjects import SUBJECT_METRICS, Kind
from troupe.common.config_reference import reference

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PROMISE = (
    "at-least-once execution; at most one attempt can commit through us; effects outside carry an"
    " idempotency key"
)


def test_the_configuration_reference_is_current() -> None:
    """Write it anew with: troupe config reference > docs/configuration.md."""
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == reference() + "\n"


def test_every_metric_stands_in_the_table_with_its_definition() -> None:
    table = (DOCS / "metrics.md").read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `{m.name}` | {m.title} | {m.unit} | {m.better} | {m.definition} |"
        for m in METRICS.values()
    ]


def test_every_figure_of_subjects_stands_in_the_table_with_its_definition() -> None:
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    kinds = tuple(f"| {kind.value} |" for kind in Kind)
    assert [line for line in text.splitlines() if line.startswith(kinds)] == [
        f"| {kind.value} | `{m.name}` | {m.title} | {m.unit} | {m.definition} |"
        for kind, metrics in SUBJECT_METRICS.items()
        for m in metrics.values()
    ]


@pytest.mark.parametrize(
    "place",
    [
        "README.md",
        "docs/jobs.md",
        "troupe/platform/jobs/__init__.py",
        "troupe/platform/jobs/_run.py",
    ],
)
def test_the_promise_about_jobs_has_the_same_words_everywhere(place: str) -> None:
    words = (ROOT / place).read_text(encoding="utf-8").replace(">", " ").lower().split()
    assert PROMISE in " ".join(words)
