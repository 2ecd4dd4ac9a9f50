"""HTTP for the routes of ``api``.

The server is the standard library's, one thread per connection: what takes time here is DuckDB,
which works outside Python's lock. Errors get BigQuery's shape in this one place.
"""

import gzip
import json
import threading
import traceback
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from troupe.common.logs import get_logger
from troupe.common.units import SECONDS, MiB
from troupe_demo.bigquery.accounts import GrantRefused
from troupe_demo.bigquery.api import ROUTES, Api, Request
from troupe_demo.bigquery.errors import BigQueryError

_MAX_BODY: Final = 16 * MiB
_IDLE: Final = 60 * SECONDS
_MAX_CONNECTIONS: Final = 256

_log = get_logger(__name__)


class Server(ThreadingHTTPServer):
    """The listening socket; connections beyond the bound are closed unanswered."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, api: Api) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.api = api
        self._places = threading.BoundedSemaphore(_MAX_CONNECTIONS)

    def verify_request(self, _request: Any, _address: Any) -> bool:
        """Take a place, if there is one."""
        return self._places.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection and give the place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, _request: Any, _address: Any) -> None:
        """A connection that broke; the client knows."""
        _log.info("connection_broken", error=traceback.format_exc(limit=1).splitlines()[-1])


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    timeout = _IDLE
    server: Server

    def do_GET(self) -> None:
        """Answer GET."""
        self._answer()

    def do_POST(self) -> None:
        """Answer POST."""
        self._answer()

    def do_DELETE(self) -> None:
        """Answer DELETE."""
        self._answer()

    def log_message(self, *_arguments: Any) -> None:
        """Requests are logged in their own words."""

    def _answer(self) -> None:
        split = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(split.path)
        retry_after = None
        answer: dict[str, Any] | bytes
        try:
            raw = self._body()
            if path == "/token" and self.command == "POST":
                status, answer = self._token(raw)
            else:
                status, answer = 200, self._dispatch(path, split.query, raw)
        except BigQueryError as error:
            status, answer, retry_after = error.code, error.body(), error.retry_after
        except Exception as error:  # noqa: BLE001 - a fault of ours must reach the client as one
            _log.exception("request_failed", path=path)
            message = f"{type(error).__name__}: {error}"
            status, answer = 500, BigQueryError(500, "internalError", message).body()
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(data)))
        if retry_after is not None:
            self.send_header("Retry-After", f"{retry_after:g}")
        self.end_headers()
        self.wfile.write(data)

    def _body(self) -> bytes:
        length = int(self.headers.get("Content-Length") or 0)
        if length > _MAX_BODY:
            self.close_connection = True
            raise BigQueryError(413, "invalid", "Request payload size exceeds the limit")
        raw = self.rfile.read(length)
        return gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw

    def _dispatch(self, path: str, query_string: str, raw: bytes) -> dict[str, Any] | bytes:
        api = self.server.api
        for method, pattern, operation, route in ROUTES:
            match = pattern.fullmatch(path)
            if match is None or method != self.command:
                continue
            request = Request(match.groupdict(), _query(query_string), _json(raw))
            if not operation:
                return route(api, request)
            status = 500
            try:
                api.faults.strike(operation)
                answer = route(api, api.admit(request, self.headers.get("Authorization")))
                status = 200
            except BigQueryError as error:
                status = error.code
                raise
            finally:
                labels = _labels(request.body)
                api.faults.record(operation, request.project, self.path, status, labels)
            return answer
        raise BigQueryError(404, "notFound", f"The stand-in has no {self.command} {path}")

    def _token(self, raw: bytes) -> tuple[int, dict[str, Any]]:
        api = self.server.api
        form = dict(urllib.parse.parse_qsl(raw.decode("utf-8", "replace")))
        status, answer = 200, {}
        try:
            api.faults.strike("token")
            answer = api.accounts.grant(form, f"{api.base_url}/token")
        except GrantRefused as refused:
            status = 400
            answer = {"error": refused.error, "error_description": refused.description}
        except BigQueryError as error:
            status = error.code
            answer = {"error": error.reason, "error_description": error.message}
        api.faults.record("token", "", "/token", status)
        return status, answer


def _query(text: str) -> dict[str, str]:
    parsed = urllib.parse.parse_qs(text, keep_blank_values=True)
    return {name: values[-1] for name, values in parsed.items()}


def _json(raw: bytes) -> dict[str, Any]:
    if not raw:
        return {}
    try:
        parsed = json.loads(raw)
    except ValueError:
        raise BigQueryError(400, "parseError", "Parse Error") from None
    if not isinstance(parsed, dict):
        raise BigQueryError(400, "parseError", "Parse Error: expected an object")
    return parsed


def _labels(body: dict[str, Any]) -> dict[str, str]:
    configuration = body.get("configuration")
    where = configuration if isinstance(configuration, dict) else body
    labels = where.get("labels")
    return labels if isinstance(labels, dict) else {}
