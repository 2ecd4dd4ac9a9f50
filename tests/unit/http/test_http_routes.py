"""A declaration is kept: what it does not say does not happen."""

import json
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
import trio
from pydantic import Field
from quart import Response
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.unit.http.sites import KeptInMemory, bearer, make_app
from troupe.common.errors import Conflict, DatabaseUnavailable, InvalidInput
from troupe.http.application import Application, create_app
from troupe.http.conventions import AnswerModel, BodyModel, QueryModel, require_match
from troupe.http.declaration import Answer, Media
from troupe.http.principal import Access, Principal, Role
from troupe.http.problems import Problem


class Filter(QueryModel):
    name: str = ""
    kind: tuple[str, ...] = ()
    maybe: Annotated[list[int] | None, Field(max_length=3)] = None


class Thing(BodyModel):
    name: str
    price: Decimal = Decimal(0)
    parts: tuple["Thing", ...] = ()


class Shown(AnswerModel):
    text: str
    amount: Decimal = Decimal(0)


PUBLIC: dict[str, Any] = {"requires": Access.PUBLIC, "summary": "For a test"}


@pytest.fixture
def app() -> Application:
    return make_app()


async def ask(app: Application, method: str, path: str, **options: Any) -> tuple[int, Any, Any]:
    client: Any = app.test_client()
    response = await client.open(path, method=method, **options)
    raw = await response.get_data()
    is_json = "json" in response.headers.get("Content-Type", "")
    return response.status_code, json.loads(raw) if is_json and raw else raw, response.headers


# --- declarations that cannot be meant ---


@pytest.mark.parametrize(
    ("declaration", "says"),
    [
        ({"query": Filter, "answers": {200: Shown}}, "ignores query"),
        ({"answers": {404: Shown}}, "no success"),
        ({"answers": {200: Shown}, "body": Thing}, "ignores body"),
        ({"answers": {200: Shown}, "creates": True}, "principal"),
    ],
)
def test_a_contradiction_is_refused(
    app: Application, declaration: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):

        @app.api.post("/x", **{**PUBLIC, **declaration})
        async def handler() -> Shown:
            return Shown(text="")


def test_nothing_is_given_that_was_not_declared(app: Application) -> None:
    with pytest.raises(ValueError, match="nothing gives principal"):

        @app.api.get("/x", answers={200: Shown}, **PUBLIC)
        async def handler(*, principal: Principal) -> Shown:
            return Shown(text=principal.name)


def test_without_a_resolver_nothing_can_be_guarded() -> None:
    with pytest.raises(ValueError, match="no resolver"):

        @create_app("data", resolver=None).api.get(
            "/x", answers={200: Shown}, requires=Role.VIEWER, summary=""
        )
        async def handler() -> Shown:
            return Shown(text="")


def test_quarts_own_decorators_are_refused(app: Application) -> None:
    with pytest.raises(RuntimeError, match=r"app\.api"):

        @app.get("/unguarded")
        async def unguarded() -> str:
            return ""


# --- queries ---


async def test_queries_are_validated(app: Application) -> None:
    @app.api.get("/list", query=Filter, answers={200: Shown}, **PUBLIC)
    async def list_things(*, query: Filter) -> Shown:
        return Shown(text=f"{query.name}|{','.join(query.kind)}|{query.maybe}")

    assert (await ask(app, "GET", "/list?name=a&kind=x&kind=y&maybe=1"))[1]["text"] == "a|x,y|[1]"
    for query, pointer in (
        ("unknown=1", "?unknown"),
        ("name=a&name=b", "?name"),
        ("name=%00", "?"),
        ("maybe=x", "?maybe"),
        ("maybe=1&maybe=1&maybe=1&maybe=1", "?maybe"),
    ):
        status, document, _ = await ask(app, "GET", f"/list?{query}")
        assert status == 422
        assert document["errors"][0]["pointer"] == pointer, query


async def test_a_route_without_a_query_takes_none(app: Application) -> None:
    status, document, _ = await ask(app, "GET", "/health/live?x=1")
    assert (status, document["errors"][0]["pointer"]) == (422, "?x")


# --- bodies ---


async def test_bodies_are_validated(app: Application) -> None:
    @app.api.post("/things", body=Thing, answers={201: Shown}, **PUBLIC)
    async def create(*, body: Thing) -> Shown:
        return Shown(text=body.name, amount=body.price)

    good = {"data": b'{"name":"a","price":0.10}', "headers": {"Content-Type": "application/json"}}
    assert (await ask(app, "POST", "/things", **good))[:2] == (201, {"text": "a", "amount": "0.10"})
    for raw, media, expected in (
        (b'{"name":"a"}', "text/plain", 415),
        (b'{"name":"a"}', None, 415),
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b'{"name":"a","name":"b"}', "application/json; charset=utf-8", 400),
        (b"[]", "application/json", 422),
        (b'{"name":1}', "application/json", 422),
    ):
        headers = {"Content-Type": media} if media else {}
        status, document, _ = await ask(app, "POST", "/things", data=raw, headers=headers)
        assert status == document["status"] == expected, raw
    raw = b'{"name":"a","parts":[{"name":"b","colour":1}]}'
    _, document, _ = await ask(app, "POST", "/things", data=raw, headers=good["headers"])
    assert document["errors"] == [{"pointer": "/parts/0/colour", "message": "is not known here"}]


async def test_what_was_given_is_not_repeated(app: Application) -> None:
    """A rejected secret must not come back in the answer, nor reach a log."""

    @app.api.post("/things", body=Thing, answers={201: Shown}, **PUBLIC)
    async def create(*, body: Thing) -> Shown:
        return Shown(text=body.name)

    raw = b'{"name":["hunter2"]}'
    with capture_logs() as logs:
        _, document, _ = await ask(
            app, "POST", "/things?", data=raw, headers={"Content-Type": "application/json"}
        )
    assert "hunter2" not in json.dumps(document) + repr(logs)


async def test_forms(app: Application) -> None:
    @app.api.post("/form", body=Thing, form=True, answers={200: Shown}, **PUBLIC)
    async def form(*, body: Thing) -> Shown:
        return Shown(text=body.name)

    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    for raw, expected in (
        (b"name=%C3%BC+x", 200),
        (b"name=a&name=b", 422),
        (b"name=%00", 422),
        (b"other=1", 422),
        (b"name=%ff", 400),
        (b"&".join(b"a%d=1" % number for number in range(200)), 400),
    ):
        status, document, _ = await ask(app, "POST", "/form", data=raw, headers=headers)
        assert status == expected, raw
        if expected == 200:
            assert document["text"] == "ü x"


# --- answers ---


async def test_answers_are_what_was_declared(app: Application) -> None:
    given: list[Any] = []

    @app.api.get(
        "/answer/<int:number>",
        answers={200: Shown, 202: None, 203: Media("text/plain; charset=utf-8")},
        etag=True,
        **PUBLIC,
    )
    async def give(*, number: int) -> Any:
        assert number == 7
        return given.pop()

    right: tuple[tuple[Any, int, Any], ...] = (
        (Shown(text="a"), 200, {"text": "a", "amount": "0"}),
        ({"text": "a", "amount": 1}, 200, {"text": "a", "amount": "1"}),
        (Answer(b'{"text":"written before"}'), 200, {"text": "written before"}),
        (Answer(None, 202, {"X-More": "yes"}), 202, b""),
        (Answer("ü", 203), 203, "ü".encode()),
        (Response(b"", 304), 304, b""),
    )
    for answer, status, body in right:
        given.append(answer)
        assert (await ask(app, "GET", "/answer/7"))[:2] == (status, body)
    wrong: tuple[Any, ...] = (
        Answer(Shown(text="a"), 418),
        Answer("text", 202),
        Answer(Shown(text="a"), 203),
        {"text": 1},
        None,
        Response(b"", 418),
    )
    for answer in wrong:
        given.append(answer)
        with capture_logs() as logs:
            status, document, _ = await ask(app, "GET", "/answer/7")
        assert (status, document["type"]) == (500, "urn:troupe:problem:internal-error")
        assert any(line["event"] == "request_failed" for line in logs)


async def test_entity_tags(app: Application) -> None:
    @app.api.get("/tagged", answers={200: Shown}, etag=True, **PUBLIC)
    async def tagged() -> Answer:
        return Answer(Shown(text="a"), etag="version-1")

    _, _, headers = await ask(app, "GET", "/tagged")
    assert headers["ETag"] == '"version-1"'
    assert headers["Cache-Control"] == "private, no-cache"
    for condition, status in (
        ('"version-1"', 304),
        ('W/"version-1"', 304),
        ('"other", "version-1"', 304),
        ("*", 304),
        ('"version-2"', 200),
        ("nonsense", 200),
    ):
        got, body, headers = await ask(app, "GET", "/tagged", headers={"If-None-Match": condition})
        assert got == status, condition
        assert headers["ETag"] == '"version-1"'
        assert bool(body) == (status == 200)


async def test_if_match(app: Application) -> None:
    @app.api.put("/settings", answers={204: None}, if_match=True, **PUBLIC)
    async def change() -> Answer:
        require_match("v2")
        return Answer(None, 204)

    for condition, status in ((None, 428), ('"v1"', 412), ('W/"v2"', 412), ('"v2"', 204)):
        headers = {"If-Match": condition} if condition else {}
        assert (await ask(app, "PUT", "/settings", headers=headers))[0] == status


async def test_path_variables(app: Application) -> None:
    @app.api.get("/jobs/<uuid:job_id>/<string:name>", answers={200: Shown}, **PUBLIC)
    async def job(*, job_id: UUID, name: str) -> Shown:
        return Shown(text=f"{job_id}{name}")

    identifier = uuid4()
    assert (await ask(app, "GET", f"/jobs/{identifier}/a"))[1]["text"] == f"{identifier}a"
    assert (await ask(app, "GET", "/jobs/nonsense/a"))[0] == 404
    assert (await ask(app, "GET", f"/jobs/{identifier}/%00"))[0] == 404


async def test_numbers_in_paths_can_be_stored(app: Application) -> None:
    @app.api.get("/rows/<int:row>", answers={200: Shown}, **PUBLIC)
    async def row_of(*, row: int) -> Shown:
        return Shown(text=str(row))

    for row, status in ((2**63 - 1, 200), (2**63, 404), ("9" * 6000, 404), ("-1", 404)):
        assert (await ask(app, "GET", f"/rows/{row}"))[0] == status


# --- failures ---


async def test_unexpected_failures_are_logged_and_told_by_number(app: Application) -> None:
    @app.api.get("/broken", answers={200: Shown}, **PUBLIC)
    async def broken() -> Shown:
        async with trio.open_nursery():
            raise ValueError("password=hunter2")

    with capture_logs() as logs:
        status, document, _ = await ask(app, "GET", "/broken")
    assert status == 500
    assert "hunter2" not in json.dumps(document)
    failure = next(line for line in logs if line["event"] == "request_failed")
    assert isinstance(failure["exc_info"], ValueError)


async def test_expected_failures_answer_themselves(app: Application) -> None:
    error: Exception = Conflict("No.")

    @app.api.get("/refused", answers={200: Shown}, problems=[409], **PUBLIC)
    async def refused() -> Shown:
        async with trio.open_nursery():
            raise error

    assert (await ask(app, "GET", "/refused"))[0] == 409
    error = DatabaseUnavailable("PostgreSQL is restarting.")
    status, document, headers = await ask(app, "GET", "/refused")
    assert (status, document["detail"]) == (503, "PostgreSQL is restarting.")
    assert headers["Retry-After"] == "2"


async def test_the_deadline_of_a_route(app: Application, autojump_clock: MockClock) -> None:
    cleaned = False

    @app.api.get("/slow", answers={200: Shown}, deadline=5.0, **PUBLIC)
    async def slow() -> Shown:
        nonlocal cleaned
        try:
            await trio.sleep_forever()
        finally:
            cleaned = True
        raise AssertionError

    @app.api.get("/patient", answers={200: Shown}, deadline=None, **PUBLIC)
    async def patient() -> Shown:
        await trio.sleep(3600)
        return Shown(text="at last")

    began = autojump_clock.current_time()
    status, document, _ = await ask(app, "GET", "/slow")
    assert (status, document["type"]) == (504, "urn:troupe:problem:deadline-exceeded")
    assert autojump_clock.current_time() - began == pytest.approx(5.0)
    assert cleaned
    assert (await ask(app, "GET", "/patient"))[0] == 200


async def test_pages_get_error_pages(app: Application) -> None:
    async def page(problem: Problem) -> Response | None:
        if problem.status == 405:
            raise RuntimeError("broken page")
        return (
            Response(f"<h1>{problem.status}</h1>", problem.status)
            if problem.status == 404
            else None
        )

    app.error_page = page
    html = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
    assert (await ask(app, "GET", "/nowhere", headers=html))[1] == b"<h1>404</h1>"
    assert (await ask(app, "GET", "/api/v1/nowhere", headers=html))[1]["status"] == 404
    assert (await ask(app, "GET", "/nowhere", headers={"Accept": "*/*"}))[1]["status"] == 404
    with capture_logs():
        assert (await ask(app, "POST", "/docs", headers=html))[1]["status"] == 405


async def test_the_log_line_has_no_query(app: Application) -> None:
    with capture_logs() as logs:
        await ask(app, "GET", "/nowhere?token=hunter2", headers=bearer("hunter3"))
    line = next(line for line in logs if line["event"] == "request_answered")
    assert (line["path"], line["route"], line["status"]) == ("/nowhere", "unmatched", 404)
    assert "hunter" not in repr(logs)


# --- idempotency ---


class Counted:
    """A route that creates, and how often it did."""

    def __init__(self, app: Application) -> None:
        self.times = 0
        self.error: Exception | None = None

        @app.api.post(
            "/create",
            requires=Role.ANALYST,
            body=Thing,
            answers={201: Shown},
            creates=True,
            summary="Create",
        )
        async def create(*, body: Thing) -> Shown:
            self.times += 1
            if self.error is not None:
                raise self.error
            return Shown(text=f"{body.name} {self.times}")


async def create(app: Application, name: str, key: str | None = "k-1", who: str = "owner") -> Any:
    headers = bearer(who) | {"Content-Type": "application/json"}
    if key is not None:
        headers["Idempotency-Key"] = key
    data = json.dumps({"name": name}).encode()
    return await ask(app, "POST", "/create", data=data, headers=headers)


async def test_a_repeated_post_is_answered_not_done_again(app: Application) -> None:
    counted = Counted(app)
    first = await create(app, "a")
    again = await create(app, "a")
    assert first[:2] == again[:2] == (201, {"text": "a 1", "amount": "0"})
    assert "Idempotency-Replayed" not in first[2]
    assert again[2]["Idempotency-Replayed"] == "true"
    assert again[2]["Content-Type"] == "application/json"
    assert (await create(app, "other"))[0] == 422
    assert (await create(app, "a", "k-2"))[1]["text"] == "a 2"
    assert (await create(app, "a", None))[1]["text"] == "a 3"
    assert counted.times == 3


async def test_refusals_are_kept_and_failures_are_not(app: Application) -> None:
    counted = Counted(app)
    counted.error = InvalidInput("Not this name.")
    assert (await create(app, "a"))[0] == 422
    status, document, headers = await create(app, "a")
    assert (status, document["detail"]) == (422, "Not this name.")
    assert headers["Content-Type"] == "application/problem+json"
    assert counted.times == 1
    counted.error = DatabaseUnavailable("Later.")
    assert (await create(app, "b", "k-2"))[0] == 503
    counted.error = None
    assert (await create(app, "b", "k-2"))[0] == 201


async def test_what_is_refused_before_the_handler_claims_nothing(app: Application) -> None:
    counted = Counted(app)
    store = app.api._idempotency
    assert isinstance(store, KeptInMemory)
    assert (await create(app, "a", who="viewer"))[0] == 403
    assert (await create(app, "a", "x" * 256))[0] == 422
    assert (await create(app, "a", ""))[0] == 422
    assert counted.times == 0
    assert store.answers == {}


async def test_a_request_that_is_cancelled_gives_its_claim_back(app: Application) -> None:
    store = app.api._idempotency
    assert isinstance(store, KeptInMemory)

    @app.api.post(
        "/create",
        requires=Role.ANALYST,
        answers={201: Shown},
        creates=True,
        summary="",
        deadline=0.01,
    )
    async def create_slowly() -> Shown:
        assert store.answers
        await trio.sleep_forever()
        raise AssertionError

    headers = bearer("owner") | {"Idempotency-Key": "k"}
    assert (await ask(app, "POST", "/create", headers=headers))[0] == 504
    assert store.answers == {}


async def test_an_answer_that_cannot_be_kept_still_stands(app: Application) -> None:
    counted = Counted(app)
    store = app.api._idempotency
    assert isinstance(store, KeptInMemory)

    async def fail(*_: Any) -> None:
        raise DatabaseUnavailable("Gone.")

    store.complete = fail  # type: ignore[assignment,method-assign]
    assert (await create(app, "a"))[0] == 201
    assert (await create(app, "a"))[0] == 409
    assert counted.times == 1
