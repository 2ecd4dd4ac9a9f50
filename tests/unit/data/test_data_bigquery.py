"""What needs no BigQuery: sorting its errors, and how a channel is made."""

import concurrent.futures
import ipaddress

import google.auth.exceptions
import grpc
import pytest
import requests
from google.api_core import exceptions as api
from google.auth.credentials import AnonymousCredentials
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo

from troupe.actors.data.bigquery_errors import (
    QUOTA_PAUSE,
    CostLimitReached,
    PermissionMissing,
    QueryRefused,
    SourceMissing,
    retried_at_once,
    sorted_errors,
    was_answered,
)
from troupe.actors.data.bigquery_transport import storage_channel
from troupe.common.errors import CredentialsRejected, PeerError, PeerUnavailable
from troupe.common.outbound import OutboundGuard


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
        (job_error(api.BadRequest, "bytesBilledLimitExceeded"), CostLimitReached, "dearer"),
        (job_error(api.InternalServerError, "bytesBilledLimitExceeded"), CostLimitReached, "said"),
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


def response(retry_after: str) -> requests.Response:
    found = requests.Response()
    found.status_code = 429
    found.headers["Retry-After"] = retry_after
    return found


def in_details(seconds: int, nanos: int = 0) -> RetryInfo:
    return RetryInfo(retry_delay=Duration(seconds=seconds, nanos=nanos))


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (api.TooManyRequests("busy", response=response("17")), 17.0),
        (api.TooManyRequests("busy", response=response("-5")), None),
        (api.TooManyRequests("busy", response=response("soon")), None),
        (api.TooManyRequests("busy", response=response("Thu, 01 Jan 1970 00:00:00 GMT")), 0.0),
        (api.TooManyRequests("busy", response=response("Fri, 31 Dec 9999 00:00:00 GMT")), 86400.0),
        (api.TooManyRequests("busy", response=response("9" * 30)), 86400.0),
        (api.ResourceExhausted("busy", details=[in_details(3, 500_000_000)]), 3.5),
        (api.ResourceExhausted("busy", details=["of another kind"]), None),
        (api.RetryError("late", cause=api.ResourceExhausted("x", details=[in_details(9)])), 9.0),
        (api.TooManyRequests("busy"), None),
    ],
)
def test_the_servers_hint_is_kept_within_reason(error: Exception, seconds: float | None) -> None:
    with pytest.raises(PeerUnavailable) as caught, sorted_errors("reading x"):
        raise error
    assert caught.value.retry_after == seconds


def test_a_call_with_a_time_to_wait_is_not_tried_again_before() -> None:
    assert retried_at_once(job_error(api.TooManyRequests, "rateLimitExceeded"))
    reasons = [{"reason": "rateLimitExceeded"}]
    hinted = api.TooManyRequests("busy", errors=reasons, response=response("20"))
    assert not retried_at_once(hinted)
    assert not retried_at_once(job_error(api.BadRequest, "invalidQuery"))
    assert retried_at_once(requests.ConnectionError("gone"))


@pytest.mark.parametrize(
    ("error", "answered"),
    [
        (job_error(api.Forbidden, "quotaExceeded"), True),
        (api.RetryError("late", cause=api.ServiceUnavailable("away")), True),
        (api.RetryError("late", cause=None), False),
        (api.GatewayTimeout("late"), False),
        (requests.ConnectionError("gone"), False),
        (concurrent.futures.TimeoutError(), False),
    ],
)
def test_a_failure_is_told_from_silence(error: Exception, *, answered: bool) -> None:
    with pytest.raises(PeerError) as caught, sorted_errors("reading x"):
        raise error
    assert was_answered(caught.value) is answered


def test_our_own_mistakes_pass_unchanged() -> None:
    with pytest.raises(ZeroDivisionError), sorted_errors("reading x"):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("endpoint", "plain"),
    [("127.0.0.1:1", True), ("[::1]:1", True), ("10.0.0.1:1", False), ("[fd00::1]:1", False)],
)
def test_plain_text_is_for_loopback_alone(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, *, plain: bool
) -> None:
    def refuse(*_: object, **__: object) -> grpc.Channel:
        raise AssertionError("the other kind of channel")

    everywhere = [ipaddress.ip_network(network) for network in ("0.0.0.0/0", "::/0")]
    if plain:
        monkeypatch.setattr("google.auth.transport.grpc.secure_authorized_channel", refuse)
    else:
        monkeypatch.setattr("grpc.insecure_channel", refuse)
    storage_channel(endpoint, AnonymousCredentials(), OutboundGuard(everywhere)).close()
