"""Contenders' processes, seen from the parent: give an order, read answers, end them."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, NoReturn

from ops.bench.jobs.entrants import Entrant
from ops.bench.jobs.peers import ROOT
from ops.bench.jobs.worker import URLS_VARIABLE

START_DEADLINE: Final = 30.0
"""Seconds until a consumer is ready."""
END_DEADLINE: Final = 60.0
"""Seconds from the end of its standard input until it has ended."""
ORDER_DEADLINE: Final = 600.0
"""Seconds for an order that ends by itself."""

Answer = dict[str, Any]


class ContenderFailed(Exception):
    """A contender's process ended badly, or said nothing in time; its standard error says why."""


class Process:
    """A contender at work.

    Attributes:
        noted: How many handlers it has started, as last reported.
    """

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("a contender needs pipes")
        self._process = process
        self._orders_pipe, self._answers_pipe = process.stdin, process.stdout
        self._name = name
        self._answers: asyncio.Queue[Answer | None] = asyncio.Queue()
        self._silent = asyncio.Event()
        self.noted = 0

    async def read(self) -> None:
        """Sort what it says until it ends."""
        async for line in self._answers_pipe:
            answer: Answer = json.loads(line)
            if "noted" in answer:
                self.noted = answer["noted"]
            else:
                self._answers.put_nowait(answer)
        self._answers.put_nowait(None)
        self._silent.set()

    async def answer(self, deadline: float) -> Answer:
        """Its next answer."""
        try:
            async with asyncio.timeout(deadline):
                answer = await self._answers.get()
                if answer is not None:
                    return answer
                code = await self._process.wait()
        except TimeoutError:
            raise ContenderFailed(f"{self._name} said nothing for {deadline:g} s") from None
        raise ContenderFailed(f"{self._name} ended with {code}")

    async def fail(self) -> NoReturn:
        """Wait until it ends, although it should not."""
        await self._silent.wait()
        raise ContenderFailed(f"{self._name} ended with {await self._process.wait()}")

    async def ended(self) -> None:
        """Wait until it has ended by itself, as it shall after its last answer."""
        try:
            async with asyncio.timeout(END_DEADLINE):
                code = await self._process.wait()
        except TimeoutError:
            raise ContenderFailed(f"{self._name} does not end") from None
        if code != 0:
            raise ContenderFailed(f"{self._name} ended with {code}")

    async def end(self) -> None:
        """Let it stop in order; it has written its instants then."""
        self._orders_pipe.close()
        await self.answer(END_DEADLINE)


@asynccontextmanager
async def started(entrant: Entrant, urls: dict[str, str], **order: Any) -> AsyncIterator[Process]:
    """A process that carries out an order; killed if it does not end by itself."""
    process = await asyncio.create_subprocess_exec(
        str(entrant.python),
        "-m",
        entrant.module,
        json.dumps({"settings": dict(entrant.settings), **order}),
        cwd=ROOT,
        env={**os.environ, URLS_VARIABLE: json.dumps(urls)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    ours = Process(process, f"{entrant.label}: {order['do']}")
    reading = asyncio.create_task(ours.read())
    try:
        yield ours
        await ours.ended()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await reading


async def obeyed(entrant: Entrant, urls: dict[str, str], **order: Any) -> Answer:
    """The answer of a process that does one thing."""
    async with started(entrant, urls, **order) as process:
        return await process.answer(ORDER_DEADLINE)


async def obeyed_beside(
    consumer: Process, entrant: Entrant, urls: dict[str, str], *, deadline: float, **order: Any
) -> Answer:
    """As `obeyed`, while another process is at work; its end would be a failure at once."""
    async with started(entrant, urls, **order) as process:
        answering = asyncio.create_task(process.answer(deadline))
        failing = asyncio.create_task(consumer.fail())
        try:
            await asyncio.wait((answering, failing), return_when=asyncio.FIRST_COMPLETED)
            if failing.done():
                failing.result()
            return await answering
        finally:
            answering.cancel()
            failing.cancel()
            await asyncio.wait((answering, failing))
