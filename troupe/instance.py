"""One instance of one group in a process of its own; started by the supervisor, never by hand.

``python -m troupe.instance DESCRIPTOR NAME``: the descriptor is the control stream, over which the
process hears what it shall run (`Assignment`); the name is for the list of processes.

It builds the same group as `inline` would, without anything around it: a group that fails more
often than it tolerates ends the process, and the supervisor, which sees it from outside, starts
another.

::

    supervisor                         child
    ──────────                         ─────
    exec                          ──▶  die with the supervisor
    begin: assignment             ──▶  limits, logs, group
                                  ◀──  ready
    ping, survey                  ──▶  pong, report          twice a second
    adapt: bounds                 ──▶  pools and mailboxes are resized
    stop                          ──▶  drain for the grace, cut off what is left, exit 0

A SIGTERM from an operator drains it too; it is replaced then. The process leaves with `os._exit`,
because a thread that hangs in somebody's library must not keep it.
"""

import os
import signal
import sys
from datetime import UTC, datetime
from socket import socket
from typing import Any, Final

import trio
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from troupe.common import logs
from troupe.common.bridge import open_bridge
from troupe.common.config import Configuration, revealed
from troupe.common.errors import TroupeError
from troupe.common.niceness import give_way
from troupe.platform.errors import unexpected
from troupe.platform.group import Group, Sizes
from troupe.platform.processes import Instance, confine, die_with_supervisor, open_instance
from troupe.platform.responsiveness import favour_the_loop, keep_collections_short
from troupe.platform.supervision import ChildContext, Snapshot, State, Supervisor
from troupe.wiring import Site, compose, key_ring

LISTENER: Final = "listener"
"""Name under which the group's socket is inherited."""
DRAINED: Final = 0
FAILED: Final = 1

_log = logs.get_logger(__name__)


class Assignment(BaseModel):
    """What an instance is told to run.

    Attributes:
        group: Which one.
        configuration: In force, without `database.url` and `database.runtime_url`.
        runtime_url: Where `troupe_runtime` connects.
        urls: Group to the URL of its port; of all groups.
        reserved: Processors that whoever gives way keeps off.
        plain_tracebacks: Whether a person reads the supervisor's log.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str
    configuration: Configuration
    runtime_url: str = Field(repr=False)
    urls: dict[str, str]
    reserved: frozenset[int]
    plain_tracebacks: bool

    def as_message(self) -> dict[str, Any]:
        """Plain JSON values, secrets included."""
        others = self.model_dump(mode="json", exclude={"configuration"})
        return {**others, "configuration": revealed(self.configuration)}


class Bounds(BaseModel):
    """What changes in an instance while it runs.

    Attributes:
        tasks: As in the configuration of its group.
        mailbox: Likewise.
        database_connections: Likewise.
        log_level: Least severe level that is written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: int
    mailbox: int
    database_connections: int
    log_level: str

    @classmethod
    def of(cls, configuration: Configuration, group: str) -> "Bounds":
        """Those that a configuration sets."""
        settings = configuration.groups.named(group)
        return cls(
            tasks=settings.tasks,
            mailbox=settings.mailbox,
            database_connections=settings.database_connections,
            log_level=configuration.log.level,
        )


def without_database(configuration: Configuration) -> Configuration:
    """The configuration as instances get it.

    An instance has no use for the owner's rights, and its own URL may change.
    """
    nothing = {"url": SecretStr(""), "runtime_url": SecretStr("")}
    return configuration.model_copy(
        update={"database": configuration.database.model_copy(update=nothing)}
    )


def main(descriptor: int) -> int:
    """Run the instance; returns the exit code."""
    die_with_supervisor()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is for the supervisor, which tells us
    give_way()  # as nice as we were started, and the session with us
    logs.configure(style="json")
    try:
        trio.run(_converse, descriptor)
    except BaseException as error:  # noqa: BLE001 - the exit code says it, and the log why
        _log.error("instance_failed", error=_describe(error), exc_info=unexpected(error))
        return FAILED
    return DRAINED


def _describe(error: BaseException) -> str:
    return str(error) if isinstance(error, TroupeError) else type(error).__name__


async def _converse(descriptor: int) -> None:
    async with open_instance(descriptor) as instance:
        confine(instance.memory_limit)
        assignment = Assignment.model_validate(instance.assignment)
        settings = assignment.configuration.log
        logs.configure(
            level=settings.level, style="json", plain_tracebacks=assignment.plain_tracebacks
        )
        try:
            await _live(instance, assignment)
        except Exception as error:
            await instance.fail(error)
            raise


async def _live(instance: Instance, assignment: Assignment) -> None:
    configuration = assignment.configuration
    with socket(fileno=instance.descriptors[LISTENER]) as listener:
        site = Site(
            configuration=configuration,
            sockets={assignment.group: listener},
            urls=assignment.urls,
            runtime_url=lambda: instance.database_url or assignment.runtime_url,
            keys=key_ring(configuration),
            reserved=assignment.reserved,
            snapshot=lambda: _around(tree),
            instance=instance.name,
            around=lambda: _in_its_group(instance, tree),
            others=instance.others,
            figures_from=instance.measure_from,
        )
        (group,) = compose(site, [assignment.group])
        favour_the_loop()
        instance.adapt_with(lambda settings: _adapt(group, Bounds.model_validate(settings)))
        tree = group.supervisor()
        instance.report_from(tree.snapshot)
        async with open_bridge(), trio.open_nursery() as nursery:
            nursery.start_soon(keep_collections_short)
            await nursery.start(_drain_on_sigterm, instance, configuration.shutdown.grace)
            await _supervise(instance, tree)
            nursery.cancel_scope.cancel()


def _adapt(group: Group, bounds: Bounds) -> None:
    logs.set_level(bounds.log_level)
    group.resize(
        Sizes(
            tasks=bounds.tasks,
            mailbox=bounds.mailbox,
            database_connections=bounds.database_connections,
        )
    )
    _log.info("bounds_changed", **bounds.model_dump())


async def _supervise(instance: Instance, tree: Supervisor) -> None:
    ready = trio.Event()
    context = ChildContext(tree.name, on_started=lambda _value: ready.set())

    async def tell_when_ready() -> None:
        await ready.wait()
        await instance.ready()

    async def stop_when_told() -> None:
        await instance.stopping.wait()
        context.request_stop()
        running.cancel_scope.deadline = trio.current_time() + instance.grace

    async with trio.open_nursery() as around:
        around.start_soon(tell_when_ready)
        async with trio.open_nursery() as running:
            around.start_soon(stop_when_told)
            await tree.run(context)
        if running.cancel_scope.cancelled_caught:
            _log.warning("instance_cut_off", grace=instance.grace)
        around.cancel_scope.cancel()


async def _drain_on_sigterm(
    instance: Instance,
    grace: float,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            _log.info("stop_requested", signal="SIGTERM")
            instance.stop(grace)


def _around(tree: Supervisor) -> Snapshot:
    """A root, since parts of the group look for themselves below one."""
    return Snapshot(
        name="troupe",
        kind="supervisor",
        state=State.RUNNING,
        since=datetime.now(UTC),
        children=(tree.snapshot(),),
    )


def _in_its_group(instance: Instance, tree: Supervisor) -> dict[str, Any] | None:
    """The group as the supervisor last saw it, with this instance as it is now."""
    if instance.group is None:
        return None
    own = tree.snapshot()
    children = [
        child
        if child["details"].get("pid") != os.getpid()
        else {
            **child,
            "ready": own.ready,
            "details": {**child["details"], **own.details},
            "children": own.as_dict()["children"],
        }
        for child in instance.group["children"]
    ]
    return {**instance.group, "children": children}


if __name__ == "__main__":
    code = main(int(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
