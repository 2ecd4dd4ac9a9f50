"""The mailbox in a browser: a list, a page per message, and the same as JSON.

A message is untrusted. Its HTML is shown in a frame that is a world of its own: served under a
policy that allows no script, no form and nothing from the network, in an ``iframe`` with an empty
``sandbox``. Images that a message carries are put into its HTML as data. Attachments can only be
downloaded. All else is text and escaped by the templates.
"""

import base64
import re
from typing import Any, Final
from urllib.parse import quote

from quart import Quart, Response, abort, jsonify, render_template, request
from werkzeug.exceptions import HTTPException

from troupe.common.units import MiB
from troupe_demo.mail.mailbox import Attachment, Entry, Mailbox, Message

PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; frame-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MESSAGE_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox"
)
LOCAL_NAMES: Final = frozenset({"127.0.0.1", "localhost"})
LIST_LIMIT: Final = 50
MOST_LISTED: Final = 500
LARGEST_INLINE_IMAGE: Final = 2 * MiB
INLINE_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})

_CONTENT_ID: Final = re.compile(r"cid:([^\"'\s)>]+)")


def create_app(mailbox: Mailbox) -> Quart:
    """The web application for one mailbox."""
    app = Quart(__name__)
    _guard(app)
    _add_pages(app, mailbox)
    _add_downloads(app, mailbox)
    _add_api(app, mailbox)
    return app


def _guard(app: Quart) -> None:
    """What holds for every request and every answer."""

    @app.before_request
    def _only_from_here() -> None:
        # A page elsewhere could point a name of its own at loopback; the name gives it away.
        if request.host.rpartition(":")[0] not in LOCAL_NAMES:
            abort(403, "This mailbox answers under its own address only.")

    @app.after_request
    def _headers(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", PAGE_POLICY)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cache-Control"] = "no-store"
        return response

    @app.errorhandler(HTTPException)
    async def _problem(error: HTTPException) -> tuple[Any, int]:
        status = error.code or 500
        if request.path.startswith("/api/"):
            problem = jsonify(title=error.name, status=status, detail=error.description)
            problem.content_type = "application/problem+json"
            return problem, status
        return await render_template("error.html", error=error), status


def _add_pages(app: Quart, mailbox: Mailbox) -> None:
    @app.get("/")
    async def _list() -> str:
        return await render_template(
            "list.html", entries=mailbox.entries(MOST_LISTED), total=len(mailbox)
        )

    @app.get("/messages/<int:number>")
    async def _page(number: int) -> str:
        return await render_template("message.html", message=_found(mailbox, number))

    @app.get("/messages/<int:number>/html")
    async def _html(number: int) -> Response:
        message = _found(mailbox, number)
        if message.html is None:
            abort(404, "This message has no HTML.")
        answer = Response(with_images(message.html, message.attachments), mimetype="text/html")
        answer.headers["Content-Security-Policy"] = MESSAGE_POLICY
        return answer


def _add_downloads(app: Quart, mailbox: Mailbox) -> None:
    @app.get("/messages/<int:number>/raw")
    async def _raw(number: int) -> Response:
        return _download(_found(mailbox, number).raw, f"message-{number}.eml")

    @app.get("/messages/<int:number>/parts/<int:part>")
    async def _part(number: int, part: int) -> Response:
        found = (each for each in _found(mailbox, number).attachments if each.number == part)
        attachment = next(found, None)
        if attachment is None:
            abort(404, "This message has no such part.")
        return _download(attachment.content, attachment.file_name)


def _add_api(app: Quart, mailbox: Mailbox) -> None:
    @app.get("/api/messages")
    async def _messages() -> Response:
        limit = request.args.get("limit", LIST_LIMIT, type=int)
        if not 1 <= limit <= MOST_LISTED:
            abort(422, f"limit is a number from 1 to {MOST_LISTED}.")
        return jsonify(
            data=[_entry_record(entry) for entry in mailbox.entries(limit)], total=len(mailbox)
        )

    @app.get("/api/messages/<int:number>")
    async def _message(number: int) -> Response:
        return jsonify(_message_record(_found(mailbox, number)))

    @app.get("/api/messages/<int:number>/raw")
    async def _raw_text(number: int) -> Response:
        return Response(_found(mailbox, number).raw, mimetype="message/rfc822")


def with_images(html: str, attachments: tuple[Attachment, ...]) -> str:
    """The HTML with ``cid:`` addresses replaced by the images they name, as data."""
    images = {
        part.content_id: part
        for part in attachments
        if part.content_id is not None
        and part.content_type in INLINE_IMAGES
        and len(part.content) <= LARGEST_INLINE_IMAGE
    }

    def data(match: re.Match[str]) -> str:
        image = images.get(match[1])
        if image is None:
            return match[0]
        return f"data:{image.content_type};base64,{base64.b64encode(image.content).decode()}"

    return _CONTENT_ID.sub(data, html)


def _found(mailbox: Mailbox, number: int) -> Message:
    message = mailbox.message(number)
    if message is None:
        abort(404, "There is no such message; the oldest ones are removed.")
    return message


def _download(content: bytes, name: str) -> Response:
    answer = Response(content, mimetype="application/octet-stream")
    # Only the last step of a path, and percent-encoded: it can neither name a folder nor break out
    # of the header.
    last = re.split(r"[/\\]", name)[-1].lstrip(".") or "attachment"
    answer.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(last, safe='')}"
    return answer


def _entry_record(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.number,
        "received_at": entry.received_at,
        "from": entry.sender,
        "to": list(entry.recipients),
        "subject": entry.subject,
        "size": entry.size,
        "attachments": entry.attachments,
    }


def _message_record(message: Message) -> dict[str, Any]:
    return {
        "id": message.number,
        "received_at": message.received_at,
        "from": message.sender,
        "to": list(message.recipients),
        "subject": message.subject,
        "size": message.size,
        "headers": dict(message.headers),
        "text": message.text,
        "html": message.html,
        "attachments": [
            {
                "part": part.number,
                "file_name": part.file_name,
                "content_type": part.content_type,
                "content_id": part.content_id,
                "size": len(part.content),
            }
            for part in message.attachments
        ],
    }
