"""What a route says about itself: plain values, read by the server and by the document alike."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Required, TypedDict

from pydantic import BaseModel

from troupe.common.units import SECONDS
from troupe.http.principal import Access, Role

JSON_TYPE: Final = "application/json"
FORM_TYPE: Final = "application/x-www-form-urlencoded"
REQUEST_DEADLINE: Final = 30 * SECONDS

_VARIABLE: Final = re.compile(
    r"<(?:(?P<converter>\w+)(?:\((?P<arguments>[^)]*)\))?:)?(?P<name>\w+)>"
)

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Handler = Callable[..., Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Media:
    """A body that is not a JSON model.

    Attributes:
        content_type: ``text/html``, ``text/event-stream``, …
        description: For the document.
        others: What else it may be, if whoever asks may choose; such bodies are files.
    """

    content_type: str
    description: str = ""
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A body with more to say than itself.

    Attributes:
        body: A model, or what the declared model is validated from, or bytes that were written from
            it before (a cached answer); None for an empty answer.
        status: One of the statuses that the route declares.
        headers: Beside those that every answer has.
        etag: Entity tag, unquoted; a GET whose ``If-None-Match`` names it is answered 304.
    """

    body: object = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """A body that is a file: it is streamed to the handler's `upload`, see `troupe.http.uploads`.

    Attributes:
        content_types: In which it may be sent.
        most: Bytes; more is answered 413.
    """

    content_types: tuple[str, ...]
    most: int


Answers = Mapping[int, type[BaseModel] | Media | None]


class Declaration(TypedDict, total=False):
    """What `Api.get` and its siblings take beside the rule.

    Attributes:
        requires: The least role, or `Access`.
        answers: Status to model, `Media`, or None for no body; nothing else is ever answered but
            problems.
        summary: One line for people.
        query: Model of the query parameters; without it any parameter is refused.
        body: Model of the request's body.
        form: The body is an URL-encoded form instead of JSON.
        upload: The body is a file; the rule must have no variables.
        scope: What a token needs; ``<group>:read`` or ``<group>:write`` by default.
        problems: Statuses of problems beside those that follow from the declaration.
        creates: Honour ``Idempotency-Key``.
        etag: Answers carry an entity tag, so 304 is possible.
        if_match: The handler calls `conventions.require_match`.
        deadline: Seconds for everything until the answer begins, then 504; None for no deadline.
            A streamed body has none in any case.
        counted: Whether the route counts against rates and appears in the log at its usual level;
            False for what machines ask every few seconds.
        tag: Heading in the documentation; the group by default.
        endpoint: Name, unique in the application; the function's name by default.
    """

    requires: Required[Role | Access]
    answers: Required[Answers]
    summary: Required[str]
    query: type[BaseModel]
    body: type[BaseModel]
    form: bool
    upload: Upload
    scope: str
    problems: Sequence[int]
    creates: bool
    etag: bool
    if_match: bool
    deadline: float | None
    counted: bool
    tag: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class PathVariable:
    """A variable of the path, as ``<uuid:job_id>`` writes it."""

    name: str
    converter: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One declared route; the fields mean what `Declaration` says."""

    method: Method
    rule: str
    endpoint: str
    handler: Handler
    summary: str
    description: str
    requires: Role | Access
    scope: str
    query: type[BaseModel] | None
    body: type[BaseModel] | None
    form: bool
    upload: Upload | None
    answers: Answers
    problems: frozenset[int]
    variables: tuple[PathVariable, ...]
    tag: str
    creates: bool
    etag: bool
    if_match: bool
    deadline: float | None
    counted: bool

    @property
    def path(self) -> str:
        """The rule as OpenAPI writes it: ``/api/v1/jobs/{job_id}``."""
        return _VARIABLE.sub(lambda match: "{" + match["name"] + "}", self.rule)

    @property
    def is_public(self) -> bool:
        """Whether nobody is asked who they are."""
        return self.requires is Access.PUBLIC

    @property
    def usual_status(self) -> int:
        """What is answered when the handler returns a bare body."""
        return min(status for status in self.answers if status < 400)


def variables_of(rule: str) -> tuple[PathVariable, ...]:
    """The variables of a rule, in order."""
    variables = []
    for match in _VARIABLE.finditer(rule):
        converter = match["converter"] or "string"
        choices = tuple(
            choice.strip().strip("'\"") for choice in (match["arguments"] or "").split(",")
        )
        variables.append(
            PathVariable(match["name"], converter, choices if converter == "any" else ())
        )
    return tuple(variables)
