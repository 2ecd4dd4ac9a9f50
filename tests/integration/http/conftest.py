"""One listening socket per test, and servers on it, one after the other or side by side."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio

from tests.integration.http.wire import WAIT, Running, Site, make_site
from troupe.http import connection
from troupe.http.admission import Limits
from troupe.http.server import bind, serve

WAYS = ["direct", "hypercorn"]
"""How a plain request may be answered; the tests of connections hold for both."""
Start = Callable[..., Awaitable[Running]]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    bound = bind("127.0.0.1", 0)
    yield bound
    bound.close()


@pytest.fixture
def site() -> Site:
    return make_site()


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By which every request of a test goes."""
    if request.param == "hypercorn":
        monkeypatch.setattr(connection, "read_plain", lambda _raw: None)
    return str(request.param)


@pytest.fixture
async def start(nursery: trio.Nursery, listener: socket.socket) -> AsyncIterator[Start]:
    async def run(app: Any, limits: Limits | None = None) -> Running:
        running = Running(listener.getsockname()[1])

        async def task(task_status: trio.TaskStatus[list[str]]) -> None:
            try:
                with running.scope:
                    await serve(
                        app,
                        [listener],
                        shutdown=running.shutdown,
                        limits=limits,
                        task_status=task_status,
                    )
            finally:
                running.ended.set()

        with trio.fail_after(WAIT):
            await nursery.start(task)
        return running

    yield run
    nursery.cancel_scope.cancel()
