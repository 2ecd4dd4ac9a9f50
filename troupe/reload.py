"""How one configuration follows another while everything runs.

The problem. A change may concern several groups, may be wrong in ways that only a start shows, may
arrive while another is under way, while a process is crash-looping, or while Troupe stops; and
nobody who uses it at that moment may notice.

The choice: what a database would do. The difference of two *valid* configurations is computed
first (`troupe.common.config_difference`); what cannot change while it runs refuses all of it. Then

1. **Prepare.** Whatever can fail is tried, beside what runs: sockets are bound, and of every group
   that needs a new generation the first instance is started. If any of it fails, the rest is
   undone, the error is told, and the old configuration is still in force: nobody had to do without.
2. **Commit.** From here on the new configuration is in force. New generations take their places,
   old ones drain and hand their jobs back, pools are resized in place. Processes are renewed one at
   a time, so that a group of N never has more than N + 1.

Listening sockets belong to the supervisor and outlive every generation: while two of them live both
accept, and a connection that nobody has accepted yet waits in the kernel.

One reload at a time; others wait for their turn and then look at the file as it is by then.

The cost. A group that is succeeded needs memory and database connections twice for a moment (in
processes: one more process). If an instance does not start although its fellow runs the same
configuration, it stays as it was and is told; a crash of its own will start it with the new one.

Rejected: rolling back after the commit (two directions to get wrong, for what supervision repairs
anyway); stop, then start (a gap that every client sees).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from socket import socket
from typing import Any, Protocol

import trio

from troupe.common import logs
from troupe.common.config import Configuration, Placement, variable
from troupe.common.config_difference import Difference, Step, difference
from troupe.common.errors import CallerError, ConfigurationError, TroupeError
from troupe.common.scaling import KEYS, Scaling, Source, read_scaling
from troupe.http.server import bind, url_of
from troupe.placement import (
    Generation,
    PlacedGroup,
    ProcessGroup,
    check_placements,
    connections_needed,
    groups_here,
    place,
)
from troupe.platform.supervision import ChildSpec, Succession, Supervisor
from troupe.wiring import GROUPS, Site

_log = logs.get_logger(__name__)


class ChangeRefused(ConfigurationError):
    """The change cannot be made while Troupe runs; nothing was changed."""


class NotApplied(TroupeError):
    """The new configuration could not be put into force; the old one is."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reload did.

    Attributes:
        difference: What was changed.
        late: Instances that still run as before; they are the exception, and need a look.
        seconds: How long it took, draining included.
    """

    difference: Difference
    late: tuple[str, ...] = ()
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "changes": [change.as_dict() for change in self.difference.changes],
            "groups": {
                name: step.value
                for name, step in self.difference.steps.items()
                if step is not Step.KEEP
            },
            "late": list(self.late),
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True, slots=True)
class Rescaling:
    """Other sizes for one group, which a restart keeps.

    They are laid over the configuration in force and not over the file, of which something else may
    have been changed: nobody who scales wants that to happen now.

    Attributes:
        source: Where the configuration comes from.
        group: Which one.
        values: Key to value; none: what the file says is in force again.
    """

    source: Source
    group: str
    values: Mapping[str, int | Placement]

    async def apply(self, groups: "LiveGroups") -> Outcome:
        """Put them into force and keep them.

        Raises:
            CallerError: There is no such group here.
            ConfigurationError: They cannot be used or kept; nothing was changed.
            NotApplied: Something of it did not start; likewise.
        """
        if self.group not in GROUPS or not groups.configuration.runs_here(self.group):
            raise CallerError(f"no group {self.group} runs on this host")
        kept: list[tuple[Scaling, Path]] = []

        def read(before: Configuration) -> Configuration:
            scaling = read_scaling(before.state_directory)
            after, new = self._scaled(before, scaling)
            new.save(before.state_directory)
            kept.append((scaling, before.state_directory))
            return after

        try:
            return await groups.apply(read)
        except BaseException:
            for scaling, state_directory in kept:
                scaling.save(state_directory)
            raise

    def _scaled(self, before: Configuration, scaling: Scaling) -> tuple[Configuration, Scaling]:
        file = self.source.file()
        new = (
            scaling.scaled(self.group, self.values, file)
            if self.values
            else scaling.without(self.group)
        )
        # As a restart would read it, to learn whether it would and what overrides it.
        later = self.source.load_with(new).groups.named(self.group)
        for key, value in self.values.items():
            if getattr(later, key) != value:
                raise ConfigurationError(
                    f"{variable('groups', self.group, key)} in the environment of Troupe decides"
                    f" about groups.{self.group}.{key}: change it there"
                )
        keys = self.values or KEYS
        changed = {key: getattr(later, key) for key in keys}
        settings = before.groups.named(self.group).model_copy(update=changed)
        if "processes" in self.values and settings.placement is not Placement.PROCESS:
            raise ConfigurationError(
                f"{self.group} runs inline, where there are no processes to count: add"
                " --placement process"
            )
        groups = before.groups.model_copy(update={self.group: settings})
        return before.model_copy(update={"groups": groups}), new


class _Transition(Protocol):
    """One group's way from one configuration to the next."""

    async def prepare(self) -> None:
        """Do what can fail, beside what runs."""
        ...

    @property
    def ready(self) -> bool:
        """Whether what was prepared is still there."""
        ...

    async def complete(self) -> list[str]:
        """Do the rest; names of instances that remain as they were."""
        ...

    async def abandon(self) -> None:
        """Undo what was prepared, as far as it came."""
        ...


class LiveGroups:
    """The groups of this host, under one configuration after the other.

    Args:
        site: What groups are given, with the configuration to begin with.
        root: The tree's root; known once it is made of `specifications`.
        connections: That the embedded PostgreSQL allows; None: it is the operator's own.

    Attributes:
        site: As it is now.
    """

    def __init__(
        self, site: Site, root: Callable[[], Supervisor], *, connections: int | None
    ) -> None:
        self.site = site
        self._root = root
        self._connections = connections
        self._turn = trio.Lock()
        self._late_sockets: dict[str, socket] = {}
        names = groups_here(site.configuration)
        self._placed: dict[str, PlacedGroup] = {
            # Groups do not stand on one another: they start together and drain together.
            name: place(site, name, abreast=position > 0)
            for position, name in enumerate(names)
        }

    @property
    def configuration(self) -> Configuration:
        """In force."""
        return self.site.configuration

    def specifications(self) -> list[ChildSpec]:
        """The groups as children of the root."""
        return [placed.specification for placed in self._placed.values()]

    async def apply(self, read: Callable[[Configuration], Configuration]) -> Outcome:
        """Put another configuration into force, once it is our turn.

        Args:
            read: Gives it, from the one in force; may raise, and runs in a thread.

        Raises:
            ConfigurationError: It cannot be used.
            ChangeRefused: Not while Troupe runs.
            NotApplied: Something of it did not start.
        """
        async with self._turn:
            begun = trio.current_time()
            after = await trio.to_thread.run_sync(read, self.configuration)
            found = difference(self.configuration, after)
            if not found.changes:
                return Outcome(found)
            self._check(found, after)
            late = await self._carry_out(found, after)
            seconds = trio.current_time() - begun
            _log.info(
                "configuration_changed",
                changes=[str(change) for change in found.changes],
                late=late,
                seconds=round(seconds, 2),
            )
            return Outcome(found, tuple(late), seconds)

    def _check(self, found: Difference, after: Configuration) -> None:
        if found.refused:
            keys = ", ".join(change.key for change in found.refused)
            raise ChangeRefused(
                f"{keys} cannot be changed while Troupe runs: nothing was changed."
                " Restart Troupe, or put the old value back"
            )
        check_placements(after)
        # Of what changes, both generations have connections for a while.
        needed = max(connections_needed(after), self._needed_meanwhile(found, after))
        if self._connections is not None and needed > self._connections:
            raise ChangeRefused(
                f"that needs {needed} connections and the embedded PostgreSQL was started for"
                f" {self._connections}: nothing was changed. Restart Troupe with it"
            )

    def _needed_meanwhile(self, found: Difference, after: Configuration) -> int:
        moving = {name for name, step in found.steps.items() if step is Step.MOVE}
        before = connections_needed(self.configuration)
        return before + sum(
            group.all_connections * (group.processes if in_processes else 1)
            for name in moving
            for group in [after.groups.named(name)]
            for in_processes in [group.placement is Placement.PROCESS]
        )

    async def _carry_out(self, found: Difference, after: Configuration) -> list[str]:
        site = self._site_of(found, after)
        transitions = [
            transition
            for name, step in found.steps.items()
            for transition in [self._transition(site, name, step)]
            if transition is not None
        ]
        try:
            for transition in transitions:
                await transition.prepare()
            _check_ready(transitions)
        except BaseException as error:
            with trio.CancelScope(shield=True):  # bounded by shutdown deadlines
                for transition in transitions:
                    await transition.abandon()
            if isinstance(error, TroupeError):
                raise NotApplied(
                    f"the new configuration was not put into force, the old one is: {error}"
                ) from error
            raise
        self.site = site
        logs.set_level(after.log.level)
        return await self._complete(transitions)

    async def _complete(self, transitions: list[_Transition]) -> list[str]:
        late: list[str] = []

        async def complete(transition: _Transition) -> None:
            try:
                late.extend(await transition.complete())
            except TroupeError as error:  # Troupe stops, and with it both generations
                _log.warning("reload_cut_short", error=str(error))

        async with trio.open_nursery() as nursery:
            for transition in transitions:
                nursery.start_soon(complete, transition)
        return sorted(late)

    def _site_of(self, found: Difference, after: Configuration) -> Site:
        gone = {name for name, step in found.steps.items() if step is Step.STOP}
        return replace(
            self.site,
            configuration=after,
            sockets=dict(self.site.sockets),
            urls={
                name: elsewhere(after, name) if name in gone else url
                for name, url in self.site.urls.items()
            },
        )

    def _transition(self, site: Site, name: str, step: Step) -> _Transition | None:
        placed = self._placed.get(name)
        if step is Step.START:
            return _Arrival(self, site, name)
        if step is Step.STOP:
            return _Departure(self, name)
        if step in {Step.MOVE, Step.SUCCEED, Step.SCALE}:
            if isinstance(placed, ProcessGroup) and placed.running and step is not Step.MOVE:
                return (_Renewal if step is Step.SUCCEED else _Scaling)(placed, site)
            return _Replacement(self, site, name)
        # Processes hear of everything, since it is what a crash of theirs starts with.
        if placed is not None and (step is Step.RESIZE or isinstance(placed, ProcessGroup)):
            return _Resizing(placed, site)
        return None

    # ---- for the transitions

    @property
    def root(self) -> Supervisor:
        """The tree's root."""
        return self._root()

    def placed(self, name: str) -> PlacedGroup:
        """The group as it runs now."""
        return self._placed[name]

    def put(self, name: str, placed: PlacedGroup | None) -> None:
        """Remember how a group runs from now on; None: not here."""
        if placed is None:
            del self._placed[name]
        else:
            self._placed[name] = placed

    def close(self) -> None:
        """Close the sockets that were bound while it ran."""
        for late in self._late_sockets.values():
            late.close()

    def keep(self, name: str, listener: socket) -> None:
        """Remember a socket that was bound while it ran."""
        self._late_sockets[name] = listener


def _check_ready(transitions: Sequence[_Transition]) -> None:
    if not all(transition.ready for transition in transitions):
        raise NotApplied("an instance failed again right after its start")


def elsewhere(configuration: Configuration, name: str) -> str:
    """The address of a group of another host, as this host's configuration would have it."""
    settings = configuration.groups.named(name)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"


class _Resizing:
    """Bounds change in place."""

    ready = True

    def __init__(self, placed: PlacedGroup, site: Site) -> None:
        self._placed = placed
        self._site = site

    async def prepare(self) -> None:
        await trio.lowlevel.checkpoint()

    async def complete(self) -> list[str]:
        return await self._placed.resize(self._site)

    async def abandon(self) -> None:
        await trio.lowlevel.checkpoint()


class _Scaling:
    """Processes are added or drained, and bounds change in place."""

    ready = True

    def __init__(self, placed: ProcessGroup, site: Site) -> None:
        self._placed = placed
        self._site = site
        self._before: Site | None = None

    async def prepare(self) -> None:
        self._before = await self._placed.grow(self._site)

    async def complete(self) -> list[str]:
        late = await self._placed.resize(self._site)
        await self._placed.shrink(self._site.settings(self._placed.name).processes)
        return late

    async def abandon(self) -> None:
        if self._before is not None:
            await self._placed.ungrow(self._before)


class _Renewal:
    """Every process is succeeded, one at a time."""

    def __init__(self, placed: ProcessGroup, site: Site) -> None:
        self._placed = placed
        self._site = site
        self._generation: Generation | None = None

    @property
    def ready(self) -> bool:
        return self._generation is not None and self._generation.ready

    async def prepare(self) -> None:
        self._generation = await self._placed.succeed(self._site)

    async def complete(self) -> list[str]:
        assert self._generation is not None  # noqa: S101 - prepared
        return await self._generation.complete()

    async def abandon(self) -> None:
        if self._generation is not None:
            await self._generation.abandon()


class _Replacement:
    """The whole group is succeeded at once: inline, or from inline into processes and back."""

    def __init__(self, groups: LiveGroups, site: Site, name: str) -> None:
        self._groups = groups
        self._name = name
        before = groups.placed(name).specification
        self._placed = place(site, name, abreast=before.abreast)
        self._succession: Succession | None = None

    @property
    def ready(self) -> bool:
        return self._succession is not None and self._succession.ready

    async def prepare(self) -> None:
        self._succession = await self._groups.root.succeed(self._placed.specification)

    async def complete(self) -> list[str]:
        assert self._succession is not None  # noqa: S101 - prepared
        self._groups.put(self._name, self._placed)
        await self._succession.complete()
        return []

    async def abandon(self) -> None:
        if self._succession is not None:
            await self._succession.abandon()


class _Arrival:
    """A group that was elsewhere starts here."""

    ready = True

    def __init__(self, groups: LiveGroups, site: Site, name: str) -> None:
        self._groups = groups
        self._site = site
        self._name = name
        self._placed: PlacedGroup | None = None
        self._listener: socket | None = None

    async def prepare(self) -> None:
        settings = self._site.settings(self._name)
        self._listener = bind(settings.host, settings.port)
        # Nobody else has seen this site yet.
        self._site.sockets[self._name] = self._listener
        self._site.urls[self._name] = url_of(self._listener)
        placed = place(self._site, self._name, abreast=True)
        await self._groups.root.add_child(placed.specification, for_good=True)
        self._placed = placed

    async def complete(self) -> list[str]:
        assert self._placed is not None  # noqa: S101 - prepared
        assert self._listener is not None  # noqa: S101 - prepared
        self._groups.put(self._name, self._placed)
        self._groups.keep(self._name, self._listener)
        await trio.lowlevel.checkpoint()
        return []

    async def abandon(self) -> None:
        if self._placed is not None:
            await self._groups.root.remove_child(self._name, for_good=True)
        if self._listener is not None:
            self._listener.close()


class _Departure:
    """A group is elsewhere from now on: it drains, and its port is closed."""

    ready = True

    def __init__(self, groups: LiveGroups, name: str) -> None:
        self._groups = groups
        self._name = name

    async def prepare(self) -> None:
        await trio.lowlevel.checkpoint()

    async def complete(self) -> list[str]:
        self._groups.put(self._name, None)
        await self._groups.root.remove_child(self._name, for_good=True)
        self._groups.site.sockets.pop(self._name).close()
        return []

    async def abandon(self) -> None:
        await trio.lowlevel.checkpoint()
