"""Text, numbers, arrays, conditionals, hashes and JSON."""

from dataclasses import replace

from sqlglot import exp

from troupe_demo.bigquery.sql.calls import Call, function, simple
from troupe_demo.bigquery.sql.compilation import compile_expression
from troupe_demo.bigquery.sql.expressions import (
    Expression,
    coerce,
    combine,
    expand,
    literal,
    text,
)
from troupe_demo.bigquery.sql.patterns import group_of, replacement_groups
from troupe_demo.bigquery.sql.scalars import comparable_type
from troupe_demo.bigquery.sql.scopes import select_field, struct_expression
from troupe_demo.bigquery.types import (
    BOOL,
    BYTES,
    FLOAT64,
    INT64,
    NULL,
    NUMBERS,
    NUMERIC,
    STRING,
    Field,
    Kind,
    Type,
    array_of,
    duck_type,
    struct_of,
)

# -- text

# What BigQuery trims: Unicode white space. DuckDB's trim() takes a set of characters.
_WHITE = (
    "\t\n\v\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u2028\u2029\u202f\u205f\u3000"
)

simple("LOWER", (STRING,), STRING, "bq_lower({0})", fallible=True)
simple("UPPER", (STRING,), STRING, "bq_upper({0})", fallible=True)
simple("STARTS_WITH", (STRING, STRING), BOOL, "starts_with({0}, {1})")
simple("ENDS_WITH", (STRING, STRING), BOOL, "ends_with({0}, {1})")
simple("STRPOS", (STRING, STRING), INT64, "strpos({0}, {1})")
simple("BYTE_LENGTH", (STRING,), INT64, "strlen({0})")
simple("TO_HEX", (BYTES,), STRING, "lower(hex({0}))")
simple("TO_BASE64", (BYTES,), STRING, "base64({0})")


@function("LENGTH", "CHAR_LENGTH", "CHARACTER_LENGTH")
def _length(call: Call) -> Expression:
    call.take(1)
    value = call.argument(0, STRING)
    return combine(f"length({value.sql})", INT64, value)


@function("TRIM", "LTRIM", "RTRIM")
def _trim(call: Call) -> Expression:
    call.take(1, 2)
    value = call.argument(0, STRING)
    what = call.argument(1, STRING) if len(call) == 2 else literal(_WHITE, STRING)
    return combine(f"{call.name.lower()}({value.sql}, {what.sql})", STRING, value, what)


@function("SUBSTR", "SUBSTRING")
def _substring(call: Call) -> Expression:
    call.take(2, 3)
    parts = [call.argument(0, STRING), *(call.argument(i, INT64) for i in range(1, len(call)))]
    macro = "bq_substr" if len(call) == 2 else "bq_substr_length"
    return expand(
        lambda *arguments: f"{macro}({', '.join(arguments)})",
        STRING,
        *parts,
        fallible=len(call) == 3,
    )


@function("CONCAT")
def _concat(call: Call) -> Expression:
    call.take(1, 100)
    parts = [call.argument(i, STRING) for i in range(len(call))]
    return combine("(" + " || ".join(part.sql for part in parts) + ")", STRING, *parts)


@function("REPLACE")
def _replace(call: Call) -> Expression:
    call.take(3)
    parts = [call.argument(i, STRING) for i in range(3)]
    template = "(CASE WHEN {1} = '' AND {2} IS NOT NULL THEN {0} ELSE replace({0}, {1}, {2}) END)"
    return expand(template.format, STRING, *parts)


@function("SPLIT")
def _split(call: Call) -> Expression:
    call.take(1, 2)
    value = call.argument(0, STRING)
    mark = call.constant(1, Kind.STRING, "a delimiter of SPLIT") if len(call) == 2 else ","
    if not mark:
        raise call.refuse("SPLIT by an empty delimiter")
    return combine(f"string_split({value.sql}, {text(mark)})", array_of(STRING), value)


@function("REGEXP_CONTAINS")
def _regexp_contains(call: Call) -> Expression:
    call.take(2)
    value, pattern = call.argument(0, STRING), call.argument(1, STRING)
    return combine(f"regexp_matches({value.sql}, {pattern.sql})", BOOL, value, pattern)


@function("REGEXP_EXTRACT")
def _regexp_extract(call: Call) -> Expression:
    if len(call) > 2:
        raise call.refuse("REGEXP_EXTRACT with a position")
    call.take(2)
    value = call.argument(0, STRING)
    pattern = call.constant(1, Kind.STRING, "a pattern of REGEXP_EXTRACT")
    group, quoted = group_of(pattern, call), text(pattern)

    def body(subject: str) -> str:
        extracted = f"regexp_extract({subject}, {quoted}, {group})"
        return f"(CASE WHEN regexp_matches({subject}, {quoted}) THEN {extracted} END)"

    return expand(body, STRING, value)


@function("REGEXP_REPLACE")
def _regexp_replace(call: Call) -> Expression:
    call.take(3)
    value = call.argument(0, STRING)
    pattern = call.constant(1, Kind.STRING, "a pattern of REGEXP_REPLACE")
    new = call.constant(2, Kind.STRING, "a replacement of REGEXP_REPLACE")
    replacement_groups(pattern, new, call)
    return combine(f"regexp_replace({value.sql}, {text(pattern)}, {text(new)}, 'g')", STRING, value)


# -- hashes: DuckDB gives hexadecimal text where BigQuery gives bytes


@function("MD5", "SHA256")
def _digest(call: Call) -> Expression:
    call.take(1)
    value = call.arguments[0]
    if value.type.kind not in (Kind.STRING, Kind.BYTES):
        raise call.mismatch()
    return combine(f"unhex({call.name.lower()}({value.sql}))", BYTES, value)


# -- numbers


def _number(call: Call) -> Expression:
    value = call.arguments[0]
    value = coerce(value, INT64) if value.type == NULL else value
    if value.type.kind not in NUMBERS:
        raise call.mismatch()
    return value


@function("ABS")
def _absolute(call: Call) -> Expression:
    call.take(1)
    value = _number(call)
    return combine(f"abs({value.sql})", value.type, value, fallible=True)


@function("SIGN")
def _sign(call: Call) -> Expression:
    call.take(1)
    value = _number(call)
    if value.type != INT64:
        raise call.refuse(f"SIGN of {value.type}")
    return combine(f"CAST(sign({value.sql}) AS BIGINT)", INT64, value)


@function("CEIL", "CEILING", "FLOOR", "TRUNC")
def _whole(call: Call) -> Expression:
    if len(call) != 1:
        raise call.refuse(f"{call.name} to decimal places")
    value = _number(call)
    name = {"CEILING": "ceil"}.get(call.name, call.name.lower())
    type_ = FLOAT64 if value.type == INT64 else value.type
    value = coerce(value, type_)
    return combine(f"CAST({name}({value.sql}) AS {duck_type(type_)})", type_, value)


@function("ROUND")
def _round(call: Call) -> Expression:
    call.take(1, 2)
    value = _number(call)
    places = call.constant(1, Kind.INT64, "decimal places of ROUND") if len(call) == 2 else 0
    if not 0 <= places <= 9:
        raise call.refuse("ROUND to fewer than 0 or more than 9 decimal places")
    type_ = FLOAT64 if value.type == INT64 else value.type
    value = coerce(value, type_)
    if type_ == NUMERIC:
        sql = f"CAST(CAST({value.sql} AS DECIMAL(38,{places})) AS DECIMAL(38,9))"
        return combine(sql, type_, value)
    if places == 0:
        return combine(f"round({value.sql})", type_, value)
    digits = f"CAST(format('{{{{:.60f}}}}', {{0}}) AS DECIMAL(38,{places}))"
    return expand(f"bq_round({{0}}, {digits})".format, type_, value)


@function("DIV", "MOD")
def _integer_division(call: Call) -> Expression:
    call.take(2)
    if any(value.type == NUMERIC for value in call.arguments):
        raise call.refuse(f"{call.name} of NUMERIC")
    a, b = call.argument(0, INT64), call.argument(1, INT64)
    sign = "//" if call.name == "DIV" else "%"
    failure = f"error('division by zero: {call.name}')"
    template = (
        f"(CASE WHEN {{1}} = 0 AND {{0}} IS NOT NULL THEN {failure} ELSE {{0}} {sign} {{1}} END)"
    )
    return expand(template.format, INT64, a, b, fallible=True)


@function("SAFE_DIVIDE")
def _safe_divide(call: Call) -> Expression:
    call.take(2)
    if call.unified()[0] == NUMERIC:
        raise call.refuse("SAFE_DIVIDE of NUMERIC")
    a, b = call.argument(0, FLOAT64), call.argument(1, FLOAT64)
    return expand("bq_safe_divide({0}, {1})".format, FLOAT64, a, b)


@function("SAFE_ADD", "SAFE_SUBTRACT", "SAFE_MULTIPLY")
def _safe_arithmetic(call: Call) -> Expression:
    call.take(2)
    sign = {"SAFE_ADD": "+", "SAFE_SUBTRACT": "-", "SAFE_MULTIPLY": "*"}[call.name]
    a, b = call.argument(0, INT64), call.argument(1, INT64)
    if a.fallible or b.fallible:  # TRY would hide their failures too
        raise call.refuse(f"{call.name} of operands that can fail")
    return combine(f"TRY({a.sql} {sign} {b.sql})", INT64, a, b)


@function("GREATEST", "LEAST")
def _extreme(call: Call) -> Expression:
    call.take(1, 100)
    name = f"function {call.name}"
    type_ = comparable_type(call.arguments, name, call.node, call.scope)
    values = [coerce(value, type_) for value in call.arguments]

    def body(*texts: str) -> str:
        unknown = " OR ".join(f"{text} IS NULL" for text in texts)
        chosen = f"{call.name.lower()}({', '.join(texts)})"
        if type_ == FLOAT64:
            nan = " OR ".join(f"isnan({text})" for text in texts)
            chosen = f"CASE WHEN {nan} THEN CAST('nan' AS DOUBLE) ELSE {chosen} END"
        return f"(CASE WHEN {unknown} THEN NULL ELSE {chosen} END)"

    return expand(body, type_, *values)


# -- conditionals


@function("COALESCE", "IFNULL")
def _coalesce(call: Call) -> Expression:
    call.take(*((2, 2) if call.name == "IFNULL" else (1, 100)))
    type_, values = call.unified()
    return combine("coalesce(" + ", ".join(v.sql for v in values) + ")", type_, *values)


@function("NULLIF")
def _nullif(call: Call) -> Expression:
    call.take(2)
    type_ = comparable_type(call.arguments, "function NULLIF", call.node, call.scope)
    a, b = (coerce(value, type_) for value in call.arguments)
    equal = "bq_equal({0}, {1})" if type_ == FLOAT64 else "{0} = {1}"
    return expand(f"(CASE WHEN {equal} THEN NULL ELSE {{0}} END)".format, type_, a, b)


@function("ERROR")
def _error(call: Call) -> Expression:
    call.take(1)
    message = call.argument(0, STRING)
    return combine(f"error({message.sql})", NULL, message, fallible=True)


# -- arrays and structs


def _array(call: Call, index: int = 0) -> tuple[Expression, Type]:
    value = call.arguments[index]
    if value.type.element is None:
        raise call.mismatch()
    return value, value.type.element


@function("ARRAY_LENGTH")
def _array_length(call: Call) -> Expression:
    call.take(1)
    value, _ = _array(call)
    return combine(f"len({value.sql})", INT64, value)


@function("ARRAY_REVERSE")
def _array_reverse(call: Call) -> Expression:
    call.take(1)
    value, _ = _array(call)
    return combine(f"list_reverse({value.sql})", value.type, value)


@function("ARRAY_CONCAT")
def _array_concat(call: Call) -> Expression:
    call.take(1, 20)
    type_, values = call.unified()
    if type_.element is None:
        raise call.mismatch()

    def body(*texts: str) -> str:
        unknown = " OR ".join(f"{text} IS NULL" for text in texts)
        return f"(CASE WHEN {unknown} THEN NULL ELSE {' || '.join(texts)} END)"

    return expand(body, type_, *values)


@function("ARRAY_TO_STRING")
def _array_to_string(call: Call) -> Expression:
    call.take(2, 3)
    value, element = _array(call)
    if element != STRING:
        raise call.mismatch()
    between, items = call.argument(1, STRING), value.sql
    parts = [value, between]
    if len(call) == 3:
        missing = call.argument(2, STRING)
        parts.append(missing)
        items = f"list_transform({items}, lambda item: coalesce(item, {missing.sql}))"
    return combine(f"array_to_string({items}, {between.sql})", STRING, *parts)


@function("GENERATE_ARRAY")
def _generate_array(call: Call) -> Expression:
    call.take(2, 3)
    step = call.constant(2, Kind.INT64, "a step of GENERATE_ARRAY") if len(call) == 3 else 1
    if step == 0:
        raise call.refuse("GENERATE_ARRAY with step 0")
    first, last = call.argument(0, INT64), call.argument(1, INT64)
    return combine(
        f"generate_series({first.sql}, {last.sql}, {step})", array_of(INT64), first, last
    )


@function("STRUCT")
def _struct(call: Call) -> Expression:
    fields, values = [], []
    for node in call.nodes:
        inner = node.this if isinstance(node, exp.Alias) else node
        value = compile_expression(inner, call.scope)
        name = node.alias if isinstance(node, exp.Alias) else value.name or ""
        fields.append(Field(name, value.type))
        values.append(value)
    return struct_expression(struct_of(fields), values)


# -- JSON


@function("TO_JSON_STRING")
def _to_json_string(call: Call) -> Expression:
    if len(call) != 1:
        raise call.refuse("TO_JSON_STRING with pretty_print")
    value = call.arguments[0]
    depth = call.scope.lambda_depth

    def body(subject: str) -> str:
        json = json_text(replace(value, sql=subject, origin=None), depth=depth)
        return f"coalesce({json}, 'null')"

    return expand(body, STRING, value, fallible=True)


_JSON = {
    Kind.BOOL: "CAST({0} AS VARCHAR)",
    Kind.INT64: "bq_json_int({0})",
    Kind.NULL: "bq_json_int({0})",
    Kind.FLOAT64: "bq_json_float({0})",
    Kind.STRING: "bq_json_text({0})",
    Kind.BYTES: "('\"' || base64({0}) || '\"')",
    Kind.DATE: "('\"' || strftime({0}, '%Y-%m-%d') || '\"')",
    Kind.DATETIME: "('\"' || bq_datetime_text({0}, 'T') || '\"')",
    Kind.TIMESTAMP: "('\"' || bq_datetime_text({0}, 'T') || 'Z\"')",
}


def json_text(value: Expression, *, depth: int = 0) -> str:
    """DuckDB text for the JSON of a value, NULL for a NULL value."""
    type_ = value.type
    if type_.element is not None:
        item = f"j{depth}"
        inner = json_text(Expression(item, type_.element), depth=depth + 1)
        items = f"list_transform({value.sql}, lambda {item}: coalesce({inner}, 'null'))"
        return f"('[' || array_to_string({items}, ',') || ']')"
    if type_.kind is Kind.STRUCT:
        pairs = [
            f"{text(_json_key(field.name))} || coalesce({json_text(part, depth=depth)}, 'null')"
            for field in type_.fields
            for part in (select_field(replace(value, origin=None), field),)
        ]
        body = " || ',' || ".join(pairs) or "''"
        return f"(CASE WHEN {value.sql} IS NOT NULL THEN '{{' || {body} || '}}' END)"
    template = _JSON.get(type_.kind, "bq_refuse('TO_JSON_STRING of " + type_.kind + "')")
    return template.format(value.sql)


def _json_key(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}":'
