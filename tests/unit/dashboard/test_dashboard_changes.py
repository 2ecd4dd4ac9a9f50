from decimal import Decimal

import pytest

from troupe.actors.analytics.metrics import Better
from troupe.http.dashboard.changes import Change


@pytest.mark.parametrize(
    ("value", "previous", "better", "text", "tone", "arrow"),
    [
        (110, 100, Better.MORE, "+10.0%", "good", "up"),
        (110, 100, Better.LESS, "+10.0%", "bad", "up"),
        (90, 100, Better.MORE, "−10.0%", "bad", "down"),
        (90, 100, Better.NEITHER, "−10.0%", "flat", "down"),
        (10_001, 10_000, Better.MORE, "0.0%", "flat", ""),
        (9_999, 10_000, Better.MORE, "0.0%", "flat", ""),
        (5, 0, Better.MORE, "new", "flat", ""),
        (0, 0, Better.MORE, "–", "flat", ""),
        (None, 5, Better.MORE, "–", "flat", ""),
    ],
)
def test_a_change_is_shown_as_it_is_news(
    value: int | None, previous: int, better: Better, text: str, tone: str, arrow: str
) -> None:
    change = Change.of(value, Decimal(previous), better)
    assert (change.text, change.tone, change.arrow) == (text, tone, arrow)
