"""Bodies that are files, over real sockets: bounded in memory, in size, in number and in time."""

import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any

import pytest
import trio

from tests.integration.http.wire import WAIT, Running, read_reply, request
from tests.unit.http.sites import KeptInMemory
from troupe.common.ids import TenantId, new_id
from troupe.common.units import KiB, MiB
from troupe.http import uploads
from troupe.http.admission import Limits
from troupe.http.application import Application, create_app
from troupe.http.conventions import AnswerModel
from troupe.http.declaration import Upload
from troupe.http.principal import Principal, Role
from troupe.http.uploads import Received

MOST = 8 * MiB
TYPE = "Content-Type: application/octet-stream"
TOKEN = "Authorization: Bearer analyst"
WHO = new_id()


class Stored(AnswerModel):
    size: int
    sha256: str
    read: int


@dataclass
class Anybody:
    async def resolve(self, bearer: str | None, *_: Any) -> Principal | None:
        if bearer is None:
            return None
        return Principal(
            kind="token",
            subject_id=WHO,
            tenant_id=TenantId(WHO),
            role=Role.ANALYST,
            scopes=frozenset({"*"}),
            name="test",
        )


@pytest.fixture
def app() -> Application:
    made = create_app("data", resolver=Anybody(), idempotency=KeptInMemory())
    made.calls = 0  # type: ignore[attr-defined]

    @made.api.post(
        "/upload",
        requires=Role.ANALYST,
        upload=Upload(("application/octet-stream", "text/csv"), MOST),
        answers={200: Stored},
        creates=True,
        summary="Take a file",
    )
    async def take(*, upload: Received) -> Stored:
        made.calls += 1  # type: ignore[attr-defined]
        return Stored(size=upload.size, sha256=upload.sha256.hex(), read=len(upload.file.read()))

    return made


def chunked(body: bytes) -> bytes:
    pieces = [body[at : at + 100_000] for at in range(0, len(body), 100_000)]
    framed = b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces)
    return framed + b"0\r\n\r\n"


@pytest.mark.parametrize("size", [0, 1, 300_000, MOST])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_file_arrives_whole(start: Any, app: Application, size: int, framing: str) -> None:
    server: Running = await start(app)
    body = os.urandom(size)
    if framing == "length":
        raw = request("POST", "/upload", TOKEN, TYPE, f"Content-Length: {size}", body=body)
    else:
        raw = request(
            "POST", "/upload", TOKEN, TYPE, "Transfer-Encoding: chunked", body=chunked(body)
        )
    reply = await server.ask(raw)
    assert reply.status == 200, reply.body
    digest = hashlib.sha256(body).hexdigest()
    assert json.loads(reply.body) == {"size": size, "sha256": digest, "read": size}


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_file_that_is_too_large_is_refused(
    start: Any, app: Application, framing: str
) -> None:
    server: Running = await start(app)
    body = bytes(MOST + 1)
    header = f"Content-Length: {len(body)}" if framing == "length" else "Transfer-Encoding: chunked"
    async with await server.connect() as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            try:
                await stream.send_all(request("POST", "/upload", TOKEN, TYPE, header))
                await stream.send_all(chunked(body) if framing == "chunked" else body)
            except trio.BrokenResourceError:
                return  # the server may hang up once it has said no

        nursery.start_soon(send)
        reply = await read_reply(stream)
        nursery.cancel_scope.cancel()
    assert reply.status == 413
    assert json.loads(reply.body)["type"] == "urn:troupe:problem:content-too-large"
    assert app.calls == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("headers", "status"),
    [((TYPE,), 401), ((TOKEN, "Content-Type: text/html"), 415), ((TOKEN,), 415)],
)
async def test_nothing_is_taken_from_whoever_may_not_send_it(
    start: Any, app: Application, headers: tuple[str, ...], status: int
) -> None:
    server: Running = await start(app)
    async with await server.connect() as stream:
        length = f"Content-Length: {MOST}"
        await stream.send_all(request("POST", "/upload", *headers, length))
        assert (await read_reply(stream)).status == status


async def test_a_repetition_is_answered_and_other_content_is_not(
    start: Any, app: Application
) -> None:
    server: Running = await start(app)

    async def send(body: bytes) -> Any:
        return await server.ask(
            request(
                "POST",
                "/upload",
                TOKEN,
                TYPE,
                "Idempotency-Key: once",
                f"Content-Length: {len(body)}",
                body=body,
            )
        )

    first, again, other = await send(b"same"), await send(b"same"), await send(b"else")
    assert first.body == again.body
    assert again.headers["idempotency-replayed"] == "true"
    assert other.status == 422
    assert app.calls == 1  # type: ignore[attr-defined]


async def test_a_client_that_stops_sending_is_left(
    start: Any, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "STALL", 0.2)
    server: Running = await start(app)
    async with await server.connect() as stream:
        raw = request("POST", "/upload", TOKEN, TYPE, "Content-Length: 1000", body=b"half")
        await stream.send_all(raw)
        assert (await read_reply(stream)).status == 408


async def test_only_a_few_at_a_time(
    start: Any, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "UPLOADS_AT_A_TIME", 1)
    server: Running = await start(app)
    slow = request("POST", "/upload", TOKEN, TYPE, "Content-Length: 10", body=b"half-")
    quick = request("POST", "/upload", TOKEN, TYPE, "Content-Length: 4", body=b"done")
    async with await server.connect() as stream:
        await stream.send_all(slow)
        with trio.fail_after(WAIT):
            while (reply := await server.ask(quick)).status == 200:
                await trio.sleep(0.01)
        assert reply.status == 503
        assert "retry-after" in reply.headers
        await stream.send_all(b"other")
        assert (await read_reply(stream)).status == 200
    assert (await server.ask(quick)).status == 200


async def test_a_client_that_leaves_frees_its_place(
    start: Any, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "UPLOADS_AT_A_TIME", 1)
    server: Running = await start(app)
    quick = request("POST", "/upload", TOKEN, TYPE, "Content-Length: 4", body=b"done")
    async with await server.connect() as stream:
        await stream.send_all(
            request("POST", "/upload", TOKEN, TYPE, "Content-Length: 10", body=b"half-")
        )
        await trio.sleep(0.1)
    with trio.fail_after(WAIT):
        while (await server.ask(quick)).status != 200:
            await trio.sleep(0.02)


async def test_what_is_written_is_no_longer_held(start: Any, app: Application) -> None:
    """A port holds less than one file; several come through nevertheless."""
    server: Running = await start(app, Limits(held_bytes=2 * MiB))
    raw = request("POST", "/upload", TOKEN, TYPE, f"Content-Length: {MOST}", body=bytes(MOST))
    for _ in range(3):
        assert (await server.ask(raw)).status == 200


async def test_a_client_is_not_read_faster_than_its_file_is_written(
    start: Any, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held up at the first piece, the server takes what its buffers take and no more."""
    held, release = trio.Event(), trio.Event()
    thread = trio.to_thread.run_sync

    async def slowly(function: Any, *args: Any, **options: Any) -> Any:
        held.set()
        await release.wait()
        return await thread(function, *args, **options)

    server: Running = await start(app)
    monkeypatch.setattr(trio.to_thread, "run_sync", slowly)
    sent = 0
    async with await server.connect() as stream, trio.open_nursery() as nursery:
        stream.setsockopt(1, 7, 64 * KiB)  # SO_SNDBUF

        async def send() -> None:
            nonlocal sent
            await stream.send_all(
                request("POST", "/upload", TOKEN, TYPE, f"Content-Length: {MOST}")
            )
            for _ in range(MOST // (64 * KiB)):
                await stream.send_all(bytes(64 * KiB))
                sent += 64 * KiB

        nursery.start_soon(send)
        with trio.fail_after(WAIT):
            await held.wait()
        before = -1
        while before != sent:
            before = sent
            await trio.sleep(0.3)
        # A piece, what may be unread, and the kernel's buffers of both sides.
        assert sent < uploads.PIECE + uploads.UNREAD + 5 * MiB < MOST
        release.set()
        assert (await read_reply(stream)).status == 200
