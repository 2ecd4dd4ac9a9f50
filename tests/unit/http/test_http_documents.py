"""The document says what the program does, and the operator's routes say how it is."""

import json
from typing import Any
from uuid import UUID

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.http.sites import bearer, make_app
from troupe.http import operations
from troupe.http.application import Application, create_app
from troupe.http.conventions import AnswerModel, BodyModel, ChartQuery, ListAnswer, PageQuery
from troupe.http.declaration import Media
from troupe.http.docs_page import DOCS_POLICY
from troupe.http.operations import Gauge, Readiness
from troupe.http.principal import Access, Role
from troupe.http.request import DRAINING_EXTENSION


class NewThing(BodyModel):
    name: str
    """What people call it."""


class Thing(AnswerModel):
    id: UUID
    name: str


class ThingQuery(ChartQuery, PageQuery):
    needed: int
    """Must be given."""
    kind: tuple[str, ...] = ()


@pytest.fixture
def app() -> Application:
    app = make_app()

    @app.api.get(
        "/api/v1/things",
        requires=Role.VIEWER,
        query=ThingQuery,
        answers={200: ListAnswer[Thing]},
        etag=True,
        summary="All <things>",
    )
    async def things(*, query: ThingQuery) -> ListAnswer[Thing]:
        return ListAnswer[Thing](data=[], total=query.limit * 0)

    @app.api.post(
        "/api/v1/things",
        requires=Role.ADMIN,
        body=NewThing,
        answers={201: Thing},
        creates=True,
        summary="Make one",
    )
    async def make_thing(*, body: NewThing) -> Thing:
        return Thing(id=UUID(int=0), name=body.name)

    @app.api.patch(
        "/api/v1/things/<uuid:thing_id>/<any(up, down):way>",
        requires=Access.SIGNED_IN,
        answers={204: None},
        if_match=True,
        problems=[409],
        scope="things:move",
        summary="Move it",
    )
    async def move_thing(*, thing_id: UUID, way: str) -> None:
        """Longer text."""

    @app.api.get(
        "/page", requires=Access.PUBLIC, answers={200: Media("text/html"), 302: None}, summary="P"
    )
    async def page() -> str:
        return ""

    return app


async def read(app: Application, path: str, **options: Any) -> tuple[int, Any]:
    response = await app.test_client().get(path, **options)
    raw = await response.get_data()
    return response.status_code, raw


async def document_of(app: Application) -> Any:
    status, raw = await read(app, "/openapi.json")
    assert status == 200
    return json.loads(raw)


async def test_every_rule_of_the_application_is_in_the_document(app: Application) -> None:
    document = await document_of(app)
    written = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
    }
    served = {(route.method, route.path) for route in app.api.routes}
    assert written == served
    ruled = {
        (method, rule.endpoint)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert ruled == {(route.method, route.endpoint) for route in app.api.routes}


async def test_security_and_requirements(app: Application) -> None:
    paths = (await document_of(app))["paths"]
    listing, making = paths["/api/v1/things"]["get"], paths["/api/v1/things"]["post"]
    assert listing["security"] == [{"bearer": []}, {"session": []}]
    assert making["security"] == [{"bearer": []}, {"session": [], "csrf": []}]
    assert (listing["x-troupe-requires"], listing["x-troupe-scope"]) == ("viewer", "data:read")
    assert (making["x-troupe-requires"], making["x-troupe-scope"]) == ("admin", "data:write")
    moving = paths["/api/v1/things/{thing_id}/{way}"]["patch"]
    assert (moving["x-troupe-requires"], moving["x-troupe-scope"]) == ("signed_in", "things:move")
    assert moving["description"] == "Longer text."
    page = paths["/page"]["get"]
    assert (page["security"], page["x-troupe-requires"]) == ([], "public")
    assert "x-troupe-scope" not in page


async def test_statuses_follow_from_the_declaration(app: Application) -> None:
    paths = (await document_of(app))["paths"]

    def statuses(path: str, method: str) -> set[int]:
        return {int(status) for status in paths[path][method]["responses"]}

    always = {422, 429, 431, 500, 503, 504}
    assert statuses("/page", "get") == {200, 302} | always
    assert statuses("/api/v1/things", "get") == {200, 304, 401, 403} | always
    assert statuses("/api/v1/things", "post") == ({201, 400, 401, 403, 408, 409, 413, 415} | always)
    assert statuses("/api/v1/things/{thing_id}/{way}", "patch") == (
        {204, 401, 403, 404, 409, 412, 428} | always
    )


async def test_parameters_and_bodies(app: Application) -> None:
    document = await document_of(app)
    listing = document["paths"]["/api/v1/things"]["get"]
    parameters = {parameter["name"]: parameter for parameter in listing["parameters"]}
    assert parameters["needed"]["required"]
    assert parameters["needed"]["description"] == "Must be given."
    assert not parameters["limit"]["required"]
    assert parameters["limit"]["schema"]["maximum"] == 1000
    assert parameters["start_date"]["schema"]["format"] == "date"
    assert "default" not in parameters["start_date"]["schema"]
    assert parameters["kind"]["schema"]["type"] == "array"
    assert {"X-Tenant-Id", "If-None-Match"} <= parameters.keys()
    making = document["paths"]["/api/v1/things"]["post"]
    assert making["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/NewThing"
    }
    assert "Idempotency-Key" in {parameter["name"] for parameter in making["parameters"]}
    moving = document["paths"]["/api/v1/things/{thing_id}/{way}"]["patch"]
    variables = {parameter["name"]: parameter["schema"] for parameter in moving["parameters"]}
    assert variables["thing_id"] == {"type": "string", "format": "uuid"}
    assert variables["way"] == {"type": "string", "enum": ["up", "down"]}


async def test_every_reference_leads_somewhere(app: Application) -> None:
    document = await document_of(app)

    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*(references(value) for value in node.values()))
        return set().union(*map(references, node)) if isinstance(node, list) else set()

    schemas = document["components"]["schemas"]
    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas


async def test_the_page_is_self_contained(app: Application) -> None:
    response = await app.test_client().get("/docs")
    text = await response.get_data(as_text=True)
    assert response.headers["Content-Security-Policy"] == DOCS_POLICY
    assert "All &lt;things&gt;" in text
    assert "/api/v1/things/{thing_id}/{way}" in text
    for foreign in ("http://", "https://", "<script", "src=", "@import", "url("):
        assert foreign not in text


async def test_health() -> None:
    state = Readiness(ready=False, parts={"actors": {"bigquery": "starting"}})
    app = create_app("data", resolver=None, readiness=lambda: state)
    assert await read(app, "/health/live") == (200, b'{"status":"live","group":"data"}')
    status, raw = await read(app, "/health/ready")
    assert status == 503
    assert json.loads(raw) == {
        "status": "not_ready",
        "group": "data",
        "parts": {"actors": {"bigquery": "starting"}},
    }
    state = Readiness(ready=True)
    assert (await read(app, "/health/ready"))[0] == 200
    draining = trio.Event()
    draining.set()
    scope: Any = {"extensions": {DRAINING_EXTENSION: draining}}
    assert (await read(app, "/health/ready", scope_base=scope))[0] == 503
    assert (await read(app, "/health/live", scope_base=scope))[0] == 200


async def test_metrics_count_by_template_in_a_registry_of_their_own(app: Application) -> None:
    identifier = UUID(int=1)
    await read(app, f"/api/v1/things/{identifier}/up")
    await read(app, "/nowhere/" + "x" * 50)
    await read(app, "/api/v1/things?needed=1", headers=bearer("viewer"))
    client: Any = app.test_client()
    await client.open("/nowhere", method="BREW")
    _, raw = await read(app, "/metrics")
    samples = [
        sample
        for family in text_string_to_metric_families(raw.decode())
        for sample in family.samples
    ]
    assert str(identifier) not in raw.decode()
    counted = {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for sample in samples
        if sample.name == "troupe_http_requests_total"
    }
    assert counted[("GET", "/api/v1/things", "200")] == 1
    assert counted[("GET", "unmatched", "404")] == 1
    assert counted[("OTHER", "unmatched", "404")] == 1
    in_flight = [s.value for s in samples if s.name == "troupe_http_requests_in_flight"]
    assert in_flight == [1]
    _, other = await read(make_app(), "/metrics")
    assert b"/api/v1/things" not in other


async def test_a_group_shows_its_own_gauges() -> None:
    def gauges() -> list[Gauge]:
        return [
            Gauge("troupe_mailbox_messages", "Waiting.", 3, {"actor": "a"}),
            Gauge("troupe_mailbox_messages", "Waiting.", 4, {"actor": "b"}),
        ]

    app = create_app("data", resolver=None, gauges=gauges)
    _, raw = await read(app, "/metrics")
    assert b'troupe_mailbox_messages{actor="a",group="data"} 3.0' in raw
    assert b'troupe_mailbox_messages{actor="b",group="data"} 4.0' in raw


async def test_the_table_of_metrics_is_the_metrics(app: Application) -> None:
    _, raw = await read(app, "/metrics")
    shown = {family.name: family.type for family in text_string_to_metric_families(raw.decode())}
    for line in (operations.__doc__ or "").splitlines():
        if line.startswith("``troupe_http"):
            name, kind, *_ = line.replace("`", "").split()
            assert shown.pop(name.removesuffix("_total")) == kind
    assert not shown.keys() - {"troupe_http_requests", "troupe_http_request_seconds"}
