"""URLs of several servers."""

import pytest

from troupe.common import dialing
from troupe.common.postgres.roles import _describe


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://me:se,cret@db1:5432,db2:5433/troupe", ("db1:5432", "db2:5433")),
        ("postgresql://db1,db2/troupe", ("db1", "db2")),
        ("postgresql://me@[::1]:5432,db2/troupe?sslmode=require", ("[::1]:5432", "db2")),
        ("postgresql:///troupe", ("",)),
    ],
)
def test_hosts(url: str, hosts: tuple[str, ...]) -> None:
    assert dialing.hosts_of(url) == hosts


def test_one_of_them() -> None:
    url = "postgresql://me:p%40ss@db1:5432,[::1]:5433/troupe?sslmode=require"
    one = dialing._only(url, "[::1]:5433")
    assert one == "postgresql://me:p%40ss@[::1]:5433/troupe?sslmode=require"


def test_a_description_names_all_and_tells_no_password() -> None:
    told = _describe("postgresql://me:secret@db1:5433,db2,[::1]/troupe")
    assert told == "db1:5433 or db2:5432 or [::1]:5432 (role me/troupe)"
