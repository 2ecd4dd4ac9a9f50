"""With the front or without it: the same answers, over real sockets."""

import asyncio
import logging
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
import structlog
import trio

from tests.integration.analytics.warehouse import Warehouse
from tests.integration.http.wire import Reply, Running, read_reply, read_to_end
from tests.support.postgres import TestDatabase
from tests.unit.http.test_http_plain import TOKENS
from troupe.actors.analytics.answers import Answers
from troupe.actors.analytics.keeping import AnswerCache
from troupe.actors.analytics.standing import Standing
from troupe.actors.auth.access_tokens import issue_token
from troupe.common.bridge import aio
from troupe.common.database import Database, open_database
from troupe.common.logs import merge_context
from troupe.common.units import MiB
from troupe.http import analytics
from troupe.http.admission import Limits
from troupe.http.answering import Answering
from troupe.http.application import Application, HttpSettings, create_app
from troupe.http.credentials import REMEMBERED, Credentials
from troupe.http.front import KeptAnswers
from troupe.http.plain import PlainRequest
from troupe.http.principal import Principal, Role
from troupe.http.security import Rate
from troupe.http.server import bind, serve

DAY: Final = date(2026, 3, 30)
PATH: Final = "/api/v1/stats?start_date=2026-03-01&end_date=2026-03-30"
VARYING: Final = {"date", "x-request-id", "ratelimit"}


@dataclass
class People:
    """Who a token belongs to; forgotten when it is taken out."""

    known: dict[str, Principal] = field(default_factory=dict)
    asked: int = 0

    async def resolve(
        self, bearer: str | None, session_cookie: str | None, requested_tenant: UUID | None
    ) -> Principal | None:
        self.asked += 1 if requested_tenant is None else 0
        return self.known.get(bearer or session_cookie or "")

    def recall_token(self, bearer: str) -> Principal | None:
        return self.known.get(bearer)


class Counting(KeptAnswers):
    """A front that counts what it answers."""

    answered = 0
    seen = 0

    def answer(self, request: PlainRequest, peer: str) -> bytes | None:
        found = super().answer(request, peer)
        self.seen += 1
        self.answered += found is not None
        return found


@dataclass
class Port:
    """A server with a front, or one without."""

    running: Running
    app: Application
    front: Counting | None
    people: People
    shop: Warehouse

    async def ask(self, raw: bytes) -> Reply:
        async with await self.running.connect() as stream:
            await stream.send_all(raw)
            return await read_reply(stream)


def plain(path: str = PATH, *headers: str, token: str | None = "viewer") -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: test", *headers]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.fixture(scope="module")
def shop(module_database: TestDatabase) -> Warehouse:
    made = Warehouse("Shop", "Europe/Berlin", version=1, data_until=DAY)
    made.add_random_days([DAY], ["b1", "b2"], random.Random(1))
    asyncio.run(made.store(module_database.runtime_url))
    return made


@pytest.fixture
async def pool(bridge: None, module_database: TestDatabase) -> AsyncIterator[Database]:
    async with open_database(module_database.runtime_url, connections=3) as database:
        yield database


@asynccontextmanager
async def port(
    database: Database,
    shop: Warehouse,
    *,
    with_front: bool = True,
    limits: Limits | None = None,
    max_age: float = 60.0,
    **settings: Any,
) -> AsyncIterator[Port]:
    viewer = Principal(
        "token", uuid4(), shop.tenant, Role.VIEWER, frozenset({"analytics:read"}), "Viewer"
    )
    people = People(
        {
            "viewer": viewer,
            "narrow": replace(viewer, subject_id=uuid4(), scopes=frozenset({"data:read"})),
        }
    )
    app = create_app("analytics", resolver=people, settings=HttpSettings(**settings))
    answers, cache = Answers(database), AnswerCache(8 * MiB)
    answering = Answering(
        answers, cache=cache, standing=Standing(answers.reporting, cache.drop, max_age=max_age)
    )
    analytics.declare(app.api, answering)
    front = Counting(app, answering, people) if with_front else None
    with bind("127.0.0.1", 0) as bound:
        running = Running(bound.getsockname()[1])
        async with trio.open_nursery() as nursery:

            async def run(task_status: Any) -> None:
                await serve(
                    app, [bound], shutdown=running.shutdown, limits=limits, front=front,
                    task_status=task_status,
                )  # fmt: skip
                running.ended.set()

            await nursery.start(run)
            yield Port(running, app, front, people, shop)
            nursery.cancel_scope.cancel()


def comparable(reply: Reply) -> tuple[int, dict[str, str], bytes]:
    headers = {name: value for name, value in reply.headers.items() if name not in VARYING}
    body = reply.body
    if reply.status >= 400:
        body = body.replace(reply.headers["x-request-id"].encode(), b"id")
        headers.pop("content-length")
    return reply.status, headers, body


HANDLED: Final = {
    "plain": plain(),
    "with harmless headers": plain(PATH, "Accept: text/html", "User-Agent: x", "DNT: 1"),
    "kept alive": plain(PATH, "Connection: Keep-Alive"),
    "with an id": plain(PATH, "X-Request-Id: my-request-1"),
    "with an id that is none": plain(PATH, "X-Request-Id: no id, this"),
}
LEFT: Final = {
    "another spelling": plain(PATH.replace("stats", "st%61ts")),
    "another question": plain("/api/v1/stats?preset=7d"),
    "nothing there": plain("/api/v1/nothing"),
    "bad question": plain("/api/v1/stats?preset=8d"),
    "a cookie": plain(PATH, "Cookie: a=b"),
    "an origin": plain(PATH, "Origin: https://evil.example"),
    "a tenant": plain(PATH, f"X-Tenant-Id: {UUID(int=1)}"),
    "a tag": plain(PATH, 'If-None-Match: "x"'),
    "no token": plain(token=None),
    "an unknown token": plain(token="unheard"),
    "too narrow a token": plain(token="narrow"),
    "no bearer": plain(PATH, "Authorization: Basic dmlld2Vy", token=None),
    "another host": plain().replace(b"Host: test", b"Host: other"),
    "close": plain(PATH, "Connection: close"),
    "HTTP/1.0": plain().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "no host": plain().replace(b"Host: test\r\n", b""),
    "two hosts": plain(PATH, "Host: test"),
    "an empty body": plain(PATH, "Content-Length: 0"),
    "both lengths": plain(PATH, "Content-Length: 3", "Transfer-Encoding: chunked"),
    "post": plain().replace(b"GET", b"POST"),
    "control": plain(PATH, "User-Agent: a\x01b"),
    "forwarded": plain(PATH, "X-Forwarded-For: 10.0.0.1"),
    "line feeds": plain().replace(b"\r\n", b"\n"),
}  # fmt: skip


async def test_answers_are_the_same_with_and_without_the_front(
    pool: Database, shop: Warehouse
) -> None:
    async with port(pool, shop) as front, port(pool, shop, with_front=False) as usual:
        assert front.front is not None
        for each in (front, usual):
            assert (await each.ask(plain())).status == 200  # now it is kept
        for what, raw in {**HANDLED, **LEFT}.items():
            before = front.front.answered
            ours, theirs = await front.ask(raw), await usual.ask(raw)
            assert comparable(ours) == comparable(theirs), what
            assert ours.headers.keys() == theirs.headers.keys(), what
            assert front.front.answered - before == (what in HANDLED), what
            if what == "with an id":
                assert ours.headers["x-request-id"] == "my-request-1"


async def ask_in_pieces(stream: trio.SocketStream, raw: bytes, cut: int) -> Reply:
    """The answer to a request of which the rest comes later."""
    await stream.send_all(raw[:cut])
    await trio.sleep(0.05)
    await stream.send_all(raw[cut:])
    return await read_reply(stream)


async def test_a_request_in_pieces_or_in_a_row_takes_the_usual_way(
    pool: Database, shop: Warehouse
) -> None:
    async with port(pool, shop) as site:
        assert site.front is not None
        expected = comparable(await site.ask(plain()))
        raw = plain()
        async with await site.running.connect() as stream:
            # From here on there is a protocol, and what it has begun to read it goes on with.
            await stream.send_all(plain("/health/live", "TE: trailers"))
            assert (await read_reply(stream)).status == 200
            for cut in (1, 30, len(raw) - 1):
                assert comparable(await ask_in_pieces(stream, raw, cut)) == expected
            assert site.front.answered == 0
            # Between two requests of the usual way the front answers, on the same connection.
            for _ in range(3):
                await stream.send_all(raw)
                assert comparable(await read_reply(stream)) == expected
            assert site.front.answered >= 2
        async with await site.running.connect() as stream:
            await stream.send_all(raw + raw + plain(PATH, "Connection: close"))
            everything = await read_to_end(stream)
        assert everything.count(b"HTTP/1.1 200") == 3
        assert everything.count(expected[2]) == 3


async def test_who_has_asked_for_nothing_else_may_send_a_head_in_pieces(
    pool: Database, shop: Warehouse
) -> None:
    async with port(pool, shop) as site:
        assert site.front is not None
        expected = comparable(await site.ask(plain()))
        raw = plain()
        async with await site.running.connect() as stream:
            for number, cut in enumerate((1, 30, len(raw) - 1), start=1):
                assert comparable(await ask_in_pieces(stream, raw, cut)) == expected
                assert site.front.answered == number


async def test_a_token_that_is_forgotten_or_an_answer_that_has_changed_is_not_given(
    pool: Database, shop: Warehouse
) -> None:
    async with port(pool, shop, max_age=0.3) as site:
        assert site.front is not None
        await site.ask(plain())
        old = await site.ask(plain())
        assert site.front.answered == 1
        try:
            await pool.execute(
                "UPDATE data.versions SET data_version = data_version + 1", tenant=shop.tenant
            )
            await trio.sleep(0.4)
            new = await site.ask(plain())
            assert new.headers["etag"] != old.headers["etag"]
            assert site.front.answered == 1
            assert (await site.ask(plain())).headers["etag"] == new.headers["etag"]
            assert site.front.answered == 2
        finally:
            await pool.execute(
                "UPDATE data.versions SET data_version = data_version - 1", tenant=shop.tenant
            )
        del site.people.known["viewer"]
        assert (await site.ask(plain())).status == 401


async def test_after_a_load_the_same_question_is_found_under_its_new_tag(
    pool: Database, shop: Warehouse
) -> None:
    elsewhere = plain().replace(b"Host: test", b"Host: other")
    async with port(pool, shop, max_age=0.3) as site:
        assert site.front is not None
        old = await site.ask(plain())
        try:
            await pool.execute(
                "UPDATE data.versions SET data_version = data_version + 1", tenant=shop.tenant
            )
            await trio.sleep(0.4)
            new = await site.ask(elsewhere)  # looks, and has it kept
            assert new.headers["etag"] != old.headers["etag"]
            assert site.front.answered == 0
            assert comparable(await site.ask(plain())) == comparable(new)
            assert site.front.answered == 1
        finally:
            await pool.execute(
                "UPDATE data.versions SET data_version = data_version - 1", tenant=shop.tenant
            )


async def test_rates_count_here_as_there(pool: Database, shop: Warehouse) -> None:
    rate = Rate(requests=6, burst=6)
    async with port(pool, shop, principal_rate=rate) as site:
        assert site.front is not None
        replies = [await site.ask(plain()) for _ in range(8)]
        assert [reply.status for reply in replies] == [200] * 6 + [429] * 2
        assert site.front.answered == 5
        remaining = [reply.headers["ratelimit"].partition("r=")[2][0] for reply in replies[:6]]
        assert remaining == ["5", "4", "3", "2", "1", "0"]
        policies = {reply.headers["ratelimit-policy"] for reply in replies[:6]}
        assert len(policies) == 1


async def test_the_log_says_the_same(
    pool: Database, shop: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with port(pool, shop) as site:
        with structlog.testing.capture_logs(processors=[merge_context]) as lines:
            await site.ask(plain())
            await site.ask(plain())
        usual, front = [line for line in lines if line["event"] == "request_answered"]
        assert site.front is not None
        assert site.front.answered == 1
        assert usual.keys() == front.keys()
        for name in usual.keys() - {"milliseconds", "request_id"}:
            assert usual[name] == front[name], name
        measured = (await site.app.metrics.text()).decode()
        assert 'route="/api/v1/stats",status="200"} 2.0' in measured
        assert 'troupe_http_requests_in_flight{group="analytics"} 0.0' in measured


async def test_what_the_front_answers_counts_against_idleness(
    pool: Database, shop: Warehouse
) -> None:
    async with port(pool, shop, limits=Limits(idle=1.5)) as site:
        await site.ask(plain())
        async with await site.running.connect() as stream:
            for _ in range(5):
                await trio.sleep(0.6)
                await stream.send_all(plain())
                assert (await read_reply(stream)).status == 200
            began = trio.current_time()
            assert await read_to_end(stream, 5) == b""
            assert 0.8 < trio.current_time() - began < 4


async def test_a_client_that_does_not_read_is_let_go(pool: Database, shop: Warehouse) -> None:
    async with port(pool, shop, limits=Limits(stall=0.5)) as site:
        await site.ask(plain())
        async with await site.running.connect() as stream:
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with trio.move_on_after(20) as scope:
                try:
                    while True:
                        await stream.send_all(plain())
                        await trio.sleep(0.001)
                except trio.BrokenResourceError:
                    pass
            assert not scope.cancelled_caught
        assert (await site.ask(plain())).status == 200


async def test_a_server_that_ends_lets_the_usual_way_say_so(
    pool: Database, shop: Warehouse
) -> None:
    async with port(pool, shop) as site:
        await site.ask(plain())
        async with await site.running.connect() as stream:
            await stream.send_all(plain())
            await read_reply(stream)
            assert await site.running.stop() < 3
            assert await read_to_end(stream, 5) == b""


async def test_mutated_requests_are_answered_the_same(pool: Database, shop: Warehouse) -> None:
    """Over sockets too. What is no whole request is ended when a head must have come."""
    dice = random.Random(20261126)
    limits = Limits(idle=1.0, head=1.0)
    async with (
        port(pool, shop, limits=limits) as front,
        port(pool, shop, limits=limits, with_front=False) as usual,
    ):
        for each in (front, usual):
            await each.ask(plain())
        answers: dict[bytes, list[Any]] = {}

        async def compare(raw: bytes) -> None:
            answers[raw] = [await everything(each.running, raw) for each in (front, usual)]

        async with trio.open_nursery() as nursery:
            for _ in range(150):
                raw = bytearray(plain(PATH, dice.choice(["Accept: a", "X-Request-Id: abcdefgh"])))
                at = dice.randint(0, len(raw))
                token = dice.choice([b"", *TOKENS])
                if dice.random() < 0.3:  # harmless, for once
                    at, token = raw.index(b": a") + 3, str(dice.random()).encode()
                raw[at : at + dice.choice([0, 0, 1, 2])] = token
                nursery.start_soon(compare, bytes(raw))
        for raw, (ours, theirs) in answers.items():
            assert ours == theirs, raw
        assert front.front is not None
        assert 5 < front.front.answered < len(answers)


async def everything(running: Running, raw: bytes) -> list[tuple[bytes, bytes]]:
    """Status lines and bodies of all that comes back."""
    async with await running.connect() as stream:
        await stream.send_all(raw)
        data = await read_to_end(stream)
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in lines)
        size = int(headers.get(b"content-length", b"0"))
        body, data = data[:size], data[size:]
        found.append((first, b"" if b"request_id" in body else body))
    return found


async def test_credentials_tell_what_they_remember(pool: Database, shop: Warehouse) -> None:
    """The real look-up: known once it was looked up, for as long as it is remembered."""
    issued = await issue_token(pool, shop.tenant, name="front", role="viewer")
    credentials = Credentials(pool)
    assert credentials.recall_token(issued.token) is None
    resolved = await credentials.resolve(issued.token, None, None)
    assert credentials.recall_token(issued.token) == resolved
    assert credentials.recall_token(issued.token + "x") is None
    await aio(asyncio.sleep(REMEMBERED + 0.1))
    assert credentials.recall_token(issued.token) is None
