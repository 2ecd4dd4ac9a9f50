"""Identifiers: version, time and order."""

import time
import uuid

from troupe.common.ids import new_id, new_id_text


def _milliseconds(made: uuid.UUID) -> int:
    return made.int >> 80


def test_both_ways_make_version_7_with_the_time_in_front() -> None:
    for make in (new_id, lambda: uuid.UUID(new_id_text())):
        before = time.time_ns() // 1_000_000
        made = make()
        after = time.time_ns() // 1_000_000
        assert made.version == 7
        assert made.variant == uuid.RFC_4122
        assert before <= _milliseconds(made) <= after


def test_the_text_is_that_of_the_standard_library() -> None:
    texts = [new_id_text() for _ in range(500)]
    assert [str(uuid.UUID(text)) for text in texts] == texts
    assert len(set(texts)) == 500


def test_every_random_bit_is_used() -> None:
    mask = (1 << 62) - 1 | ((1 << 12) - 1) << 64
    for make in (new_id, lambda: uuid.UUID(new_id_text())):
        set_once, clear_once = 0, 0
        for _ in range(200):
            value = make().int & mask
            set_once |= value
            clear_once |= ~value & mask
        assert set_once == clear_once == mask
