"""An unexpected exception in one group, under load: the other two never notice."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from socket import socket
from typing import Any

import httpx2
import pytest
import trio

from troupe import wiring
from troupe.common.config import load
from troupe.supervisor import Installation, open_installation
from troupe.wiring import parts

WORKERS = 4
GROUPS = ("auth", "data", "analytics")


class Saboteur:
    """Makes the HTTP server of one group fail when it is told to: a real exception in its task."""

    def __init__(self, victim: Callable[[], socket]) -> None:
        self._victim = victim
        self._strike = trio.Event()

    def strike(self) -> None:
        strike, self._strike = self._strike, trio.Event()
        strike.set()

    async def serve(self, app: Any, sockets: Sequence[socket], **options: Any) -> None:
        async with trio.open_nursery() as nursery:
            if sockets[0] is self._victim():
                nursery.start_soon(self._fail_when_told, self._strike)
            await self._real(app, sockets, **options)
            nursery.cancel_scope.cancel()

    async def _fail_when_told(self, strike: trio.Event) -> None:
        await strike.wait()
        raise RuntimeError("sabotage")

    _real = staticmethod(parts.serve)


class Load:
    """Requests to every group, one after the other, from several workers each."""

    def __init__(self, urls: dict[str, str]) -> None:
        self._urls = urls
        self.answered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for name in GROUPS * WORKERS:
                nursery.start_soon(self._work, name)

    async def _work(self, name: str) -> None:
        async with httpx2.AsyncClient(timeout=20) as client:
            while True:
                try:
                    answer = await client.get(f"{self._urls[name]}/openapi.json")
                    counter = self.answered if answer.status_code == 200 else self.failed
                except httpx2.HTTPError:
                    counter = self.failed
                counter[name] += 1
                await trio.sleep(0.005)

    async def more(self, count: int) -> None:
        """Wait until every group has answered `count` more requests."""
        goal = {name: self.answered[name] + count for name in GROUPS}
        while any(self.answered[name] < goal[name] for name in GROUPS):
            await trio.sleep(0.01)


def _restarts(installation: Installation, *path: str) -> int:
    """0 also for a part that is gone while its group waits to be restarted."""
    wanted = "/".join(("troupe", *path))
    found = (node.restarts for name, node in installation.snapshot().walk() if name == wanted)
    return next(found, 0)


@pytest.mark.parametrize("victim", GROUPS)
async def test_a_crash_in_one_group_leaves_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    sockets: dict[str, socket] = {}
    saboteur = Saboteur(lambda: sockets[victim])
    monkeypatch.setattr(parts, "serve", saboteur.serve)
    monkeypatch.setattr(
        wiring, "compose", partial(_note_sockets, wiring.compose, sockets), raising=True
    )
    monkeypatch.setattr("troupe.placement.compose", wiring.compose)
    configuration = load(
        environment={},
        overrides={
            "state_directory": tmp_path / "state",
            "groups": {name: {"port": 0} for name in GROUPS},
        },
    )
    with trio.fail_after(90):
        async with open_installation(configuration) as installation:
            load_on = Load(dict(installation.urls))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load_on.run)
                await load_on.more(20)
                # Four crashes exceed what a group tolerates by itself: the last one ends the group,
                # and the root starts it again.
                for crash in range(1, 5):
                    saboteur.strike()
                    while (
                        _restarts(installation, victim, "http") < crash
                        and _restarts(installation, victim) == 0
                    ):
                        await trio.sleep(0.005)
                    await load_on.more(20)
                nursery.cancel_scope.cancel()
            assert _restarts(installation, victim) == 1
            for other in set(GROUPS) - {victim}:
                assert load_on.failed[other] == 0
                assert _restarts(installation, other) == 0
            # A crash may break the requests that were being answered, none of those queued.
            assert load_on.failed[victim] <= 4 * WORKERS


def _note_sockets(
    compose: Any, sockets: dict[str, socket], site: wiring.Site, names: Sequence[str]
) -> Any:
    sockets.update(site.sockets)
    return compose(site, names)
