"""Structured logs: one event per line, JSON for machines, colours for a terminal.

Event names are constants in lower snake case; what varies travels as key and value. Values under
keys that name a secret are masked here as the last line of defence: the first is not to log them.
Tracebacks never show local variables, which hold whatever a request or a connection carries.
Logs go to standard error, so that a command's standard output stays its answer.
"""

import json
import logging
import sys
import time
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from functools import lru_cache
from threading import Lock
from typing import Any, Literal, TextIO

import orjson
import structlog

_SECRET_WORDS = (
    "password",
    "secret",
    "token",
    "authorization",
    "cookie",
    "private_key",
    "assertion",
)
_TALKATIVE = ("httpx2", "httpcore2", "asyncssh", "urllib3", "google.auth")
"""Libraries that tell at level info what we log ourselves, some of them with whole URLs."""
_HARMLESS = frozenset({"token_id", "fencing_token", "token_kind"})

_LEVELS = logging.getLevelNamesMapping()

Style = Literal["auto", "json", "console"]

_scope: ContextVar[dict[str, object] | None] = ContextVar("log_context", default=None)
_encode = json.JSONEncoder(default=repr, skipkeys=True, separators=(",", ":")).encode


def _as_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    """One line of ASCII, whatever the event holds."""
    try:
        line = orjson.dumps(event, repr, _AS_THE_OTHER)
    except TypeError:
        return _encode(event)
    return line.decode("ascii") if line.isascii() else _encode(event)


_AS_THE_OTHER = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def _drop_below_level(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    if not logger.says(_LEVELS[method.upper()]):
        raise structlog.DropEvent
    return event


def merge_context(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A processor of structlog: adds what is known from `log_context` and not said otherwise."""
    for key, value in (_scope.get() or {}).items():
        event.setdefault(key, str(value))
    return event


def _mask_secrets(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for key in _secrets_among(tuple(event)):
        event[key] = "***"
    return event


@lru_cache(maxsize=4096)
def _secrets_among(keys: tuple[str, ...]) -> tuple[str, ...]:
    """The keys of a line that name a secret; the lines of one place have the same keys."""
    return tuple(key for key in keys if _names_a_secret(key.lower()))


def _names_a_secret(lowered: str) -> bool:
    return lowered not in _HARMLESS and any(word in lowered for word in _SECRET_WORDS)


def _add_timestamp(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """What `structlog.processors.TimeStamper` adds, in a fifth of the time."""
    seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    event["timestamp"] = f"{_second(seconds)}.{microseconds:06}Z"
    return event


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


class _Lines:
    """Takes a logger's finished lines to the stream.

    Stands where structlog expects a logger of the standard library, whose way from a line to the
    stream takes longer than everything else about it; a request is one line.
    """

    _lock = Lock()

    def __init__(self, name: str, stream: TextIO) -> None:
        self.name = name
        self.says = logging.getLogger(name).isEnabledFor
        self._stream = stream

    def info(self, line: str) -> None:
        """Write it, or lose it where nobody reads any more: a line is no reason to fail."""
        with self._lock, suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = warning = error = critical = info


def is_for_people(style: Style, target: TextIO | None = None) -> bool:
    """Whether a style means text rather than JSON on a stream (default: standard error)."""
    return style == "console" or (style == "auto" and (target or sys.stderr).isatty())


def configure(
    *,
    level: str = "info",
    style: Style = "auto",
    stream: TextIO | None = None,
    plain_tracebacks: bool = False,
) -> None:
    """Set up logging for this process; also routes the standard library's loggers through it.

    Args:
        level: debug, info, warning or error.
        style: ``auto`` writes for people when the stream is a terminal, else JSON.
        stream: Where to write; standard error by default.
        plain_tracebacks: Whether JSON holds tracebacks as text, because a person reads them in
            the end (see `relay`).
    """
    target = stream or sys.stderr
    human = is_for_people(style, target)
    tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    shared: list[structlog.typing.Processor] = [
        merge_context,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _add_timestamp,
        _mask_secrets,
    ]
    render: list[structlog.typing.Processor] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
        if human
        else [
            structlog.processors.format_exc_info
            if plain_tracebacks
            else structlog.processors.ExceptionRenderer(tracebacks),
            _as_json,
        ]
    )
    structlog.configure(
        processors=[_drop_below_level, *shared, *render],
        logger_factory=lambda name: _Lines(name, target),
        # The level is the standard library's business, since it may change; see `set_level`.
        wrapper_class=structlog.make_filtering_bound_logger("debug"),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    # What our lines do not say need not be found out (see "Optimization" in logging's manual).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    vars(logging)["_srcfile"] = None
    for library in _TALKATIVE:
        logging.getLogger(library).setLevel(logging.WARNING)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)


def set_level(level: str) -> None:
    """Write lines of this level and above from now on."""
    logging.getLogger().setLevel(level.upper())


def relay(event: Mapping[str, object]) -> None:
    """Write a line that another process logged; its time, level and logger stay what they are.

    Args:
        event: What the other process wrote as JSON. An unknown level counts as info.
    """
    level = logging.getLevelNamesMapping().get(str(event.get("level")).upper(), logging.INFO)
    logger = logging.getLogger(str(event.get("logger", __name__)))
    # Handed to the formatter as structlog itself hands its finished events over.
    logger.log(level, dict(event), extra={"_logger": None, "_name": "relay"})


class log_context:  # noqa: N801 - used like a function
    """Adds keys to every line that is logged inside; a value is turned into text only then.

    Cheaper than `structlog.contextvars` by far, for what runs thousands of times a second. Tasks
    that are started inside inherit it.
    """

    __slots__ = ("_previous", "_values")

    def __init__(self, **values: object) -> None:
        self._values = values

    def __enter__(self) -> None:
        self._previous = _scope.set({**(_scope.get() or {}), **self._values})

    def __exit__(self, *_exception: object) -> None:
        _scope.reset(self._previous)


def note_in_context(**values: object) -> None:
    """Add keys to the rest of the innermost `log_context`; without one, to nothing."""
    scope = _scope.get()
    if scope is not None:
        scope.update(values)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A module's logger; call it with ``__name__``."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
