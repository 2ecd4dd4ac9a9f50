"""Parsing GoogleSQL.

sqlglot is used as a parser only. Its own translation of BigQuery into DuckDB is wrong in a dozen
places that matter here (it rounds ``UNIX_SECONDS``, drops the zone of ``FORMAT_TIMESTAMP``, widens
``DATE_TRUNC`` and so on), and it starts going wrong while it parses: known functions become nodes
of a common dialect in which BigQuery's meaning is already lost. So the function table is emptied
here. Every call arrives as a name with arguments, and this package alone decides what it means.
"""

from typing import ClassVar

import sqlglot
from sqlglot import exp
from sqlglot.dialects.bigquery import BigQuery
from sqlglot.errors import ParseError, TokenError
from sqlglot.parsers.bigquery import BigQueryParser
from sqlglot.tokenizer_core import TokenType

from troupe_demo.bigquery.errors import BigQueryError

_SPECIAL_SYNTAX = ("ARRAY", "CAST", "EXTRACT", "SAFE_CAST")
# sqlglot reads these; GoogleSQL does not have them, or they are rewritten while they are parsed.
_FOREIGN_TOKENS = {
    TokenType.DCOLON: "::",
    TokenType.PIPE_GT: "|> (pipe syntax)",
    TokenType.ARROW: "->",
    TokenType.ILIKE: "ILIKE",
    TokenType.GLOB: "GLOB",
}


class GoogleSQL(BigQuery):
    """BigQuery's grammar with no knowledge of functions."""

    class Parser(BigQueryParser):
        """Functions with a syntax of their own keep it; all others are plain calls."""

        FUNCTIONS: ClassVar = {}
        FUNCTION_PARSERS: ClassVar = {
            name: parse
            for name, parse in BigQueryParser.FUNCTION_PARSERS.items()
            if name in _SPECIAL_SYNTAX
        }


# Positional parameters become named ones while they can still be counted in the order of the text.
POSITIONAL = "positional_parameter_"


def parse(text: str) -> tuple[exp.Query, str]:
    """The one query in ``text``, and the text to which places in the tree refer.

    Raises:
        BigQueryError: ``invalidQuery``: not GoogleSQL, or not exactly one SELECT statement.
    """
    try:
        sql = _name_placeholders(text)
        statements = [tree for tree in sqlglot.parse(sql, read=GoogleSQL) if tree is not None]
    except ParseError as error:
        raise _syntax_error(error) from None
    except TokenError as error:
        raise BigQueryError.invalid_query(f"Syntax error: {error}") from None
    if not statements:
        raise BigQueryError.invalid_query("Syntax error: Unexpected end of statement")
    if len(statements) > 1:
        raise BigQueryError.invalid_query("The stand-in does not support scripts of statements")
    tree = statements[0]
    if isinstance(tree, exp.Query) and not isinstance(tree, exp.Table):
        return tree, sql
    word = sql.split(maxsplit=1)[0]
    if isinstance(tree, (exp.DDL, exp.DML, exp.Command, exp.Declare, exp.Merge, exp.Drop)):
        raise BigQueryError.invalid_query(f"The stand-in supports only queries, not {word}")
    raise BigQueryError.invalid_query(f'Syntax error: Unexpected identifier "{word}"')


def _name_placeholders(text: str) -> str:
    pieces, end, count = [], 0, 0
    for token in sqlglot.tokenize(text, read=GoogleSQL):
        if token.token_type in _FOREIGN_TOKENS:
            place = offset_position(text, token.start)
            name = _FOREIGN_TOKENS[token.token_type]
            raise BigQueryError.invalid_query(f'Syntax error: Unexpected "{name}"', place)
        if token.token_type is TokenType.PLACEHOLDER:
            count += 1
            pieces += [text[end : token.start], f"@{POSITIONAL}{count}"]
            end = token.end + 1
    return "".join(pieces) + text[end:]


def _syntax_error(error: ParseError) -> BigQueryError:
    details = error.errors[0] if error.errors else {}
    word = str(details.get("highlight") or "")
    line = int(details.get("line") or 1)
    column = max(1, int(details.get("col") or 1) - max(len(word) - 1, 0))
    what = f'Unexpected "{word}"' if word else "Unexpected end of statement"
    return BigQueryError.invalid_query(f"Syntax error: {what}", f"[{line}:{column}]")


def offset_position(sql: str, offset: int) -> str:
    """``[line:column]`` of a character in the query."""
    before = sql[:offset]
    return f"[{before.count(chr(10)) + 1}:{offset - before.rfind(chr(10))}]"


def position(node: exp.Expr, sql: str) -> str:
    """``[line:column]`` where the node starts, as far as the parser remembers."""
    starts = [n.meta["start"] for n in node.walk() if "start" in n.meta]
    return offset_position(sql, min(starts)) if starts else "[1:1]"
