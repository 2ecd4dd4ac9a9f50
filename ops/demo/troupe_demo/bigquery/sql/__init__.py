"""GoogleSQL on DuckDB: a typed compiler for the part of BigQuery's language that it gets right.

The problem: a query that the product sends to BigQuery must give here exactly what it gives there,
or be refused. The approach that suggests itself, translating text with a general transpiler, gives
plausible wrong answers: DuckDB and BigQuery agree on most syntax and disagree on what an integer
division, a NaN, a week, a missing array element or an unmatched group is.

So this package is a small compiler. ``dialect`` parses and nothing more. Every construct has one
handler that knows the types of its operands (``expressions``) and writes DuckDB text for exactly
that case, with the macros of ``prelude.sql`` where DuckDB means something else. Names are resolved
as GoogleSQL resolves them (``scopes``), so that DuckDB never has to guess and the byte estimate
knows which stored leaves are read. What has no handler is refused by name.

What it costs: a construct that nobody has written down does not work, however common. What was
rejected: the transpiler (wrong answers); Google's own analyzer, which exists as WebAssembly
(fifteen seconds to start, and then nothing left to check this with: it is the oracle in the tests);
a subset without types (it cannot tell 1/2 from 1.0/2 or a date from a string).
"""

# Importing a module registers its handlers and functions.
from troupe_demo.bigquery.sql import (
    aggregates,
    calendar,
    calls,
    casts,
    functions,
    scalars,
    subqueries,
)
from troupe_demo.bigquery.sql.compilation import Compilation, CompiledQuery, TableSource
from troupe_demo.bigquery.sql.program import Program, compile_program
from troupe_demo.bigquery.sql.scans import Scan

__all__ = [
    "Compilation",
    "CompiledQuery",
    "Program",
    "Scan",
    "TableSource",
    "aggregates",
    "calendar",
    "calls",
    "casts",
    "compile_program",
    "functions",
    "scalars",
    "subqueries",
]
