"""``/openapi.json`` (OpenAPI 3.1), written from the declarations that the server itself obeys.

Which problems a route can answer follows from what it declares: credentials bring 401 and 403, a
variable in the path brings 404, a body brings 400, 408, 413 and 415, anything to validate brings
422, ``creates`` brings 409, ``if_match`` brings 412 and 428; 429, 431, 500, 503 and 504 can
always happen. ``x-troupe-requires`` and ``x-troupe-scope`` say who may call, so that a test can
derive the matrix of roles from the document alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from troupe.http.declaration import FORM_TYPE, JSON_TYPE, Media, PathVariable, Route
from troupe.http.idempotency import KEY_HEADER, MAX_KEY_CHARACTERS
from troupe.http.principal import CSRF_HEADER, SESSION_COOKIE, TENANT_HEADER, Role
from troupe.http.problems import MEDIA_TYPE as PROBLEM_TYPE
from troupe.http.problems import TYPE_PREFIX, kind_of_status
from troupe.http.security import SAFE_METHODS

Json = dict[str, Any]

_REFERENCE: Final = "#/components/schemas/{model}"
_ALWAYS: Final = frozenset({429, 431, 500, 503, 504})
_PROBLEM: Final[Json] = {
    "type": "object",
    "description": "RFC 9457. Compare `type`; show `detail`.",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        "type": {"type": "string", "examples": [TYPE_PREFIX + "not-found"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "message"],
                "properties": {
                    "pointer": {
                        "type": "string",
                        "description": "JSON pointer into the body, `?name` for a query parameter,"
                        " `header:name` for a header",
                    },
                    "message": {"type": "string"},
                },
            },
        },
    },
}
_VARIABLE_SCHEMAS: Final[Mapping[str, Json]] = {
    "uuid": {"type": "string", "format": "uuid"},
    "int": {"type": "integer", "minimum": 0},
    "float": {"type": "number"},
}


def problem_statuses(route: Route) -> frozenset[int]:
    """Every problem that the route can answer."""
    statuses = set(_ALWAYS | route.problems)
    if not route.is_public:
        statuses |= {401, 403, 422}  # 422: X-Tenant-Id is not a UUID
    if route.variables:
        statuses.add(404)
    if route.body is not None or route.upload is not None:
        statuses |= {400, 408, 413, 415}
    statuses.add(422)  # an unknown query parameter is refused everywhere
    if route.creates:
        statuses.add(409)
    if route.if_match:
        statuses |= {412, 428}
    return frozenset(statuses)


def document(
    routes: Sequence[Route],
    *,
    title: str,
    version: str,
    description: str,
    session_cookie: str = SESSION_COOKIE,
) -> Json:
    """The OpenAPI document of one application.

    Args:
        routes: All its declarations.
        title: Of the application.
        version: Of the program.
        description: Markdown, for people.
        session_cookie: Name of the cookie that carries a session.
    """
    schemas, definitions = _schemas(routes)
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(
            route, schemas, definitions
        )
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": {
            "schemas": {"Problem": _PROBLEM, **definitions},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": f"Acts in its own tenant; {TENANT_HEADER} chooses among the"
                    " tenants that the caller belongs to.",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": session_cookie,
                    "description": f"A browser's session. Unsafe methods also need {CSRF_HEADER}.",
                },
                "csrf": {"type": "apiKey", "in": "header", "name": CSRF_HEADER},
            },
        },
    }


_Key = tuple[type[BaseModel], JsonSchemaMode]


def _schemas(routes: Iterable[Route]) -> tuple[dict[_Key, Json], dict[str, Json]]:
    wanted: dict[_Key, None] = {}
    for route in routes:
        for model in (route.query, route.body):
            if model is not None:
                wanted[(model, "validation")] = None
        for answer in route.answers.values():
            if isinstance(answer, type):
                wanted[(answer, "serialization")] = None
    references, definitions = models_json_schema(list(wanted), ref_template=_REFERENCE)
    found = {cast("_Key", key): schema for key, schema in references.items()}
    return found, definitions.get("$defs", {})


def _operation(route: Route, schemas: Mapping[_Key, Json], definitions: Mapping[str, Json]) -> Json:
    operation: Json = {
        "operationId": route.endpoint,
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": _parameters(route, schemas, definitions),
        "responses": _responses(route, schemas),
        "security": _security(route),
        "x-troupe-requires": _requirement(route),
    }
    if route.description:
        operation["description"] = route.description
    if not route.is_public:
        operation["x-troupe-scope"] = route.scope
    if route.body is not None:
        media = FORM_TYPE if route.form else JSON_TYPE
        operation["requestBody"] = {
            "required": True,
            "content": {media: {"schema": schemas[(route.body, "validation")]}},
        }
    if route.upload is not None:
        operation["requestBody"] = {
            "required": True,
            "description": f"A file of at most {route.upload.most} bytes.",
            "content": {media: {} for media in route.upload.content_types},
        }
    return operation


def _requirement(route: Route) -> str:
    requires = route.requires
    return requires.label if isinstance(requires, Role) else requires.value


def _security(route: Route) -> list[Json]:
    if route.is_public:
        return []
    session: Json = {"session": []}
    if route.method not in SAFE_METHODS:
        session["csrf"] = []
    return [{"bearer": []}, session]


def _parameters(
    route: Route, schemas: Mapping[_Key, Json], definitions: Mapping[str, Json]
) -> list[Json]:
    parameters = [
        {
            "name": variable.name,
            "in": "path",
            "required": True,
            "schema": _variable_schema(variable),
        }
        for variable in route.variables
    ]
    if route.query is not None:
        schema = _resolved(schemas[(route.query, "validation")], definitions)
        required = schema.get("required", ())
        for name, property_schema in schema.get("properties", {}).items():
            parameters.append(_query_parameter(name, property_schema, required=name in required))
    if not route.is_public:
        parameters.append(_header(TENANT_HEADER, {"type": "string", "format": "uuid"}))
    if route.creates:
        key = {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARACTERS}
        parameters.append(_header(KEY_HEADER, key))
    if route.etag:
        parameters.append(_header("If-None-Match", {"type": "string"}))
    if route.if_match:
        parameters.append(_header("If-Match", {"type": "string"}, required=True))
    return parameters


def _query_parameter(name: str, schema: Json, *, required: bool) -> Json:
    schema = dict(schema)
    description = schema.pop("description", None)
    parameter: Json = {"name": name, "in": "query", "required": required}
    if description:
        parameter["description"] = description
    options = schema.get("anyOf")
    if options and {"type": "null"} in options:  # absence is how a query says null
        rest = [option for option in options if option != {"type": "null"}]
        schema.pop("anyOf")
        if schema.get("default", ...) is None:
            schema.pop("default")
        schema |= rest[0] if len(rest) == 1 else {"anyOf": rest}
    parameter["schema"] = schema
    return parameter


def _variable_schema(variable: PathVariable) -> Json:
    if variable.choices:
        return {"type": "string", "enum": list(variable.choices)}
    return dict(_VARIABLE_SCHEMAS.get(variable.converter, {"type": "string", "minLength": 1}))


def _header(name: str, schema: Json, *, required: bool = False) -> Json:
    return {"name": name, "in": "header", "required": required, "schema": schema}


def _resolved(schema: Json, definitions: Mapping[str, Json]) -> Json:
    reference = schema.get("$ref")
    return definitions[reference.rsplit("/", 1)[-1]] if reference else schema


def _responses(route: Route, schemas: Mapping[_Key, Json]) -> Json:
    responses: Json = {}
    for status, answer in route.answers.items():
        response: Json = {"description": "Done" if status < 300 else "See the headers"}
        if isinstance(answer, Media):
            response["description"] = answer.description or response["description"]
            # A schema of an event stream would be about its events, not about its text.
            is_text = not answer.content_type.startswith("text/event-stream") and not answer.others
            response["content"] = {
                answer.content_type: {"schema": {"type": "string"}} if is_text else {},
                **{other: {} for other in answer.others},
            }
        elif answer is not None:
            response["content"] = {JSON_TYPE: {"schema": schemas[(answer, "serialization")]}}
        if route.etag and status == 200:
            response["headers"] = {"ETag": {"schema": {"type": "string"}}}
        responses[str(status)] = response
    if route.etag:
        responses["304"] = {"description": "Not modified since the ETag in If-None-Match"}
    for status in sorted(problem_statuses(route) - route.answers.keys()):
        responses[str(status)] = {
            "description": kind_of_status(status).title,
            "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    return responses
