"""A model of the job protocol: who may hold a job, and whose work counts.

The problem. Processes are killed, stopped for minutes and continued, cut off; statements are
carried out although nobody hears the answer, or long after their sender gave up. The promise has to
hold in every order of such events: *at most one attempt can commit through us*, no job is lost, no
limit exceeded. Tests against the real system reach the orders that happen to happen; this model
reaches the others.

The choice. `job_database` holds what is atomic. `Protocol` adds the processes and what is under way
between them and the database, and lists the steps that could be next. `JobProtocolMachine` lets
Hypothesis choose among them. Processes are modelled worse than they are: a stale attempt never
notices by itself, a handler never takes a cancellation for an answer, requests are carried out in
any order. Nothing that is promised may rest on good behaviour.

Each `Flaw` takes one precaution away, and a counterexample must be found for each: a model that
cannot fail proves nothing.

The cost. Hypothesis samples orders, it does not exhaust them as a model checker would; in return
the model is in the project's language, runs with its tests, and can be read beside the statements.
Rejected: TLA+ (a second language and a Java program for a state space this small); one Hypothesis
rule per step (it switches off a random half of all rules for each run, and a story that needs ten
different steps is then hardly ever told).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from job_database import (
    FINISHED,
    LEASE,
    MAX_ATTEMPTS,
    TENANTS,
    Attempt,
    Claim,
    Database,
    Flaw,
    Outcome,
    State,
    Violated,
)

PROCESSES: Final = 2
MOST_JOBS: Final = 3
SETTLING_ROUNDS: Final = MOST_JOBS * MAX_ATTEMPTS + 3 * LEASE
MOST_REQUESTS: Final = 4
"""Under way at a time."""

FAMILIES: Final = (
    *("claims", "handlers", "requests", "rescue") * 3,
    *("people", "time", "transactions", "trouble"),
)
"""Kinds of steps, as often as they are proposed: were it all trouble, there would be nothing to
trouble."""


@dataclass(eq=False)
class Process:
    """A process of ours.

    Attributes:
        name: What it calls itself in the database; a new one after it was declared dead.
        stopped: It sees no time and takes no step, until it is continued.
        answers: Of claims, on their way.
        attempts: What it believes to run.
    """

    name: int
    stopped: bool = False
    answers: list[list[Attempt]] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    def __str__(self) -> str:
        return f"process {self.name}"

    @property
    def ended(self) -> list[tuple[Attempt, Outcome]]:
        """What it wants recorded: one statement for all, sent again until it is answered."""
        return [(a, a.outcome) for a in self.attempts if a.outcome is not None]

    def stop(self, *, stopped: bool) -> None:
        """Stop or continue it."""
        self.stopped = stopped


@dataclass(eq=False)
class Request:
    """A statement on its way to the database; nobody may be left to hear the answer.

    Attributes:
        sender: Who asked.
        process: Under which name.
        group: What to record; empty: it is a heartbeat.
    """

    sender: Process
    process: int
    group: tuple[tuple[Attempt, Outcome], ...] = ()

    def __str__(self) -> str:
        what = ", ".join(f"{outcome} of {attempt}" for attempt, outcome in self.group)
        return f"process {self.process}'s {what or 'heartbeat'}"


@dataclass(frozen=True)
class Step:
    """Something that may happen next.

    Attributes:
        words: What, in a sentence.
        take: Makes it happen.
    """

    words: str
    take: Callable[[], object]


class Protocol:
    """Processes, what is under way, and the database."""

    def __init__(self, flaw: Flaw | None = None) -> None:
        self.database = Database(flaw)
        self.processes = [Process(self.database.register()) for _ in range(PROCESSES)]
        self.requests: list[Request] = []

    # ---- what could be next, by family

    def steps(self) -> dict[str, list[Step]]:
        """All steps that are possible now."""
        awake = [process for process in self.processes if not process.stopped]
        return {
            "people": list(self._by_people()),
            "time": list(self._of_time(awake)),
            "claims": list(self._of_claims(awake)),
            "handlers": [
                step
                for process in awake
                for attempt in process.attempts
                for step in self._of_handler(process, attempt)
            ],
            "transactions": list(self._of_transactions()),
            "requests": list(self._of_requests(awake)),
            "rescue": list(self._of_rescue()),
            "trouble": list(self._of_trouble(awake)),
        }

    def _by_people(self) -> Iterator[Step]:
        database = self.database
        if len([job for job in database.jobs if job.state not in FINISHED]) < MOST_JOBS:
            for tenant in range(TENANTS):
                yield Step(
                    f"tenant {tenant} enqueues job {len(database.jobs)}",
                    partial(database.enqueue, tenant),
                )
        for number, job in enumerate(database.jobs):
            if job.state in {State.CANCELLED, State.DEAD}:
                yield Step(f"job {number} shall run again", partial(database.revive, number))
            elif database.can_request_cancel(number):
                yield Step(
                    f"job {number} shall be cancelled", partial(database.request_cancel, number)
                )

    def _of_time(self, awake: Iterable[Process]) -> Iterator[Step]:
        for ticks in (1, LEASE + 1):
            yield Step(f"{ticks} ticks pass", partial(self.database.pass_time, ticks))
        for process in awake:
            yield from self._sending(Request(process, process.name))

    def _of_claims(self, awake: Iterable[Process]) -> Iterator[Step]:
        for claim in self.database.claims:
            yield Step(f"process {claim.process} is granted jobs", partial(self.grant, claim))
        waiting = any(job.state is State.AVAILABLE for job in self.database.jobs)
        for process in awake:
            if process.answers:
                yield Step(f"{process} hears what it claimed", partial(self.hear, process))
            elif waiting and self.database.can_count(process.name):
                yield Step(f"{process} begins to claim", partial(self.database.count, process.name))

    def _of_handler(self, process: Process, attempt: Attempt) -> Iterator[Step]:
        if attempt.outcome is not None:
            return
        if attempt not in self.database.fences:
            yield Step(f"{attempt} begins a transaction", partial(self.fence, process, attempt))
        # It may end with a transaction open: the word to commit can be on its way.
        outcomes = [Outcome.COMPLETE, Outcome.FAIL]
        if self.database.jobs[attempt.job].cancel_requested:
            outcomes.append(Outcome.CANCEL)
        for outcome in outcomes:
            yield Step(f"{attempt} ends: {outcome}", partial(attempt.end, outcome))

    def _of_transactions(self) -> Iterator[Step]:
        for attempt in self.database.fences:
            yield Step(f"{attempt} commits", partial(self.database.commit, attempt))
            yield Step(f"{attempt} is rolled back", partial(self.database.abort, attempt))

    def _of_requests(self, awake: Iterable[Process]) -> Iterator[Step]:
        for request in self.requests:
            if self.database.can_record(request.group):
                for answered in (True, False):
                    yield Step(
                        f"{request} is carried out{'' if answered else ', the answer is lost'}",
                        partial(self.carry_out, request, answered=answered),
                    )
        for process in awake:
            for group in (process.ended, self.unknown_to(process)):
                if group:
                    yield from self._sending(Request(process, process.name, tuple(group)))

    def _sending(self, request: Request) -> Iterator[Step]:
        if len(self.requests) < MOST_REQUESTS:
            yield Step(f"{request} is sent", partial(self.requests.append, request))

    def _of_rescue(self) -> Iterator[Step]:
        database = self.database
        for name in database.processes:
            if database.can_mark_dead(name):
                yield Step(f"process {name} is declared dead", partial(database.mark_dead, name))
            if database.can_forget(name):
                yield Step(f"process {name} is forgotten", partial(database.forget, name))
        for number in range(len(database.jobs)):
            if database.can_rescue(number):
                yield Step(f"job {number} is rescued", partial(database.rescue, number))

    def _of_trouble(self, awake: Iterable[Process]) -> Iterator[Step]:
        database = self.database
        for process in self.processes:
            yield Step(f"{process} crashes", partial(self.crash, process))
            what = "continued" if process.stopped else "stopped"
            yield Step(f"{process} is {what}", partial(process.stop, stopped=not process.stopped))
        for process in awake:
            if database.can_give_back(process.name):
                yield Step(f"{process} shuts down", partial(self.shut_down, process))
            if process.answers:
                yield Step(
                    f"what {process} claimed is lost on the way", partial(self.lose, process)
                )
        for claim in database.claims:
            yield Step(
                f"the claim of process {claim.process} is rolled back",
                partial(database.claims.remove, claim),
            )
        for request in self.requests:
            yield Step(f"{request} is lost", partial(self.requests.remove, request))

    # ---- steps

    def grant(self, claim: Claim) -> None:
        """A claim is granted; the answer is on its way, if its process still goes by that name."""
        granted = self.database.grant(claim)
        for process in self.processes:
            if granted and process.name == claim.process:
                process.answers.append(granted)

    def hear(self, process: Process) -> None:
        """The answer of a claim arrives: its attempts begin."""
        process.attempts += process.answers.pop(0)

    def lose(self, process: Process) -> None:
        """The answer of a claim is lost."""
        process.answers.pop(0)

    def unknown_to(self, process: Process) -> list[tuple[Attempt, Outcome]]:
        """What the database thinks it runs although it does not: the answer of a claim was lost."""
        if process.answers or any(c.process == process.name for c in self.database.claims):
            return []  # it cannot be certain yet
        held = [self.database.jobs[job].latest for job in self.database.held_by(process.name)]
        known = {attempt.token for attempt in process.attempts}
        return [(a, Outcome.RELEASE) for a in held if a is not None and a.token not in known]

    def fence(self, process: Process, attempt: Attempt) -> None:
        """An attempt begins a transaction with the fence."""
        if not self.database.fence(attempt):
            process.attempts.remove(attempt)  # it has learned that the job is lost

    def carry_out(self, request: Request, *, answered: bool) -> None:
        """The database carries a request out; ``answered``: the sender hears of it."""
        self.requests.remove(request)
        sender = request.sender
        hears = answered and not sender.stopped
        if request.group:
            self.database.record(request.group)
            if hears:
                recorded = {attempt for attempt, _ in request.group}
                sender.attempts = [a for a in sender.attempts if a not in recorded]
            return
        alive = self.database.extend(request.process)
        goes_by_it = sender in self.processes and sender.name == request.process
        if not alive and hears and goes_by_it:
            sender.name = self.database.register()  # its attempts go on, worse than in reality

    def crash(self, process: Process) -> None:
        """It is gone and replaced; what it has sent is under way all the same."""
        self.processes[self.processes.index(process)] = Process(self.database.register())

    def shut_down(self, process: Process) -> None:
        """It gives everything back; its handlers may not have noticed yet."""
        self.database.give_back(process.name)
        process.name = self.database.register()

    # ---- the end

    def settle(self) -> None:
        """Let all that is under way end, and one process work undisturbed: all jobs must finish."""
        database = self.database
        for process in self.processes[1:]:
            process.stopped = True
        worker = Process(database.register())
        self.processes[0] = worker
        for attempt in tuple(database.fences):
            database.abort(attempt)
        for claim in tuple(database.claims):
            self.grant(claim)
        for request in tuple(self.requests):
            self.carry_out(request, answered=False)
        for _ in range(SETTLING_ROUNDS):
            self._round(worker)
            database.check()
        left = [number for number, job in enumerate(database.jobs) if job.state not in FINISHED]
        if left:
            raise Violated(f"jobs {left} never finish")

    def _round(self, worker: Process) -> None:
        database = self.database
        database.pass_time(1)
        database.extend(worker.name)
        while steps := list(self._of_rescue()):
            steps[0].take()
        database.count(worker.name)
        for claim in tuple(database.claims):
            self.grant(claim)
        while worker.answers:
            self.hear(worker)
        for attempt in worker.attempts:
            attempt.end(Outcome.COMPLETE)
        database.record(worker.ended)
        worker.attempts.clear()


class JobProtocolMachine(RuleBasedStateMachine):
    """Hypothesis chooses the steps.

    Args:
        flaw: The precaution that is left out.
    """

    def __init__(self, flaw: Flaw | None = None) -> None:
        super().__init__()
        self.protocol = Protocol(flaw)
        for tenant in range(TENANTS):
            self.protocol.database.enqueue(tenant)
        self.told: list[str] = []
        self._broken = False

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        """Take one of the possible steps."""
        steps = self.protocol.steps()
        families = [family for family in FAMILIES if steps[family]]
        family = families[data.draw(st.integers(0, len(families) - 1))]
        chosen = steps[family][data.draw(st.integers(0, len(steps[family]) - 1))]
        self.told.append(chosen.words)
        try:
            chosen.take()
        except Violated as violated:
            raise self._told(violated) from None

    @invariant()
    def the_promises_hold(self) -> None:
        """What the database alone can tell."""
        try:
            self.protocol.database.check()
        except Violated as violated:
            raise self._told(violated) from None

    def teardown(self) -> None:
        """In the end all jobs finish, whatever happened before."""
        if self._broken:
            return
        try:
            self.protocol.settle()
        except Violated as violated:
            raise self._told(violated) from None

    def _told(self, violated: Violated) -> Violated:
        self._broken = True
        story = "".join(f"\n{number:3}. {words}" for number, words in enumerate(self.told, 1))
        return Violated(f"{violated}{story}")
