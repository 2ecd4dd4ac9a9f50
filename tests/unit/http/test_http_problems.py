"""Every error gets one form, says whose fault it is, and keeps our secrets."""

import json
import re
from pathlib import Path

import pytest
import trio
from werkzeug.exceptions import (
    BadRequest,
    MethodNotAllowed,
    PreconditionRequired,
    RequestEntityTooLarge,
)

from troupe.common import errors
from troupe.common.database import CommitUnknown
from troupe.http import problems
from troupe.http.problems import KINDS, leading_error, problem_of


def all_errors(base: type[errors.TroupeError]) -> list[type[errors.TroupeError]]:
    return [base, *(leaf for cls in base.__subclasses__() for leaf in all_errors(cls))]


class TenantAsleep(errors.Conflict):
    """What a domain module would define."""


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (errors.InvalidInput("x"), 422, "invalid-input"),
        (errors.Unauthenticated("x"), 401, "unauthenticated"),
        (errors.Forbidden("x"), 403, "forbidden"),
        (errors.NotFound("x"), 404, "not-found"),
        (TenantAsleep("x"), 409, "conflict"),
        (errors.PreconditionFailed("x"), 412, "precondition-failed"),
        (errors.TooManyRequests("x", 3), 429, "too-many-requests"),
        (errors.PeerUnavailable("x"), 503, "peer-unavailable"),
        (errors.PeerRefused("x"), 502, "peer-refused"),
        (errors.CredentialsRejected("x"), 502, "peer-credentials-rejected"),
        (errors.DatabaseUnavailable("x"), 503, "database-unavailable"),
        (errors.DeadlineExceeded("x"), 504, "deadline-exceeded"),
        (CommitUnknown("x"), 504, "outcome-unknown"),
        (errors.StorageFull("x"), 507, "storage-full"),
        (problems.Unavailable("x"), 503, "unavailable"),
        (BadRequest("x"), 400, "malformed-request"),
        (RequestEntityTooLarge(), 413, "content-too-large"),
        (PreconditionRequired("x"), 428, "precondition-required"),
    ],
)
def test_expected_errors_say_their_sentence(error: Exception, status: int, slug: str) -> None:
    problem = problem_of(error)
    document = json.loads(problem.body("the-id"))
    assert document["status"] == problem.status == status
    assert document["type"] == f"urn:troupe:problem:{slug}"
    assert document["request_id"] == "the-id"
    assert not problem.unexpected
    if not isinstance(error, RequestEntityTooLarge):
        assert document["detail"] == "x"


def test_every_error_of_the_tree_has_a_kind() -> None:
    for cls in all_errors(errors.TroupeError):
        error = cls.__new__(cls)
        Exception.__init__(error, "sentence")
        error.__dict__.setdefault("errors", ())
        assert problem_of(error).status >= 400


def test_unexpected_errors_say_nothing() -> None:
    for error in (ValueError("password=hunter2"), errors.ConfigurationError("key /root/secret")):
        problem = problem_of(error)
        assert (problem.status, problem.unexpected) == (500, True)
        assert b"hunter2" not in problem.body("id")
        assert b"secret" not in problem.body("id")


def test_pointers_and_hints_travel() -> None:
    invalid = errors.InvalidInput("No.", [("/a/0", "too long"), ("?limit", "too large")])
    document = json.loads(problem_of(invalid).body("id"))
    assert document["errors"] == [
        {"pointer": "/a/0", "message": "too long"},
        {"pointer": "?limit", "message": "too large"},
    ]
    assert problem_of(errors.TooManyRequests("x", 2.2)).headers == {"Retry-After": "3"}
    assert problem_of(errors.DatabaseUnavailable("x")).headers["Retry-After"] == "2"
    assert problem_of(errors.PeerUnavailable("x", 60)).headers["Retry-After"] == "60"
    asked = problem_of(errors.Unauthenticated("x")).headers["WWW-Authenticate"]
    refused = problem_of(errors.Unauthenticated("x", presented=True)).headers["WWW-Authenticate"]
    assert asked == 'Bearer realm="troupe"'
    assert refused == 'Bearer realm="troupe", error="invalid_token"'
    assert problem_of(MethodNotAllowed(["GET"])).headers == {"Allow": "GET"}


async def test_in_a_group_the_unexpected_decides_and_cancellation_never() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:
            wrong = ValueError()
            expected = errors.Conflict("x")
            inner = BaseExceptionGroup("", [cancelled, expected])
            assert leading_error(inner) is expected
            assert leading_error(BaseExceptionGroup("", [inner, wrong])) is wrong
            only = BaseExceptionGroup("", [cancelled])
            assert leading_error(only) is only
            raise


def test_the_table_in_the_text_is_the_table_in_the_code() -> None:
    text = Path(problems.__file__).read_text(encoding="utf-8").split('"""')[1]
    written = dict(re.findall(r"^``([a-z-]+)`` +(\d{3})", text, re.MULTILINE))
    assert written == {slug: str(kind.status) for slug, kind in KINDS.items()}
