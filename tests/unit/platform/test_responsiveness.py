"""The settings of a process that serves."""

import gc
import sys
from collections.abc import Iterator

import pytest

from troupe.platform.responsiveness import SWITCH_INTERVAL, favour_the_loop


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    interval = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval)
    gc.unfreeze()


def test_what_was_loaded_is_not_walked_over_again() -> None:
    favour_the_loop()
    assert gc.get_freeze_count() > 10_000
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL)
