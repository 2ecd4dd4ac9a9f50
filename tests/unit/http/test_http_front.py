"""Which headers the front answers beside."""

import pytest

from troupe.http.front import means_nothing_more

MEANINGFUL = [
    b"cookie", b"range", b"if-none-match", b"x-tenant-id", b"origin", b"x-forwarded-for", b"unheard"
]  # fmt: skip


@pytest.mark.parametrize("name", MEANINGFUL)
def test_headers_that_mean_something_are_left_to_the_application(name: bytes) -> None:
    assert means_nothing_more([b"host", b"accept", b"authorization"])
    assert not means_nothing_more([b"host", b"accept", name])
