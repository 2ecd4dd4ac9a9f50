"""What the documents say about the code is compared with the code."""

from pathlib import Path

from troupe.actors.analytics.metrics import METRICS
from troupe.common.config_reference import reference

DOCS = Path(__file__).parents[3] / "docs"


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
