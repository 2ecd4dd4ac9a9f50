"""Actors: state behind a mailbox, one message at a time, restarted by a supervisor.

An `Actor` is the address that others hold: a name, a mailbox and the books. A `Behaviour` is one
incarnation: the state and what it does with a message. A restart makes a new behaviour; the address
stays valid throughout.

**A restart keeps the mailbox.** Erlang throws it away with the process, because there it is part of
the process. Here it belongs to the address. Kept: senders that were told their message was taken
are not punished for a neighbour's bad message, and the queue is bounded anyway. Not kept is the one
message that was being handled: it was delivered, it may be what broke the actor, and trying it
again would make a single poisonous message a restart loop up to the top of the tree. So delivery is
at most once; what must survive a crash is a job in the database, not a message.

**A question fails at once.** Whoever asks is waiting now. When the actor fails, the asker of the
message in hand gets `ActorCrashed`, askers in the queue and new ones get `ActorUnavailable`, and
their messages are taken out: the asker may well ask again, and the first should not be carried out
as well. The same when the asker's deadline passes before its turn. Past that point nobody can tell,
and `AskDeadlineExceeded` says so.

**Errors that are the sender's fault do not kill the actor.** A handler that raises a `CallerError`
answers with it; any other exception is a failure of the actor.

An actor that asks itself, or two that ask each other, wait in vain until the deadline: that is what
the deadline is for. Deadlines and queues are in memory; nothing here survives the process.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar, cast

import trio

from troupe.common.errors import CallerError
from troupe.common.logs import get_logger
from troupe.common.units import SECONDS
from troupe.platform.dead_letters import DeadLetters, Reason
from troupe.platform.errors import (
    ActorCrashed,
    ActorUnavailable,
    AskDeadlineExceeded,
    summarise,
)
from troupe.platform.mailbox import (
    Envelope,
    Mailbox,
    MailboxSettings,
    MailboxStatistics,
    Reply,
)
from troupe.platform.supervision import Backoff, ChildContext, ChildSpec, Observation, Restart

M = TypeVar("M")
R = TypeVar("R")

CLOSE_DEADLINE: Final = 5 * SECONDS
"""How long a behaviour may take to close, also when its actor was cancelled."""

log = get_logger(__name__)


class Request(Generic[R]):
    """Base of messages that are answered: ``class Balance(Request[int])`` answers with an int."""


class Behaviour(ABC, Generic[M]):
    """One incarnation of an actor. Its methods never run at the same time as each other."""

    async def opened(self) -> None:
        """Called before the first message; the actor is ready when it returns."""

    @abstractmethod
    async def handle(self, message: M) -> object:
        """Do what the message says; what is returned answers a `Request`."""

    async def closed(self) -> None:
        """Called after the last message; also after a failure, even of `opened`, or a stop."""


class _Condition(StrEnum):
    NEW = "has not been started"
    RUNNING = "is running"
    RESTARTING = "is being restarted"
    STOPPED = "has stopped"


@dataclass(frozen=True, slots=True)
class ActorStatistics:
    """An actor's books, over all incarnations.

    Attributes:
        mailbox: Where its messages are.
        handled: Messages whose handling ended, in whatever way.
        refused: Of those, answered with a `CallerError`.
        failed: Of those, that made the actor fail.
        late: Answers that came after the asker had given up.
        busy: Whether it handles a message now.
    """

    mailbox: MailboxStatistics
    handled: int
    refused: int
    failed: int
    late: int
    busy: bool


class Actor(Generic[M]):
    """The address of an actor.

    Args:
        name: Unique in its group.
        behaviour: Makes the state of one incarnation.
        mailbox: Bound and overflow policy.
        dead_letters: Where undelivered messages are counted; the group's.
    """

    def __init__(
        self,
        name: str,
        behaviour: Callable[[], Behaviour[M]],
        *,
        mailbox: MailboxSettings | None = None,
        dead_letters: DeadLetters | None = None,
    ) -> None:
        self.name = name
        self.dead_letters = dead_letters if dead_letters is not None else DeadLetters()
        self._behaviour = behaviour
        self._mailbox = Mailbox[M](name, mailbox or MailboxSettings(), self.dead_letters)
        self._condition = _Condition.NEW
        self._handled = self._refused = self._failed = self._late = 0
        self._in_hand: Envelope[M] | None = None

    # ---- for senders

    async def tell(self, message: M, *, deadline: float | None = None) -> None:
        """Leave a message; returns when it is in the mailbox.

        Args:
            message: What to say.
            deadline: Seconds to wait for a place in a full mailbox whose policy is to wait; by
                default the mailbox's own patience.

        Raises:
            MailboxFull: It is in the dead letters instead.
            ActorUnavailable: The actor has stopped; likewise.
        """
        await self._mailbox.put(Envelope(message), deadline=deadline)

    async def ask(self, request: Request[R], *, deadline: float) -> R:
        """Leave a message and wait for its answer.

        Args:
            request: What to ask; one of the messages that this actor understands.
            deadline: Seconds until the answer must be there, all waiting included.

        Raises:
            AskDeadlineExceeded: It was not. Whether the message took effect is unknown.
            ActorCrashed: The actor failed over this message. Likewise.
            ActorUnavailable: The actor is restarting or has stopped; the message had no effect.
            MailboxFull: The mailbox takes no more; the message had no effect.
            CallerError: What the handler found wrong with the request.
        """
        reply = Reply()
        envelope = Envelope(cast("M", request), reply)
        if self._condition is not _Condition.RUNNING:
            restarting = self._condition is _Condition.RESTARTING
            self._mailbox.refuse(envelope, Reason.RESTARTING if restarting else Reason.STOPPED)
            raise ActorUnavailable(f"{self.name} {self._condition.value}")
        try:
            with trio.move_on_after(deadline):
                await self._mailbox.put(envelope, deadline=math.inf)
                await reply.settled.wait()
        finally:
            reply.given_up = not reply.settled.is_set()
            self._mailbox.withdraw(envelope, Reason.ABANDONED)
        if reply.given_up:
            raise AskDeadlineExceeded(f"{self.name} did not answer within {deadline:g} s")
        if reply.error is not None:
            raise reply.error
        return cast("R", reply.value)

    def resize(self, mailbox: int) -> None:
        """Change how many messages may wait in the mailbox."""
        self._mailbox.resize(mailbox)

    def statistics(self) -> ActorStatistics:
        """The books as they stand."""
        return ActorStatistics(
            mailbox=self._mailbox.statistics(),
            handled=self._handled,
            refused=self._refused,
            failed=self._failed,
            late=self._late,
            busy=self._in_hand is not None,
        )

    # ---- for the supervisor

    def child_spec(
        self,
        *,
        restart: Restart = Restart.PERMANENT,
        start_deadline: float = 30 * SECONDS,
        shutdown: float = 5 * SECONDS,
        backoff: Backoff | None = None,
    ) -> ChildSpec:
        """This actor as a child of a supervisor.

        Until the shutdown deadline (seconds) has passed, a stopping actor works through its
        mailbox.
        """
        return ChildSpec(
            name=self.name,
            start=self._live,
            restart=restart,
            start_deadline=start_deadline,
            shutdown=shutdown,
            backoff=backoff or Backoff(),
            kind="actor",
            retired=self._retired,
        )

    async def _live(self, context: ChildContext) -> None:
        behaviour = self._behaviour()
        context.observe(self._observation)
        context.when_stopping(lambda: self._stop_requested(context))
        try:
            await behaviour.opened()
            if not self._stops_for_good(context):
                self._mailbox.open()
            self._condition = _Condition.RUNNING
            context.started(self)
            while not self._may_leave(context):
                envelope = await self._mailbox.get()
                if envelope is not None:
                    await self._handle(behaviour, envelope)
        finally:
            # Without a stop request it may come back, until `_retired` says otherwise.
            for_good = self._stops_for_good(context)
            self._condition = _Condition.STOPPED if for_good else _Condition.RESTARTING
            self._mailbox.drop_questions(Reason.STOPPED if for_good else Reason.RESTARTING)
            with trio.move_on_after(CLOSE_DEADLINE, shield=True):
                await behaviour.closed()

    @staticmethod
    def _stops_for_good(context: ChildContext) -> bool:
        return context.stopping.is_set() and not context.restarting

    def _stop_requested(self, context: ChildContext) -> None:
        if not context.restarting:
            self._mailbox.close()
        self._mailbox.interrupt()

    def _may_leave(self, context: ChildContext) -> bool:
        """A restart leaves the queue to the next incarnation; a stop works through it first."""
        return context.stopping.is_set() and (context.restarting or self._mailbox.empty)

    async def _handle(self, behaviour: Behaviour[M], envelope: Envelope[M]) -> None:
        reply = envelope.reply or Reply()
        self._in_hand = envelope
        try:
            answer = await behaviour.handle(envelope.message)
        except CallerError as error:
            self._refused += 1
            if envelope.reply is None:
                log.warning(
                    "message_refused",
                    actor=self.name,
                    message=type(envelope.message).__name__,
                    error=summarise(error),
                )
            reply.fail(error)
        except Exception as error:
            self._failed += 1
            reply.fail(ActorCrashed(f"{self.name} failed: {summarise(error)}"))
            raise
        except BaseException:
            reply.fail(ActorUnavailable(f"{self.name} was stopped"))
            raise
        else:
            self._late += reply.given_up
            reply.answer(answer)
        finally:
            self._in_hand = None
            self._handled += 1

    def _retired(self) -> None:
        """It will not come back by itself: what is still in the mailbox reaches nobody."""
        self._condition = _Condition.STOPPED
        self._mailbox.close()
        self._mailbox.drop_all(Reason.STOPPED)

    def _observation(self) -> Observation:
        books = self._mailbox.statistics()
        return Observation(
            details={
                "mailbox_depth": books.depth,
                "mailbox_capacity": books.capacity,
                "mailbox_waiting": books.waiting,
                "delivered": books.delivered,
                "busy": self._in_hand is not None,
                **self.dead_letters.details(self.name),
            }
        )


AnyActor = Actor[Any]
"""An actor of whatever messages, for lists of them."""
