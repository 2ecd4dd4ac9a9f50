"""Which processors are kept for those who answer people."""

import os

import pytest

from troupe.common.niceness import reserved


@pytest.mark.parametrize(
    ("usable", "count", "expected"),
    [
        ({0, 1}, 1, {0}),
        ({4, 9, 6}, 2, {4, 6}),
        ({2, 3}, 0, set()),
        ({2, 3}, 64, {2}),
        ({7}, 1, set()),
    ],
)
def test_the_first_ones_and_never_all(
    monkeypatch: pytest.MonkeyPatch, usable: set[int], count: int, expected: set[int]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: usable)
    assert reserved(count) == expected


def test_none_where_the_system_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert reserved(1) == frozenset()
