"""SQL lives in ``.sql`` files beside the code that uses it; this module loads them.

A file holds named statements. A header line starts one, comment lines below it describe it::

    -- name: latest_version
    -- The data version of one tenant, or no row.
    SELECT data_version FROM data.versions WHERE tenant_id = $1
"""

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

_HEADER = re.compile(r"^-- name: ([a-z][a-z0-9_]*)[ \t]*$", re.MULTILINE)

Queries = Mapping[str, str]


def parse(text: str, *, origin: str) -> Queries:
    """Named statements of one file's text.

    Raises:
        ValueError: Text before the first header, a name twice, or a statement without a body.
    """
    pieces = _HEADER.split(text)
    preamble = [line for line in pieces[0].splitlines() if line.strip()]
    if any(not line.startswith("--") for line in preamble):
        raise ValueError(f"{origin}: a statement stands before the first '-- name:' line")
    statements: dict[str, str] = {}
    for name, body in zip(pieces[1::2], pieces[2::2], strict=True):
        code = [line for line in body.splitlines() if line.strip()]
        if name in statements:
            raise ValueError(f"{origin}: {name} is defined twice")
        if all(line.lstrip().startswith("--") for line in code):
            raise ValueError(f"{origin}: {name} has no statement")
        statements[name] = body.strip().rstrip(";")
    return MappingProxyType(statements)


def load(package: str, filename: str) -> Queries:
    """Named statements of ``filename`` in ``package``: ``load(__package__, "jobs.sql")``."""
    text = files(package).joinpath(filename).read_text(encoding="utf-8")
    return parse(text, origin=f"{package}/{filename}")
