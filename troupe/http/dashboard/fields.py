"""What people may fill in, made of the models that check it.

A form that is written by hand forgets the setting that was added last, and says bounds that are not
those that hold. So a form's fields are read from the very model by which the API validates: its
names, types, defaults, bounds and explanations. What a model cannot know, what people call a field
and in which unit they count, is added as `Words`; a test sees that every field of every model has
some.

A field's name is its place in the request's body (``settings.cart_idle_hours``), so the script that
sends a form, and the pointers of an answer that refuses it, need no table of their own.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel

FieldKind = Literal["text", "number", "choice", "switch", "area"]

_DELIMITERS: Final[Mapping[str, str]] = {"\t": "Tab", ",": "Comma", ";": "Semicolon", "|": "Bar"}
_NONE: Final = re.compile(r"\bNone:")
_SHORT: Final = 12
"""Texts of at most so many characters get a narrow field."""


@dataclass(frozen=True, slots=True)
class Words:
    """What people call a field.

    Attributes:
        label: In one to three words.
        unit: What a number counts; behind the field.
        wrong: What to say of a text that has not the form it should have.
        choices: What people call the values, where that is not what the model calls them.
        advanced: Whether hardly anybody needs it.
    """

    label: str
    unit: str = ""
    wrong: str = ""
    choices: Mapping[str, str] | None = None
    advanced: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    """One thing to fill in.

    Attributes:
        name: Its place in the request's body, with dots.
        words: What people call it.
        help: What it means, in a sentence.
        kind: How it is filled in.
        value: As it is now, as text.
        default: As it would be otherwise, as text; empty where there is no default to speak of.
        choices: Value and text of each, for a choice.
        low: Least number.
        high: Largest number.
        step: Between numbers: ``1`` or ``any``.
        longest: Most characters.
        required: Whether it may be left empty.
        null_if_empty: Whether empty means null rather than the empty text.
        suggestions: Id of the list of values to offer.
    """

    name: str
    words: Words
    help: str = ""
    kind: FieldKind = "text"
    value: str = ""
    default: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    low: str = ""
    high: str = ""
    step: str = ""
    longest: int = 0
    required: bool = False
    null_if_empty: bool = False
    suggestions: str = ""

    @property
    def id(self) -> str:
        """Of the element."""
        return "f-" + self.name.replace(".", "-").replace("_", "-")

    @property
    def short(self) -> bool:
        """Whether a narrow field is enough."""
        return self.kind == "number" or 0 < self.longest <= _SHORT

    @property
    def note(self) -> str:
        """The default and the bounds, for a person."""
        parts = []
        if self.low and self.high:
            high = f"{int(self.high):,}" if self.high.isdigit() else self.high
            parts.append(f"{self.low} to {high}")
        if self.kind != "choice" and self.default not in {"", self.value}:
            parts.append(f"usually {self.default}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class FieldGroup:
    """Fields that are there together or not at all.

    Attributes:
        name: Its place in the request's body.
        title: For people.
        help: What it is, in a sentence.
        fields: In order.
        optional: Whether it may be left out, as null.
        present: Whether it is there now.
    """

    name: str
    title: str
    help: str
    fields: "tuple[Field | FieldGroup, ...]"
    optional: bool = False
    present: bool = True


def fields_of(
    model: type[BaseModel],
    values: Mapping[str, Any],
    words: Mapping[str, Words],
    *,
    path: str,
    only: Sequence[str] | None = None,
) -> tuple[Field | FieldGroup, ...]:
    """The fields of a model, in its order.

    Args:
        model: What checks them.
        values: Present values as JSON; what is missing takes the default.
        words: By name below `path`, with dots.
        path: Where the model lies in the request's body; empty: it is the body.
        only: These alone, in this order.
    """
    schema = model.model_json_schema()
    form = _Form(schema.get("$defs", {}), words)
    properties = schema["properties"]
    required = schema.get("required", ())
    names = list(properties) if only is None else only
    return tuple(
        form.field(properties[name], path, name, values, required=name in required)
        for name in names
    )


@dataclass(frozen=True, slots=True)
class _Form:
    definitions: Mapping[str, Any]
    words: Mapping[str, Words]

    def field(
        self,
        schema: Mapping[str, Any],
        path: str,
        name: str,
        values: Mapping[str, Any],
        *,
        required: bool,
        below: str = "",
    ) -> Field | FieldGroup:
        inner, nullable = _without_null(schema)
        full, told = f"{path}.{name}".lstrip("."), f"{below}{name}"
        words = self.words.get(told) or Words(name.replace("_", " ").capitalize())
        help_text = plain(schema.get("description", ""))
        if "$ref" in inner:
            target = self.definitions[inner["$ref"].rpartition("/")[2]]
            given = values.get(name)
            return FieldGroup(
                full,
                words.label,
                help_text,
                tuple(
                    self.field(
                        part,
                        full,
                        key,
                        given or {},
                        required=key in target.get("required", ()),
                        below=f"{told}.",
                    )
                    for key, part in target["properties"].items()
                ),
                optional=nullable,
                present=given is not None or not nullable,
            )
        default = schema.get("default")
        return Field(
            name=full,
            words=words,
            help=help_text,
            kind=_kind(inner),
            value=as_text(values.get(name, default)),
            default=as_text(default),
            choices=_choices(inner, words),
            low=as_text(inner.get("minimum")),
            high=as_text(inner.get("maximum")),
            step="1" if inner.get("type") == "integer" else "any",
            longest=inner.get("maxLength", 0),
            required=required,
            null_if_empty=nullable,
        )


def _without_null(schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """What a value looks like, and whether it may be null."""
    if "anyOf" not in schema:
        return schema, False
    others = [one for one in schema["anyOf"] if one.get("type") != "null"]
    return others[0], len(others) < len(schema["anyOf"])


def _kind(schema: Mapping[str, Any]) -> FieldKind:
    if "enum" in schema:
        return "choice"
    match schema.get("type"):
        case "boolean":
            return "switch"
        case "integer" | "number":
            return "number"
        case _:
            return "text"


def _choices(schema: Mapping[str, Any], words: Words) -> tuple[tuple[str, str], ...]:
    told = {**_DELIMITERS, **(words.choices or {})}
    return tuple((value, told.get(value, value)) for value in schema.get("enum", ()))


def as_text(value: object) -> str:
    """A value of JSON as it stands in a field; null is empty."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return str(value)


def plain(text: str) -> str:
    """An explanation without the marks of its source; what is None there is left empty here."""
    return _NONE.sub("empty:", " ".join(text.replace("``", "").replace("`", "").split()))
