"""The control protocol: what is understood, and that nothing else is."""

import json

import pytest
import trio
import trio.testing

from troupe.common.units import MiB
from troupe.platform.errors import ProtocolBroken
from troupe.platform.processes._channel import Channel
from troupe.platform.processes._messages import (
    MAX_MESSAGE,
    Begin,
    DatabaseMoved,
    Failed,
    Ping,
    Pong,
    Ready,
    Report,
    Stop,
    Survey,
    encode,
    from_child,
    to_child,
)

TO_CHILD = [
    Begin(instance="data-1", descriptors={"listener": 5}, memory_limit=0, assignment={"a": [1]}),
    Ping(sequence=7),
    Survey(group={"name": "data", "children": []}),
    DatabaseMoved(url="postgresql://canary@127.0.0.1/x"),
    Stop(grace=2.5),
]
FROM_CHILD = [
    Ready(),
    Pong(sequence=7, lag=0.25),
    Report(tree={"name": "data"}),
    Failed(fault="database", reason="PostgreSQL has not started yet"),
]


def streams(incoming):
    ours, theirs = trio.testing.memory_stream_pair()
    return theirs, Channel(ours, incoming)


@pytest.mark.parametrize(("incoming", "messages"), [(to_child, TO_CHILD), (from_child, FROM_CHILD)])
async def test_messages_arrive_as_they_were_sent_however_the_bytes_are_cut(incoming, messages):
    raw, channel = streams(incoming)
    data = b"".join(encode(message) for message in messages)
    heard = []

    async def listen():
        while (message := await channel.receive()) is not None:
            heard.append(message)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        for position in range(0, len(data), 3):
            await raw.send_all(data[position : position + 3])
        await raw.send_eof()
    assert heard == messages


@pytest.mark.parametrize(
    "line",
    [
        b"canary",
        b"[]",
        b"{}",
        b'{"version":1,"type":"canary"}',
        b'{"version":2,"type":"ready"}',
        b'{"type":"pong","version":1,"sequence":1}',
        b'{"type":"pong","version":1,"sequence":"1","lag":0.0}',
        b'{"type":"pong","version":1,"sequence":1,"lag":-1.0}',
        b'{"type":"pong","version":1,"sequence":1,"lag":NaN}',
        b'{"type":"ready","version":1,"canary":1}',
        b'{"type":"ping","version":1,"sequence":1}',
        b"\xff\xfe",
        b"[" * 10_000,
    ],
)
async def test_what_is_no_message_of_the_child_is_refused_without_being_quoted(line):
    raw, channel = streams(from_child)
    await raw.send_all(line + b"\n")
    with pytest.raises(ProtocolBroken) as caught:
        await channel.receive()
    assert "canary" not in str(caught.value).replace("canary: extra", "")
    assert caught.value.__cause__ is None


async def test_a_message_without_an_end_is_refused_at_the_bound():
    raw, channel = streams(from_child)
    taken = 0

    async def flood():
        nonlocal taken
        while True:
            await raw.send_all(b"x" * (MiB // 16))
            taken += MiB // 16

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        with pytest.raises(ProtocolBroken, match="more than"):
            await channel.receive()
        nursery.cancel_scope.cancel()


async def test_a_message_that_breaks_off_is_refused_and_an_end_between_two_is_the_end():
    raw, channel = streams(from_child)
    await raw.send_all(encode(Ready()) + b'{"type":')
    await raw.send_eof()
    assert await channel.receive() == Ready()
    with pytest.raises(ProtocolBroken, match="breaks off"):
        await channel.receive()
    raw, channel = streams(from_child)
    await raw.send_eof()
    assert await channel.receive() is None


async def test_a_message_that_is_too_large_is_not_sent():
    _, channel = streams(from_child)
    with pytest.raises(ProtocolBroken, match=str(MAX_MESSAGE)):
        await channel.send(Survey(group={"a": "x" * MAX_MESSAGE}))


async def test_a_message_that_nobody_takes_is_given_up_at_the_deadline():
    ours, _theirs = trio.testing.lockstep_stream_pair()
    channel = Channel(ours, from_child, patience=4)
    begun = trio.current_time()
    with pytest.raises(ProtocolBroken, match="4 s"):
        await channel.send(Ping(sequence=1))
    assert trio.current_time() - begun == pytest.approx(4)


def test_a_url_with_a_password_is_not_shown():
    assert "canary" not in repr(DatabaseMoved(url="postgresql://u:canary@h/d"))
    assert "canary" in json.loads(encode(DatabaseMoved(url="postgresql://u:canary@h/d")))["url"]
