"""``/docs``: the document for people. One page, no script, nothing fetched from anywhere.

The one inline style sheet is allowed by its hash, so the page lives under a policy that allows
nothing else.
"""

import base64
import hashlib
from collections.abc import Iterator
from html import escape
from typing import Any, Final

_STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--soft:#8882}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code{font:13px/1.4 ui-monospace,monospace}
details{border:1px solid var(--line);border-radius:6px;margin:.5rem 0;padding:.4rem .8rem}
summary{cursor:pointer}summary code{font-weight:600}
table{border-collapse:collapse;width:100%;margin:.5rem 0}
th,td{text-align:left;vertical-align:top;padding:.25rem .5rem;border-bottom:1px solid var(--line)}
.who{float:right;opacity:.7;font-size:13px}pre{background:var(--soft);padding:.6rem;overflow:auto}
"""
_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

DOCS_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def render(document: dict[str, Any]) -> str:
    """The page for an OpenAPI document."""
    info = document["info"]
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>",
            f"<p>{escape(info['description'])}</p>",
            '<p>The same for machines: <a href="/openapi.json">/openapi.json</a></p>',
            *_sections(document),
            "</body></html>",
        )
    )


def _sections(document: dict[str, Any]) -> Iterator[str]:
    for tag in document["tags"]:
        yield f"<h2>{escape(tag['name'])}</h2>"
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if tag["name"] in operation["tags"]:
                    yield _operation(path, method, operation)


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    requires = operation["x-troupe-requires"].replace("_", " ")
    scope = operation.get("x-troupe-scope")
    who = f"{requires} · {scope}" if scope else requires
    parts = [
        f'<details><summary><span class="who">{escape(who)}</span>',
        f"<code>{method.upper()} {escape(path)}</code> {escape(operation['summary'])}</summary>",
        f"<p>{escape(operation.get('description', ''))}</p>",
    ]
    if operation["parameters"]:
        parts.append("<table><tr><th>parameter</th><th>in</th><th>type</th><th></th></tr>")
        parts.extend(_parameter(parameter) for parameter in operation["parameters"])
        parts.append("</table>")
    if "requestBody" in operation:
        for media, content in operation["requestBody"]["content"].items():
            kind = _type_of(content.get("schema", {}))
            parts.append(f"<p>Body: <code>{escape(media)}</code> {kind}</p>")
    parts.append("<table><tr><th>status</th><th>answer</th><th></th></tr>")
    for status, response in operation["responses"].items():
        kinds = "<br>".join(
            f"<code>{escape(media)}</code> {_type_of(content.get('schema', {}))}"
            for media, content in response.get("content", {}).items()
        )
        parts.append(
            f"<tr><td>{status}</td><td>{escape(response['description'])}</td><td>{kinds}</td></tr>"
        )
    parts.append("</table></details>")
    return "".join(parts)


def _parameter(parameter: dict[str, Any]) -> str:
    needed = " (needed)" if parameter["required"] else ""
    return (
        f"<tr><td><code>{escape(parameter['name'])}</code>{needed}</td><td>{parameter['in']}</td>"
        f"<td>{_type_of(parameter['schema'])}</td>"
        f"<td>{escape(parameter.get('description', ''))}</td></tr>"
    )


def _type_of(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return f"<code>{escape(schema['$ref'].rsplit('/', 1)[-1])}</code>"
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    kind = schema.get("format") or schema.get("type") or "any"
    return f"<code>{escape(str(kind))}</code>"
