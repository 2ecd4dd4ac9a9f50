"""What a supervisor and a child process say to each other.

One JSON object a line, each with the protocol's version and its type. Both ends are always of the
same installation, yet a process may be older than the files on the disk: a version that is not ours
is refused, never guessed at.

============== ============ =======================================================
message        said by      meaning
============== ============ =======================================================
``begin``      supervisor   the first message: who you are and what you shall run
``ready``      child        everything runs
``ping``       supervisor   answer at once, from the loop
``pong``       child        the answer, with the loop's lag since the last one
``survey``     supervisor   how the whole group looks; say how you look
``report``     child        the answer: the child's supervision tree
``database``   supervisor   PostgreSQL is somewhere else now
``adapt``      supervisor   other bounds hold from now on
``adapted``    child        the answer: they do
``scrape``     child        somebody asks me for the figures of the whole group
``measure``    supervisor   what are yours?
``measured``   child        the answer
``figures``    supervisor   the answer to a scrape, one for each other instance, then an empty one
``stop``       supervisor   drain and end
``failed``     child        the last message before an end that nobody asked for: why
============== ============ =======================================================
"""

import json
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from troupe.common.units import MiB
from troupe.platform.errors import ProtocolBroken

VERSION: Final = 1
MAX_MESSAGE: Final = 1 * MiB
"""Bytes of one message, its end of line included."""


class Message(BaseModel):
    """Base of what is said over a `Channel`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = VERSION


class Begin(Message):
    """Who the child is.

    Attributes:
        instance: Its name, such as ``data-1``.
        descriptors: What it inherited, by name.
        memory_limit: MiB; 0: none.
        assignment: What it shall run, for the program and not for the platform to understand.
    """

    type: Literal["begin"] = "begin"
    instance: str
    descriptors: dict[str, int]
    memory_limit: int
    assignment: dict[str, Any]


class Ready(Message):
    """Everything runs."""

    type: Literal["ready"] = "ready"


class Ping(Message):
    """Answer at once."""

    type: Literal["ping"] = "ping"
    sequence: int


class Pong(Message):
    """The answer to the ping of the same number.

    Attributes:
        sequence: Of the ping.
        lag: Seconds by which the loop was late at most since the last pong.
    """

    type: Literal["pong"] = "pong"
    sequence: int
    lag: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Survey(Message):
    """How the group looks from outside, all instances; answered by a report."""

    type: Literal["survey"] = "survey"
    group: dict[str, Any]


class Report(Message):
    """The child's supervision tree, as `Snapshot.as_dict` writes it."""

    type: Literal["report"] = "report"
    tree: dict[str, Any]


class DatabaseMoved(Message):
    """PostgreSQL is at this URL now."""

    type: Literal["database"] = "database"
    url: str = Field(repr=False)


class Adapt(Message):
    """Other bounds hold from now on.

    Attributes:
        number: Of this message, for its answer.
        settings: For the program and not for the platform to understand.
    """

    type: Literal["adapt"] = "adapt"
    number: int
    settings: dict[str, Any]


class Adapted(Message):
    """The bounds of the message of the same number hold."""

    type: Literal["adapted"] = "adapted"
    number: int


class Scrape(Message):
    """Tell me the figures of the other instances of my group; one at a time."""

    type: Literal["scrape"] = "scrape"
    number: int


class Measure(Message):
    """Tell me your figures."""

    type: Literal["measure"] = "measure"
    number: int


class Measured(Message):
    """The figures of one instance, as `troupe.http.operations` writes them."""

    type: Literal["measured"] = "measured"
    number: int
    figures: list[Any]


class Figures(Message):
    """The figures of one other instance.

    Attributes:
        number: Of the scrape.
        instance: Whose; empty: these were all.
        figures: None: it did not answer.
    """

    type: Literal["figures"] = "figures"
    number: int
    instance: str
    figures: list[Any] | None


class Stop(Message):
    """Drain and end.

    Attributes:
        grace: Seconds for that.
    """

    type: Literal["stop"] = "stop"
    grace: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Failed(Message):
    """Why the child ends.

    Attributes:
        fault: Whose, so that the supervisor's command ends with the right code.
        reason: One line without secrets.
    """

    type: Literal["failed"] = "failed"
    fault: Literal["configuration", "database", "peer", "ours"]
    reason: Annotated[str, Field(max_length=1000)]


SaidToChild = Begin | Ping | Survey | DatabaseMoved | Adapt | Measure | Figures | Stop
SaidByChild = Ready | Pong | Report | Adapted | Scrape | Measured | Failed

to_child: Final[TypeAdapter[SaidToChild]] = TypeAdapter(
    Annotated[SaidToChild, Field(discriminator="type")]
)
from_child: Final[TypeAdapter[SaidByChild]] = TypeAdapter(
    Annotated[SaidByChild, Field(discriminator="type")]
)


def encode(message: Message) -> bytes:
    """The line of a message.

    Raises:
        ProtocolBroken: It is larger than `MAX_MESSAGE`.
    """
    line = json.dumps(message.model_dump(mode="json"), separators=(",", ":")).encode() + b"\n"
    if len(line) > MAX_MESSAGE:
        raise ProtocolBroken(f"a message has {len(line)} bytes, more than {MAX_MESSAGE}")
    return line


def decode(adapter: TypeAdapter[Any], line: bytes) -> Any:
    """The message in a line.

    Raises:
        ProtocolBroken: It is none; the reason quotes nothing of the line, which may hold secrets.
    """
    try:
        return adapter.validate_json(line)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the line"
        raise ProtocolBroken(f"not a message: {where}: {problem['type']}") from None
