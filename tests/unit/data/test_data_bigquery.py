"""What needs no BigQuery: sorting its errors, gathering its batches."""

import concurrent.futures
from collections.abc import Iterator

import google.auth.exceptions
import pyarrow as pa
import pytest
import requests
from google.api_core import exceptions as api
from hypothesis import given
from hypothesis import strategies as st

from troupe.actors.data.bigquery import _gathered, _is_loopback
from troupe.actors.data.bigquery_errors import (
    QUOTA_PAUSE,
    PermissionMissing,
    QueryRefused,
    SourceMissing,
    sorted_errors,
)
from troupe.common.errors import CredentialsRejected, PeerError, PeerUnavailable


def job_error(kind: type[api.GoogleAPICallError], reason: str) -> api.GoogleAPICallError:
    return kind(f"{reason}\nsecond line", errors=[{"reason": reason, "message": f"said {reason}"}])


@pytest.mark.parametrize(
    ("error", "ours", "words"),
    [
        (job_error(api.Forbidden, "accessDenied"), PermissionMissing, "said accessDenied"),
        (job_error(api.Forbidden, "quotaExceeded"), PeerUnavailable, "quota is used up"),
        (job_error(api.Forbidden, "rateLimitExceeded"), PeerUnavailable, "slow down"),
        (api.TooManyRequests("busy"), PeerUnavailable, "slow down"),
        (api.ResourceExhausted("busy"), PeerUnavailable, "slow down"),
        (job_error(api.NotFound, "notFound"), SourceMissing, "nothing there"),
        (job_error(api.BadRequest, "invalidQuery"), QueryRefused, "refuses the query"),
        (job_error(api.BadRequest, "tableUnavailable"), PeerUnavailable, "fails while"),
        (job_error(api.InternalServerError, "backendError"), PeerUnavailable, "fails while"),
        (api.ServiceUnavailable("away"), PeerUnavailable, "away"),
        (api.Unauthorized("no"), CredentialsRejected, "credentials"),
        (api.PermissionDenied("no"), PermissionMissing, "denies access"),
        (api.RetryError("late", cause=api.NotFound("gone")), SourceMissing, "gone"),
        (api.RetryError("late", cause=None), PeerUnavailable, "does not answer"),
        (google.auth.exceptions.RefreshError("revoked"), CredentialsRejected, "credentials"),
        (
            google.auth.exceptions.RefreshError("later", retryable=True),
            PeerUnavailable,
            "token service",
        ),
        (google.auth.exceptions.TransportError("gone"), PeerUnavailable, "cannot be reached"),
        (requests.ConnectionError("gone"), PeerUnavailable, "does not answer"),
        (concurrent.futures.TimeoutError(), PeerUnavailable, "does not answer"),
    ],
    ids=lambda value: getattr(value, "__name__", None) or type(value).__name__,
)
def test_errors_are_sorted_by_whose_they_are(
    error: Exception, ours: type[PeerError], words: str
) -> None:
    with pytest.raises(ours, match=words) as caught, sorted_errors("reading x"):
        raise error
    assert type(caught.value) is ours
    assert "\n" not in str(caught.value)


def test_a_used_up_quota_is_left_alone_for_a_while() -> None:
    with pytest.raises(PeerUnavailable) as caught, sorted_errors("reading x"):
        raise job_error(api.Forbidden, "quotaExceeded")
    assert caught.value.retry_after == QUOTA_PAUSE


def test_our_own_mistakes_pass_unchanged() -> None:
    with pytest.raises(ZeroDivisionError), sorted_errors("reading x"):
        raise ZeroDivisionError


@given(sizes=st.lists(st.integers(0, 50)), rows=st.integers(1, 40))
def test_batches_come_out_in_one_size_and_order(sizes: list[int], rows: int) -> None:
    def given_batches() -> Iterator[pa.RecordBatch]:
        start = 0
        for size in sizes:
            numbers = pa.array(range(start, start + size), pa.int64())
            yield pa.RecordBatch.from_arrays([numbers], ["n"])
            start += size

    found = list(_gathered(given_batches(), rows))
    assert [n for batch in found for n in batch.column("n").to_pylist()] == list(range(sum(sizes)))
    assert all(batch.num_rows == rows for batch in found[:-1])
    assert all(0 < batch.num_rows <= rows for batch in found)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("[::1]", True),
        ("localhost", True),
        ("10.0.0.1", False),
        ("x.y", False),
    ],
)
def test_plain_text_is_for_loopback_alone(host: str, *, expected: bool) -> None:
    assert _is_loopback(host) is expected
