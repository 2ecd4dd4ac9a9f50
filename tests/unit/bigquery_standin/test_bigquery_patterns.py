"""What is known of a regular expression before it is evaluated."""

import pytest

from troupe_demo.bigquery.sql.patterns import groups


@pytest.mark.parametrize(
    ("pattern", "count", "optional"),
    [
        ("abc", 0, False),
        ("a(b)c", 1, False),
        ("(?:a|b)c(d|e)", 1, False),
        ("(a)|b", 1, True),
        ("(a)?b", 1, True),
        ("(a)*b", 1, True),
        ("(a){0,2}b", 1, True),
        ("(a)+b", 1, False),
        ("(?:(a)|b)c", 1, True),
        ("(?:(a)b)?c", 1, True),
        (r"\(a\)", 0, False),
        ("[(]a[)](b)", 1, False),
        ("[^](]a", 0, False),
        ("(?P<name>a)(b)", 2, False),
        ("(?i)a(b)", 1, False),
        ("(?i:a)(b)", 1, False),
        (r"\Q(\E(b)", 1, False),
        (r"(?:^|&)utm_source=([^&]*)", 1, False),
    ],
)
def test_groups_are_counted_and_those_that_may_be_missing_found(
    pattern: str, count: int, optional: bool
):
    assert groups(pattern) == (count, optional)
