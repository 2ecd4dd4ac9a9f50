"""Function calls: the table of GoogleSQL's functions and how a call reads its arguments.

A function exists here because somebody has compared it with BigQuery's reference evaluator. Any
other name is refused by name; there is no fall-back to a DuckDB function that happens to be called
the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from sqlglot import exp

from troupe_demo.bigquery.errors import BigQueryError
from troupe_demo.bigquery.sql.compilation import (
    compile_expression,
    compiles,
    constant,
    invalid,
    only,
    refusal,
)
from troupe_demo.bigquery.sql.expressions import (
    Expression,
    coerce,
    coercible,
    expand,
)
from troupe_demo.bigquery.sql.scalars import no_signature, unify
from troupe_demo.bigquery.sql.scopes import Scope
from troupe_demo.bigquery.types import Kind, Type


@dataclass(frozen=True)
class Call:
    """One function call."""

    name: str
    node: exp.Expr
    nodes: list[exp.Expr]
    scope: Scope

    def __len__(self) -> int:
        return len(self.nodes)

    @cached_property
    def arguments(self) -> list[Expression]:
        """All arguments, compiled."""
        return [compile_expression(node, self.scope) for node in self.nodes]

    def argument(self, index: int, type_: Type) -> Expression:
        """An argument as ``type_``.

        Raises:
            BigQueryError: It is missing or does not coerce.
        """
        if index >= len(self.nodes):
            raise self.mismatch()
        value = compile_expression(self.nodes[index], self.scope)
        if not coercible(value, type_):
            raise self.mismatch()
        return coerce(value, type_)

    def constant(self, index: int, kind: Kind, what: str) -> Any:
        """The value of an argument that must be known while compiling."""
        if index >= len(self.nodes):
            raise self.mismatch()
        return constant(self.nodes[index], self.scope, kind, what)

    def unified(self) -> tuple[Type, list[Expression]]:
        """All arguments in the type they have in common."""
        return unify(self.arguments, f"function {self.name}", self.node, self.scope)

    def take(self, least: int, most: int | None = None) -> None:
        """Refuse another number of arguments."""
        if not least <= len(self.nodes) <= (least if most is None else most):
            raise self.mismatch()

    def mismatch(self) -> Exception:
        """BigQuery's complaint about the arguments."""
        types: list[Type | str] = []
        for node in self.nodes:
            try:
                types.append(compile_expression(node, self.scope).type)
            except BigQueryError:  # a date part or an interval: no value
                types.append(node.sql("bigquery"))
        return no_signature(f"function {self.name}", types, self.node, self.scope)

    def refuse(self, construct: str) -> BigQueryError:
        """What to raise for a use of the function that the stand-in does not support."""
        return refusal(construct, self.node, self.scope)


Implementation = Callable[[Call], Expression]
FUNCTIONS: Final[dict[str, Implementation]] = {}


def function(*names: str) -> Callable[[Implementation], Implementation]:
    """Register the implementation of a function under its names."""

    def register(implementation: Implementation) -> Implementation:
        FUNCTIONS.update(dict.fromkeys(names, implementation))
        return implementation

    return register


def single_signature(
    takes: tuple[Type, ...], gives: Type, template: str, *, fallible: bool = False
) -> Implementation:
    """A function with one signature, whose DuckDB text is a template."""

    def implementation(call: Call) -> Expression:
        call.take(len(takes))
        values = [call.argument(i, type_) for i, type_ in enumerate(takes)]
        return expand(template.format, gives, *values, fallible=fallible)

    return implementation


def simple(
    name: str, takes: tuple[Type, ...], gives: Type, template: str, *, fallible: bool = False
) -> None:
    """Register a function with one signature."""
    FUNCTIONS[name] = single_signature(takes, gives, template, fallible=fallible)


@compiles(exp.Anonymous)
def _call(node: exp.Anonymous, scope: Scope) -> Expression:
    only(node, scope, "this", "expressions")
    name = node.name.upper()
    implementation = FUNCTIONS.get(name)
    if implementation is None:
        raise invalid(
            f"Function not found: {node.name} (or the stand-in does not support it)", node, scope
        )
    return implementation(Call(name, node, node.expressions, scope))


@compiles(exp.SafeFunc)
def _safe_call(node: exp.SafeFunc, scope: Scope) -> Expression:
    inner = node.this
    if not isinstance(inner, exp.Anonymous):
        raise refusal(f"SAFE.{inner.sql('bigquery')[:40]}", node, scope)
    call = Call(inner.name.upper(), inner, inner.expressions, scope)
    safe = SAFE_FUNCTIONS.get(call.name)
    if safe is not None:
        return safe(call)
    value = compile_expression(inner, scope)
    if value.fallible:
        raise refusal(f"SAFE.{call.name}", node, scope)
    return value


# SAFE.f must give NULL where f fails, but must not swallow a refusal or the failure of an argument;
# DuckDB's TRY would do both. So it exists for the functions that have a variant for it.
SAFE_FUNCTIONS: Final[dict[str, Implementation]] = {}
