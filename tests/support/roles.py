"""The walker of routes: reads an OpenAPI document and tries every operation as everybody.

It knows no route by name. What a route requires stands in the document (``x-troupe-requires``,
``x-troupe-scope``); the walker compares that with what the server does, and with `LEAST`, a
reviewed list of rules that says what a route of such a method and path may ask for at least. So a
new route is tested without anyone thinking of it, and one that is declared too openly is found out
even though the server obeys its declaration.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

ROLES: Final = ("viewer", "analyst", "admin", "owner")
RANK: Final = {"public": -2, "signed_in": -1, **{role: rank for rank, role in enumerate(ROLES)}}
METHODS: Final = ("get", "post", "put", "patch", "delete")

LEAST: Final[tuple[tuple[str, str, str], ...]] = (
    # What everybody may see: operations, login, our own pages and what belongs to them.
    ("GET", r"/(health/(live|ready)|metrics|openapi\.json|docs)", "public"),
    ("GET", r"/(static/.*)?|/favicon\.ico|/robots\.txt", "public"),
    ("GET", r"/api/v1/(login|callback)(/.*)?", "public"),
    ("GET|POST", r"/api/v1/(logout|backchannel-logout)", "public"),
    ("GET", r"/(?!api/)[a-z/-]*", "public"),  # pages, which ask the API for what they show
    # Whoever has the link of a mail may end it.
    ("GET|POST", r"/api/v1/reports/unsubscribe", "public"),
    # What anybody may do with themselves.
    ("GET", r"/api/v1/(me|validate|tenants|sessions)(/\{session_id\})?", "signed_in"),
    ("DELETE|POST|PUT|PATCH", r"/api/v1/(me|sessions|tokens)(/.*)?", "signed_in"),
    # How a tenant is run.
    ("GET", r"/api/v1/tenants/\{tenant_id\}/(connections|audit|providers|invitations).*", "admin"),
    ("GET", r"/api/v1/tenants/\{tenant_id\}/.*", "viewer"),
    ("POST|PUT|PATCH|DELETE", r"/api/v1/tenants/.*/(export|deactivate)", "owner"),
    ("POST|PUT|PATCH|DELETE", r"/api/v1/tenants/.*", "admin"),
    # Everything else: to look takes a role, to change one that may.
    ("GET", r"/.*", "viewer"),
    ("POST|PUT|PATCH|DELETE", r"/.*", "analyst"),
)
"""Reviewed: method, path and the least that may be required; the first row that fits counts."""


@dataclass(frozen=True)
class Operation:
    """One operation of a document."""

    group: str
    method: str
    path: str
    requires: str
    scope: str | None
    told: Mapping[str, Any]
    document: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.group} {self.method} {self.path}"

    @property
    def is_public(self) -> bool:
        return not self.told.get("security")

    @property
    def variables(self) -> dict[str, Mapping[str, Any]]:
        return {
            parameter["name"]: parameter["schema"]
            for parameter in self.told.get("parameters", ())
            if parameter["in"] == "path"
        }

    def at(self, values: Mapping[str, object]) -> str:
        """The path with its variables filled in: from `values`, else with something plausible."""
        path = self.path
        for name, schema in self.variables.items():
            value = values.get(name, schema.get("enum", [None])[0])
            if value is None:
                value = uuid4() if schema.get("format") == "uuid" else "1"
            path = path.replace(f"{{{name}}}", str(value))
        return path

    @property
    def body(self) -> Any:
        """The smallest body that the document calls valid; None: it takes none."""
        content = self.told.get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema")
        return None if schema is None else smallest(schema, self.document)

    @property
    def takes_json(self) -> bool:
        return "application/json" in self.told.get("requestBody", {}).get("content", {})


def operations(group: str, document: Mapping[str, Any]) -> Iterator[Operation]:
    """Every operation of a document."""
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods:
                told = methods[method]
                yield Operation(
                    group,
                    method.upper(),
                    path,
                    told.get("x-troupe-requires", "missing"),
                    told.get("x-troupe-scope"),
                    told,
                    document,
                )


def smallest(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Any:
    """The smallest value that a JSON schema takes, as far as our documents use schemas."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return smallest(document["components"]["schemas"][name], document)
    options = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if options:
        return smallest(options[0], document)
    if schema.get("type") == "object":
        needed = schema.get("required", ())
        return {name: smallest(schema["properties"][name], document) for name in needed}
    if schema.get("type") == "array":
        return [smallest(schema["items"], document)] * schema.get("minItems", 0)
    return _scalar(schema)


def _scalar(schema: Mapping[str, Any]) -> Any:
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    least_number = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
    by_type = {"integer": least_number, "number": least_number, "boolean": False, "null": None}
    by_format = {"uuid": str(uuid4()), "date": "2026-01-01", "date-time": "2026-01-01T00:00:00Z"}
    if schema.get("type") in by_type:
        return by_type[schema["type"]]
    return by_format.get(schema.get("format", ""), "x" * max(1, schema.get("minLength", 1)))


def least(operation: Operation) -> str:
    """What the reviewed rules demand of an operation."""
    for methods, path, role in LEAST:
        if re.fullmatch(methods, operation.method) and re.fullmatch(path, operation.path):
            return role
    return "owner"


@dataclass(frozen=True)
class Reply:
    """What was answered: the status, and the detail of a problem."""

    status: int
    detail: str = ""


Send = Callable[[Operation, str, Mapping[str, str], Any], Awaitable[Reply]]
"""Operation, path, headers, JSON body."""
Session = Callable[[str], Awaitable[Mapping[str, str]]]
"""Role to the headers of a fresh session."""
Token = Callable[[str, str], Awaitable[Mapping[str, str]]]
"""Role and scope to the headers of a token."""


def declarations(every: Iterable[Operation]) -> list[str]:
    """What is wrong with the declarations alone."""
    found = []
    for operation in every:
        if operation.requires not in RANK:
            found.append(f"{operation.name}: requires {operation.requires}, which nobody has")
        elif RANK[operation.requires] < RANK[least(operation)]:
            found.append(
                f"{operation.name}: requires {operation.requires}, must be {least(operation)}"
            )
        elif operation.is_public != (operation.requires == "public"):
            found.append(f"{operation.name}: public for the one and not for the other")
    return found


async def matrix(
    every: Iterable[Operation],
    send: Send,
    session: Session,
    token: Token,
    values: Mapping[str, object],
) -> tuple[list[str], int]:
    """Every operation without credentials, with false ones, as every role and with every scope.

    Args:
        every: The operations.
        send: Sends one request.
        session: Makes sessions in one tenant.
        token: Makes tokens there.
        values: Of variables of paths, in that tenant.

    Returns:
        Sentences about what is wrong, and how many requests were sent.
    """
    found: list[str] = []
    count = 0

    async def ask(operation: Operation, headers: Mapping[str, str]) -> Reply:
        nonlocal count
        count += 1
        # An empty body: whoever is let in is refused for it, and nothing happens.
        return await send(
            operation, operation.at(values), headers, {} if operation.takes_json else None
        )

    for operation in every:
        if operation.is_public:
            continue
        for told, headers in (
            ("without credentials", {}),
            ("with a false token", {"Authorization": "Bearer trp_false"}),
            ("with a false cookie", {"Cookie": "troupe_session=false"}),
        ):
            reply = await ask(operation, headers)
            if reply.status != 401:
                found.append(f"{operation.name}: {reply.status} {told}")
        for role in ROLES:
            reply = await ask(operation, await session(role))
            allowed = RANK[role] >= RANK.get(operation.requires, len(ROLES))
            found += _about(operation, reply, f"as {role}", allowed=allowed)
        if operation.requires == "signed_in":
            continue
        for scope in ("auth:read", "auth:write", "data:read", "data:write", "analytics:read"):
            reply = await ask(operation, await token("owner", scope))
            allowed = scope == operation.scope
            found += _about(operation, reply, f"with the scope {scope}", allowed=allowed)
    return found, count


def _about(operation: Operation, reply: Reply, who: str, *, allowed: bool) -> list[str]:
    refused = reply.status == 403 and reply.detail.startswith(
        ("This needs the role", "The token lacks the scope")
    )
    if allowed and (refused or reply.status == 401):
        return [f"{operation.name}: {reply.status} {who}, who may: {reply.detail}"]
    if not allowed and reply.status != 403:
        return [f"{operation.name}: {reply.status} {who}, who may not"]
    if reply.status == 500:
        return [f"{operation.name}: 500 {who}"]
    return []


async def across(
    every: Iterable[Operation],
    send: Send,
    session: Session,
    own: Mapping[str, object],
    others: Mapping[str, object],
) -> tuple[list[str], int]:
    """Every operation as an owner of one tenant, on what belongs to another.

    Args:
        every: The operations.
        send: Sends one request.
        session: Makes sessions in the one tenant.
        own: Values of variables of paths in the one.
        others: The same in the other; ``tenant_id`` among them.

    Returns:
        Sentences about what is wrong, and how many requests were sent.
    """
    found: list[str] = []
    count = 0
    for operation in every:
        if operation.is_public:
            continue
        headers = await session("owner")
        reply = await send(
            operation,
            operation.at(own),
            {**headers, "X-Tenant-Id": str(others["tenant_id"])},
            operation.body,
        )
        count += 1
        if reply.status != 403:
            found.append(f"{operation.name}: {reply.status} when X-Tenant-Id names another tenant")
        if not operation.variables:
            continue
        # One foreign value at a time, and all of them at once.
        chosen = [name for name in operation.variables if name in others]
        for foreign in [*([name] for name in chosen), chosen]:
            values = {**own, **{name: others[name] for name in foreign}}
            reply = await send(
                operation,
                operation.at(values),
                {**(await session("owner")), "If-Match": "*"},
                operation.body,
            )
            count += 1
            if foreign and (reply.status < 400 or reply.status >= 500):
                found.append(
                    f"{operation.name}: {reply.status} on {', '.join(foreign)} of another tenant"
                )
    return found, count
