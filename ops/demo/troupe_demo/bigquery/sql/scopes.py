"""Names: what a query can see, and what a path of names means.

GoogleSQL's order, as its reference analyzer resolves it: a SELECT alias where aliases are visible
(GROUP BY, HAVING, QUALIFY, ORDER BY), then a range variable, then a column, then the enclosing
query. Columns are found in any case; a name that two range variables offer is ambiguous.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sqlglot import exp

from troupe_demo.bigquery.errors import BigQueryError
from troupe_demo.bigquery.sql.dialect import position
from troupe_demo.bigquery.sql.expressions import Expression, Leaf, combine, text
from troupe_demo.bigquery.types import Field, Kind, Type, field_names, struct_of

if TYPE_CHECKING:
    from troupe_demo.bigquery.sql.compilation import Compilation, CompiledQuery


@dataclass(frozen=True, slots=True)
class Column:
    """A column that a range variable offers; without a name it can only be reached by ``*``.

    ``problem`` says why the column cannot be read, if so (its type differs between tables).
    """

    name: str | None
    expression: Expression
    problem: str | None = None

    def read(self) -> Expression:
        """The column's value.

        Raises:
            BigQueryError: It cannot be read.
        """
        if self.problem is not None:
            raise BigQueryError.query_failed(self.problem)
        return self.expression


@dataclass(frozen=True, slots=True)
class RangeVariable:
    """A name in FROM.

    Attributes:
        name: The alias, or None.
        columns: What ``*`` expands to and what can be named.
        value: The row as one value where it has one (an element of an array).
        hidden: Pseudo-columns, by upper-case name.
    """

    name: str | None
    columns: tuple[Column, ...]
    value: Expression | None = None
    hidden: Mapping[str, Expression] = field(default_factory=dict)

    def column(self, name: str) -> Expression | None:
        """The column or pseudo-column of that name."""
        matches = [c for c in self.columns if (c.name or "").lower() == name.lower()]
        if len(matches) > 1:
            raise BigQueryError.invalid_query(f"Column name {name} is ambiguous")
        return matches[0].read() if matches else self.hidden.get(name.upper())

    def row(self) -> Expression:
        """The row as one value."""
        if self.value is not None:
            return self.value
        names = [c.name or "" for c in self.columns]
        type_ = struct_of(
            [Field(n, c.expression.type) for n, c in zip(names, self.columns, strict=True)]
        )
        return struct_expression(type_, [c.read() for c in self.columns])


def struct_expression(type_: Type, values: list[Expression]) -> Expression:
    """A struct built from its fields' values.

    Raises:
        BigQueryError: Two fields share a name, which DuckDB's structs cannot hold.
    """
    names = field_names(type_)
    if len({name.lower() for name in names}) < len(names):
        message = "The stand-in does not support structs whose field names repeat"
        raise BigQueryError.invalid_query(message)
    pairs = zip(names, values, strict=True)
    return combine("{" + ", ".join(f"{text(n)}: {v.sql}" for n, v in pairs) + "}", type_, *values)


@dataclass(frozen=True, slots=True)
class Elements:
    """The array that a subquery runs over, once filtered, as its aggregates see it.

    ``items`` is a DuckDB list, ``parameter`` the name that lambdas over it give an element.
    """

    items: str
    parameter: str


@dataclass(slots=True)
class Scope:
    """The names visible at one place of a query.

    Attributes:
        compilation: What the whole query shares.
        parent: The enclosing query's names, or None.
        tables: Common table expressions by lower-case name, those of enclosing queries included.
        variables: The range variables of FROM so far.
        merged: Columns that JOIN … USING made one, by lower-case name.
        absorbed: The columns that were merged: place of the range variable, lower-case name.
        aliases: SELECT aliases, by lower-case name, once they are visible.
        ambiguous: Those of them that name two things.
        lambda_depth: How many DuckDB lambdas surround the place.
        elements: Set in a subquery over one array, for its aggregates.
        hoisted: Expressions computed beside the rows of FROM; see ``hoist``.
    """

    compilation: "Compilation"
    parent: "Scope | None" = None
    tables: dict[str, "CompiledQuery"] = field(default_factory=dict)
    variables: list[RangeVariable] = field(default_factory=list)
    merged: dict[str, Expression] = field(default_factory=dict)
    absorbed: set[tuple[int, str]] = field(default_factory=set)
    aliases: dict[str, Expression] = field(default_factory=dict)
    ambiguous: frozenset[str] = frozenset()
    lambda_depth: int = 0
    elements: Elements | None = None
    hoisted: dict[str, str] = field(default_factory=dict)

    def hoist(self, expression: Expression) -> Expression:
        """The expression as a column beside the rows, if it can fail.

        DuckDB's ``error()`` is volatile, and DuckDB wants nothing volatile in an OVER clause.
        """
        if not expression.fallible:
            return expression
        column = self.hoisted.setdefault(expression.sql, f"h{len(self.hoisted)}")
        return replace(expression, sql=f"hoisted.{column}", fallible=False)

    def hoisted_sql(self) -> str:
        """The join that computes what was hoisted; empty for nothing."""
        if not self.hoisted:
            return ""
        # Unnesting a list of one is a projection to DuckDB; a plain LATERAL would be a join.
        columns = ", ".join(f"unnest([{sql}]) AS {name}" for sql, name in self.hoisted.items())
        return f" CROSS JOIN LATERAL (SELECT {columns}) AS hoisted"

    def child(self) -> "Scope":
        """A scope for a query inside this one."""
        return Scope(
            self.compilation,
            parent=self,
            tables=dict(self.tables),
            lambda_depth=self.lambda_depth,
        )

    def merge(self, name: str, value: Expression) -> None:
        """Let USING make one column of all that have this name."""
        self.merged[name.lower()] = value.named(name)
        for place, variable in enumerate(self.variables):
            if any((c.name or "").lower() == name.lower() for c in variable.columns):
                self.absorbed.add((place, name.lower()))

    def star(self) -> list[tuple[str | None, Expression]]:
        """What ``*`` expands to: merged columns, then all others in the order of FROM."""
        merged = [(value.name, value) for value in self.merged.values()]
        others = [
            (column.name, column.read())
            for place, variable in enumerate(self.variables)
            for column in variable.columns
            if (place, (column.name or "").lower()) not in self.absorbed
        ]
        return merged + others

    def find(self, name: str) -> RangeVariable | Expression | None:
        """What one name means here or further out.

        Raises:
            BigQueryError: It means several things.
        """
        lowered = name.lower()
        if lowered in self.ambiguous:
            raise BigQueryError.invalid_query(f"Name {name} is ambiguous")
        if lowered in self.aliases:
            return self.aliases[lowered]
        for variable in self.variables:
            if variable.name is not None and variable.name.lower() == lowered:
                return variable
        found = [
            column
            for place, variable in enumerate(self.variables)
            if (place, lowered) not in self.absorbed
            and (column := variable.column(name)) is not None
        ]
        if lowered in self.merged:
            found.append(self.merged[lowered])
        if len(found) > 1:
            raise BigQueryError.invalid_query(f"Column name {name} is ambiguous")
        if found:
            return found[0].named(name)
        return self.parent.find(name) if self.parent is not None else None

    def resolve(self, path: list[exp.Identifier]) -> Expression:
        """What a dotted path of names means.

        Raises:
            BigQueryError: Nothing, or more than one thing.
        """
        head, rest = path[0], path[1:]
        sql = self.compilation.sql
        try:
            found = self.find(head.name)
        except BigQueryError as error:
            if error.location is None or not error.message.endswith("[1:1]"):
                raise
            message = error.message.removesuffix(" at [1:1]")
            raise BigQueryError.invalid_query(message, position(head, sql)) from None
        if found is None:
            message = f"Unrecognized name: {head.name}"
            raise BigQueryError.invalid_query(message, position(head, sql))
        if isinstance(found, RangeVariable):
            found, rest = self._of_variable(found, head, rest)
        for step in rest:
            found = get_field(found, step, sql)
        return found

    def _of_variable(
        self, variable: RangeVariable, head: exp.Identifier, rest: list[exp.Identifier]
    ) -> tuple[Expression, list[exp.Identifier]]:
        if variable.value is not None or not rest:
            return variable.row().named(head.name), rest
        column = variable.column(rest[0].name)
        if column is None:
            message = f"Name {rest[0].name} not found inside {head.name}"
            place = position(rest[0], self.compilation.sql)
            raise BigQueryError.invalid_query(message, place)
        return column.named(rest[0].name), rest[1:]


def get_field(struct: Expression, step: exp.Identifier, sql: str) -> Expression:
    """A field of a struct; a stored path stays one, so that only the field's bytes are read.

    Raises:
        BigQueryError: The expression is no struct or has no such field.
    """
    if struct.type.kind is not Kind.STRUCT:
        message = f"Cannot access field {step.name} on a value with type {struct.type}"
        raise BigQueryError.invalid_query(message, position(step, sql))
    found = struct.type.field(step.name)
    if found is None:
        message = f"Field name {step.name} does not exist in {struct.type}"
        raise BigQueryError.invalid_query(message, position(step, sql))
    return select_field(struct, found).named(step.name)


def select_field(struct: Expression, wanted: Field) -> Expression:
    """The field ``wanted`` of a struct that has it."""
    names = field_names(struct.type)
    name = names[struct.type.fields.index(wanted)]
    access = f"struct_extract({struct.sql}, {text(name)})"
    if struct.origin is None:
        return replace(combine(access, wanted.type, struct), name=wanted.name or None)
    field = stored(access, wanted.type, struct.origin.table, (*struct.origin.path, wanted.name))
    others = struct.reads - {struct.origin}
    return replace(
        field,
        reads=field.reads | others,
        fallible=struct.fallible,
        relational=struct.relational,
    )


def stored(sql: str, type_: Type, table: int, path: tuple[str, ...]) -> Expression:
    """A value that is a stored path. An array is never NULL there; Parquet may hold one that is."""
    leaf = Leaf(table, path)
    access = f"coalesce({sql}, [])" if type_.kind is Kind.ARRAY else sql
    return Expression(access, type_, reads=frozenset({leaf}), origin=leaf, name=path[-1])
