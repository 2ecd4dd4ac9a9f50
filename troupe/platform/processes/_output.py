"""A child's output, line by line into our log.

A child writes its log as JSON lines on standard error. Those stay what they are (level, time,
logger, keys) and gain `group`, `instance` and `process`. Every other line, on either stream, is
something that was not logged: a print, a warning of a C library, the last words of the interpreter.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import trio

from troupe.common.logs import get_logger, relay
from troupe.common.units import KiB

MAX_LINE: Final = 64 * KiB
"""Bytes; longer lines arrive in pieces."""
_CHUNK: Final = 16 * KiB

log = get_logger(__name__)


async def forward_output(
    source: trio.abc.ReceiveStream, stream: str, attribution: Mapping[str, Any]
) -> None:
    """Log what arrives until the other end is closed.

    Args:
        source: The pipe.
        stream: Which one it is: stdout or stderr.
        attribution: Added to every line: group, instance, process id.
    """
    unread = b""
    async with source:
        while chunk := await source.receive_some(_CHUNK):
            *lines, unread = (unread + chunk).split(b"\n")
            while len(unread) > MAX_LINE:
                lines.append(unread[:MAX_LINE])
                unread = unread[MAX_LINE:]
            for line in lines:
                _forward(line, stream, attribution)
        if unread:
            _forward(unread, stream, attribution)


def _forward(line: bytes, stream: str, attribution: Mapping[str, Any]) -> None:
    text = line.decode(errors="backslashreplace").rstrip()
    if not text:
        return
    event = _as_event(text)
    if event is not None:
        relay({**event, **attribution})
    else:
        log.warning("process_output", **attribution, stream=stream, text=text)


def _as_event(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        event = json.loads(text)
    except ValueError:
        return None
    known = isinstance(event, dict) and {"event", "level"} <= event.keys()
    return event if known else None
