"""Between a handler and the wire: input is read and validated, output is written as declared."""

from collections.abc import Mapping
from functools import cache
from typing import Any, get_args, get_origin
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from quart import Response
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from troupe.common.errors import InvalidInput, NotFound
from troupe.http import exact_json
from troupe.http.conventions import is_unmodified
from troupe.http.declaration import FORM_TYPE, JSON_TYPE, Answer, Media, Route
from troupe.http.request import Request

MAX_FORM_FIELDS = 100


def check_path(path: Mapping[str, object]) -> None:
    """Refuse path variables that cannot be the name of anything.

    Raises:
        NotFound: One holds U+0000 or a lone surrogate.
    """
    if any(isinstance(value, str) and not exact_json.is_storable(value) for value in path.values()):
        raise NotFound("There is nothing at this address.")


def read_query(request: Request, model: type[BaseModel] | None) -> BaseModel | None:
    """Validate the query parameters.

    Raises:
        InvalidInput: Unknown, repeated or invalid parameters.
    """
    given: dict[str, object] = {}
    lists = _lists_of(model) if model is not None else frozenset[str]()
    for name, values in request.args.lists():
        if not all(exact_json.is_storable(value) for value in (name, *values)):
            raise _invalid_query("", "holds a character that cannot be stored")
        if name not in lists and len(values) > 1:
            raise _invalid_query(name, "is given twice")
        given[name] = values if name in lists else values[0]
    if model is None:
        if given:
            raise _invalid_query(next(iter(given)), "is not a parameter here")
        return None
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise InvalidInput("The query is not valid.", pointers_of(error, query=True)) from None


@cache
def _lists_of(model: type[BaseModel]) -> frozenset[str]:
    fields = model.model_fields.items()
    return frozenset(info.alias or name for name, info in fields if _takes_several(info.annotation))


def _takes_several(annotation: Any) -> bool:
    if get_origin(annotation) in {list, tuple, set, frozenset}:
        return True
    return any(_takes_several(part) for part in get_args(annotation) if part is not Ellipsis)


def _invalid_query(name: str, message: str) -> InvalidInput:
    return InvalidInput("The query is not valid.", [(f"?{name}", message)])


def read_body(request: Request, raw: bytes, model: type[BaseModel], *, form: bool) -> BaseModel:
    """Validate the request's body.

    Raises:
        UnsupportedMediaType: Not what the route reads.
        BadRequest: Not JSON.
        InvalidInput: Not the model.
    """
    expected = FORM_TYPE if form else JSON_TYPE
    if request.mimetype != expected:
        raise UnsupportedMediaType(f"Send the body as {expected}.")
    given = _read_form(raw) if form else _read_json(raw)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise InvalidInput("The body is not valid.", pointers_of(error, query=False)) from None


def _read_json(raw: bytes) -> Any:
    if not raw:
        raise BadRequest("The request needs a JSON body.")
    return exact_json.loads(raw)


def _read_form(raw: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            raw.decode("utf-8"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_FORM_FIELDS,
        )
    except ValueError as error:
        raise BadRequest("The body is not an URL-encoded form.") from error
    given = dict(pairs)
    if len(given) != len(pairs):
        raise InvalidInput("The form is not valid.", [("", "a field is given twice")])
    if not all(exact_json.is_storable(text) for pair in pairs for text in pair):
        raise InvalidInput("The form is not valid.", [("", "holds U+0000")])
    return given


def pointers_of(error: ValidationError, *, query: bool) -> list[tuple[str, str]]:
    """Pydantic's findings as pointers and sentences, without the values that were given."""
    pointers = []
    for finding in error.errors(include_url=False, include_context=False, include_input=False):
        location = finding["loc"]
        pointer = (
            f"?{location[0]}" if query and location else exact_json.pointer_to(tuple(location))
        )
        message = "is not known here" if finding["type"] == "extra_forbidden" else finding["msg"]
        pointers.append((pointer, message[:1].lower() + message[1:]))
    return pointers


def respond(route: Route, result: object) -> Response:
    """Turn what a handler returned into the answer it declared.

    Raises:
        LookupError: The route does not declare this status: a mistake of ours.
        TypeError: The body is not of the declared kind: a mistake of ours.
    """
    if isinstance(result, Response):
        if result.status_code not in route.answers and not (
            route.etag and result.status_code == 304
        ):
            raise LookupError(f"{route.rule} does not declare status {result.status_code}")
        return result
    if not isinstance(result, Answer):
        result = Answer(result, route.usual_status)
    if result.etag is not None and route.method == "GET" and is_unmodified(result.etag):
        result = Answer(None, 304, result.headers, result.etag)
    if result.status != 304 and result.status not in route.answers:
        raise LookupError(f"{route.rule} does not declare status {result.status}")
    response = _with_body(route, result)
    response.headers.update(result.headers)
    if result.etag is not None:
        response.set_etag(result.etag)
        response.headers.setdefault("Cache-Control", "private, no-cache")
    return response


def _with_body(route: Route, answer: Answer) -> Response:
    declared = None if answer.status == 304 else route.answers[answer.status]
    if declared is None:
        if answer.body is not None:
            raise TypeError(f"{route.rule} declares no body for {answer.status}")
        response = Response(b"", answer.status)
        response.headers.pop("Content-Type", None)
        return response
    if isinstance(declared, Media):
        if not isinstance(answer.body, str | bytes):
            raise TypeError(f"{route.rule} answers {declared.content_type}, as text or bytes")
        return Response(answer.body, answer.status, content_type=declared.content_type)
    body = answer.body
    if isinstance(body, bytes):
        return Response(body, answer.status, content_type=JSON_TYPE)
    if not isinstance(body, declared):
        body = declared.model_validate(body)
    return Response(exact_json.dumps(body), answer.status, content_type=JSON_TYPE)
