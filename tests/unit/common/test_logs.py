import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import pytest
import structlog

from troupe.common import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def _fail() -> None:
    canary = "canary-in-a-local"
    raise RuntimeError("it broke" + canary[:0])


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_traceback_tells_where_but_no_local_variable(style: Literal["json", "console"]) -> None:
    stream = io.StringIO()
    logs.configure(style=style, stream=stream)
    try:
        _fail()
    except RuntimeError:
        logs.get_logger("troupe.test").exception("request_failed")
    text = stream.getvalue()
    assert "_fail" in text
    assert "it broke" in text
    assert "canary-in-a-local" not in text


def test_values_under_names_of_secrets_are_masked() -> None:
    stream = io.StringIO()
    logs.configure(style="json", stream=stream)
    log = logs.get_logger("troupe.test")
    log.info("login", password="canary", access_token="canary", fencing_token=7, user="ada")
    event = json.loads(stream.getvalue())
    assert event["password"] == event["access_token"] == "***"
    assert event["fencing_token"] == 7
    assert event["user"] == "ada"
    assert "canary" not in stream.getvalue()


def test_the_standard_library_speaks_through_the_same_stream() -> None:
    stream = io.StringIO()
    logs.configure(style="json", stream=stream)
    logging.getLogger("somebody.else").warning("careful %s", "now")
    event = json.loads(stream.getvalue())
    assert event["event"] == "careful now"
    assert event["level"] == "warning"


def test_talkative_libraries_do_not_tell_urls() -> None:
    stream = io.StringIO()
    logs.configure(style="json", level="info", stream=stream)
    logging.getLogger("httpx2").info("GET https://idp.example/token?code=canary")
    assert stream.getvalue() == ""


def test_a_line_of_another_process_is_relayed_as_it_is() -> None:
    stream = io.StringIO()
    logs.configure(style="json", stream=stream)
    line = {
        "event": "job_started",
        "level": "error",
        "logger": "troupe.platform.jobs",
        "timestamp": "2026-01-01T00:00:00Z",
        "process": 4711,
        "access_token": "***",
    }
    logs.relay(line)
    assert json.loads(stream.getvalue()) == line


def test_a_relayed_traceback_can_be_read_by_a_person() -> None:
    written, shown = io.StringIO(), io.StringIO()
    logs.configure(style="json", stream=written, plain_tracebacks=True)
    try:
        _fail()
    except RuntimeError:
        logs.get_logger("troupe.test").exception("request_failed")
    assert "canary-in-a-local" not in written.getvalue()
    logs.configure(style="console", stream=shown)
    logs.relay(json.loads(written.getvalue()))
    assert "RuntimeError: it broke" in shown.getvalue()
    assert "in _fail" in shown.getvalue()


def test_a_relayed_line_below_the_level_is_not_written() -> None:
    stream = io.StringIO()
    logs.configure(style="json", level="warning", stream=stream)
    logs.relay({"event": "child_started", "level": "info", "logger": "troupe.x"})
    assert stream.getvalue() == ""


def test_nobody_fails_for_a_line_that_nobody_reads() -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    logs.configure(style="json", stream=Gone())
    logs.get_logger("troupe.test").info("request_answered")
    closed = io.StringIO()
    logs.configure(style="json", stream=closed)
    closed.close()
    logs.get_logger("troupe.test").error("request_failed")


def test_nobody_fails_for_what_json_cannot_say() -> None:
    stream = io.StringIO()
    logs.configure(style="json", stream=stream)
    logs.get_logger("troupe.test").info("found", kinds={("a", 1): 2, "b": {3}}, path=object)
    told = json.loads(stream.getvalue())
    assert told["kinds"] == {"b": "{3}"}
    assert told["path"] == repr(object)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("Zürich \u2028 \x07", "Zürich \u2028 \x07"),
        ("half of a pair \ud800", "half of a pair \ud800"),
        (2**70, 2**70),
        (float("nan"), None),
        (datetime(2026, 1, 2, tzinfo=UTC), repr(datetime(2026, 1, 2, tzinfo=UTC))),
        (UUID(int=1), str(UUID(int=1))),
        (("a", 1), ["a", 1]),
    ],
)
def test_a_line_is_ascii_whatever_it_holds(value: object, told: object) -> None:
    stream = io.StringIO()
    logs.configure(style="json", stream=stream)
    logs.get_logger("troupe.test").info("found", value=value)
    line = stream.getvalue()
    assert line.isascii()
    assert line.count("\n") == 1
    assert json.loads(line)["value"] == told


def test_a_line_says_when_it_was_written() -> None:
    stream = io.StringIO()
    logs.configure(style="json", stream=stream)
    before = datetime.now(UTC)
    logs.get_logger("troupe.test").info("found")
    told = json.loads(stream.getvalue())["timestamp"]
    assert len(told) == len("2026-01-02T03:04:05.000006Z")
    assert before <= datetime.fromisoformat(told) <= datetime.now(UTC)


def test_the_level_can_change_and_lines_below_it_are_not_written() -> None:
    stream = io.StringIO()
    logs.configure(style="json", level="warning", stream=stream)
    log = logs.get_logger("troupe.test")
    log.info("before")
    logs.set_level("info")
    log.info("after")
    log.debug("never")
    (line,) = stream.getvalue().splitlines()
    told = json.loads(line)
    assert (told["event"], told["level"], told["logger"]) == ("after", "info", "troupe.test")


def test_what_is_known_in_a_context_is_in_its_lines() -> None:
    stream = io.StringIO()
    logs.configure(style="json", stream=stream)
    log = logs.get_logger("troupe.test")
    with logs.log_context(request_id=1, group="data"):
        with logs.log_context(request_id=2):
            logs.note_in_context(tenant_id=3)
            log.info("inner", group="said")
        log.info("outer")
    logs.note_in_context(tenant_id=4)
    log.info("outside")
    keys = ("request_id", "group", "tenant_id")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [[line.get(key) for key in keys] for line in lines] == [
        ["2", "said", "3"],
        ["1", "data", None],
        [None, None, None],
    ]
