"""The few pages of the auth group: choosing a provider, signed in, signed out, what went wrong."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import jinja2
from quart import Response

from troupe.common.errors import NotFound
from troupe.http.declaration import Media

PAGE: Final = Media("text/html; charset=utf-8", "A page.")
_STATIC: Final[Mapping[str, str]] = {
    "login.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Action:
    """The one thing to do next on a page."""

    label: str
    url: str


class LoginPages:
    """Renders the pages; templates and files are read once."""

    def __init__(self) -> None:
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader(__name__),
            autoescape=True,
            auto_reload=False,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._static = {
            name: (files(__name__).joinpath("static", name).read_bytes(), kind)
            for name, kind in _STATIC.items()
        }

    def render(self, template: str, status: int = 200, **values: object) -> Response:
        """A page.

        Args:
            template: ``choose.html``, ``signed_in.html``, ``signed_out.html``, ``message.html``.
            status: Of the answer.
            values: What the template shows.
        """
        html = self._templates.get_template(template).render(**values)
        return Response(html, status, content_type=PAGE.content_type)

    def message(
        self, title: str, detail: str, action: Action, *, status: int, request_id: str = ""
    ) -> Response:
        """A page that says what went wrong and what to do."""
        return self.render(
            "message.html",
            status,
            title=title,
            detail=detail,
            action=action,
            request_id=request_id,
        )

    def static_file(self, name: str) -> Response:
        """A file that the pages load.

        Raises:
            NotFound: There is no such file.
        """
        if name not in self._static:
            raise NotFound("There is no such file.")
        content, kind = self._static[name]
        response = Response(content, content_type=kind)
        response.headers["Cache-Control"] = "public, max-age=300"
        response.set_etag(hashlib.blake2b(content, digest_size=16).hexdigest())
        return response
