"""The files that pages load: kept in memory, named by their content, served from our own origin.

Nothing is built: a file is served as it lies in ``static``. What others wrote stands there with its
release in the name and its licence beside it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Final

from pydantic import Field
from quart import Response

from troupe.common.errors import NotFound
from troupe.http.conventions import QueryModel, is_unmodified
from troupe.http.declaration import Media
from troupe.http.principal import Access
from troupe.http.routes import Api

_PACKAGE: Final = "troupe.http.dashboard"
_KINDS: Final[Mapping[str, str]] = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_FOREVER: Final = "public, max-age=31536000, immutable"
_BRIEFLY: Final = "public, max-age=300"


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that pages load; its address holds its version, so that it can be kept forever."""

    content: bytes
    kind: str
    version: str


class StaticQuery(QueryModel):
    """Which version of a file is wanted; the present one is answered in any case."""

    v: Annotated[str | None, Field(max_length=64)] = None
    """Its version."""


class StaticFiles:
    """All files of the package's folder ``static``, read once."""

    def __init__(self) -> None:
        self._files: dict[str, StaticFile] = {}
        for entry in files(_PACKAGE).joinpath("static").iterdir():
            content = entry.read_bytes()
            kind = _KINDS[entry.name[entry.name.rindex(".") :]]
            version = hashlib.blake2b(content, digest_size=8).hexdigest()
            self._files[entry.name] = StaticFile(content, kind, version)

    def address(self, name: str) -> str:
        """Where a page loads a file from.

        Raises:
            KeyError: There is no such file.
        """
        return f"/static/{name}?v={self._files[name].version}"

    def declare(self, api: Api) -> None:
        """Declare the route that serves them."""

        @api.get(
            "/static/<name>",
            requires=Access.PUBLIC,
            query=StaticQuery,
            answers={200: Media("*/*", "A file that the pages load.")},
            etag=True,
            summary="Styles, scripts and icons of the pages",
        )
        async def static_file(*, name: str, query: StaticQuery) -> Response:
            file = self._files.get(name)
            if file is None:
                raise NotFound("There is no such file.")
            if is_unmodified(file.version):
                response = Response(b"", 304)
            else:
                response = Response(file.content, content_type=file.kind)
            response.headers["Cache-Control"] = _FOREVER if query.v == file.version else _BRIEFLY
            response.set_etag(file.version)
            return response
