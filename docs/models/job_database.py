"""The database of the job protocol: what PostgreSQL does for it, in steps that are atomic there.

Each step is what a statement promises, without the statement. Where a lock decides whether a step
may be taken now, ``can_…`` says so; a step that waits for a lock and one that skips what is locked
are both simply not taken yet.

Whether a step was right is decided by what only the model knows: each claim makes an `Attempt`, an
object; the database looks at tokens alone. An outcome or an effect of an attempt that is not the
job's latest is a violation, whatever the tokens say.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

TENANTS: Final = 2
LEASE: Final = 3
"""Ticks of the database's clock without a heartbeat until a process may be declared dead."""
MAX_ATTEMPTS: Final = 3
KIND_LIMIT: Final = 2
TENANT_LIMIT: Final = 1


class Flaw(StrEnum):
    """A precaution that is left out."""

    COMPLETION_BY_ID = "completion by id only"
    NAMED_BY_COUNTER = (
        "what names an attempt is the attempt counter, which giving a job back decrements"
    )
    RESCUE_IGNORES_FENCES = "a rescue takes a job away from a fenced transaction"
    CLAIM_IGNORES_FENCES = "a claim takes a job although a fenced transaction is open on it"
    CLAIM_IGNORES_DEATH = "a claim does not keep its process from being declared dead"
    TICKETS_TRUSTED = "a claim takes what a ticket names without looking at the job"
    LIMITS_COUNTED_APART = "counting what runs and claiming are not serialised"


class Violated(AssertionError):
    """A promise was broken."""


class State(StrEnum):
    """Where a job is."""

    AVAILABLE = "available"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    DEAD = "dead"


FINISHED: Final = frozenset({State.DONE, State.CANCELLED, State.DEAD})


class Outcome(StrEnum):
    """What a process wants recorded about an attempt."""

    COMPLETE = "complete"
    FAIL = "fail"
    CANCEL = "cancel"
    RELEASE = "release"
    """Nobody knows of it (the answer of its claim was lost): as if it had not been."""


@dataclass(eq=False)
class Attempt:
    """One claim of one job.

    Attributes:
        job: The job's number.
        serial: Which claim of all it was; only the model knows.
        token: What the database knows it by.
        process: The name under which its process claimed it.
        outcome: How the handler ended, once it has.
        taken: Whether the job was taken away from it; only the model knows.
    """

    job: int
    serial: int
    token: int
    process: int
    outcome: Outcome | None = None
    taken: bool = False

    def __str__(self) -> str:
        return f"attempt {self.serial} (job {self.job}, token {self.token})"

    def end(self, outcome: Outcome) -> None:
        """The handler ends; the first word counts."""
        self.outcome = self.outcome or outcome


@dataclass
class Job:
    """A job's row, and behind it what only the model knows.

    Attributes:
        tenant: Whose.
        state: Where it is.
        attempts: Attempts that count.
        token: Of the last claim.
        holder: The process that runs it, by its name.
        cancel_requested: Whether somebody asked for its end.
        latest: The last claim.
        completions: In this run: since it was enqueued or revived.
        effects: What attempts have committed under the fence, in that order.
    """

    tenant: int
    state: State = State.AVAILABLE
    attempts: int = 0
    token: int = 0
    holder: int | None = None
    cancel_requested: bool = False
    latest: Attempt | None = None
    completions: int = 0
    effects: list[Attempt] = field(default_factory=list)


@dataclass
class ProcessRow:
    """A process as the database knows it."""

    heartbeat: int
    dead: bool = False


@dataclass(eq=False)
class Claim:
    """The transaction of a claim, between its count and its grant."""

    process: int
    room: int
    room_of_tenant: dict[int, int]


class Database:
    """What PostgreSQL does, one atomic step per method. ``can_…`` says whether locks allow it."""

    def __init__(self, flaw: Flaw | None) -> None:
        self.flaw = flaw
        self.now = 0
        self.jobs: list[Job] = []
        self.tickets: set[int] = set()
        self.processes: dict[int, ProcessRow] = {}
        self.claims: list[Claim] = []
        self.fences: list[Attempt] = []
        """Open transactions of attempts that have passed the fence."""
        self._serials = self._tokens = self._names = 0

    def pass_time(self, ticks: int) -> None:
        """Move the one clock that counts."""
        self.now += ticks

    # ---- processes

    def register(self) -> int:
        """A process begins its lease under a new name."""
        self._names += 1
        self.processes[self._names] = ProcessRow(self.now)
        return self._names

    def extend(self, process: int) -> bool:
        """A heartbeat; False: the process was declared dead, or is forgotten."""
        row = self.processes.get(process)
        if row is None or row.dead:
            return False
        row.heartbeat = self.now
        return True

    def can_mark_dead(self, process: int) -> bool:
        """Its lease has run out, and no claim holds its row."""
        row = self.processes[process]
        return (
            not row.dead and row.heartbeat + LEASE < self.now and not self._row_is_locked(process)
        )

    def mark_dead(self, process: int) -> None:
        """From here on its heartbeats count for nothing, and its jobs are given back one by one."""
        self.processes[process].dead = True

    def can_forget(self, process: int) -> bool:
        """Everything it held has been given back."""
        return self.processes[process].dead and not self.held_by(process)

    def forget(self, process: int) -> None:
        """Delete its row."""
        del self.processes[process]

    def can_give_back(self, process: int) -> bool:
        """No claim of it is under way, and no transaction holds one of its jobs."""
        held = self.held_by(process)
        return not self._row_is_locked(process) and not any(map(self.is_fenced, held))

    def give_back(self, process: int) -> None:
        """A process that shuts down returns its jobs as if it had not had them."""
        for job in self.held_by(process):
            self._take(job)
            self._release(job)
        self.processes.pop(process, None)

    def held_by(self, process: int) -> list[int]:
        """The jobs that run under a process's name."""
        return [number for number, job in enumerate(self.jobs) if job.holder == process]

    def _row_is_locked(self, process: int) -> bool:
        if self.flaw is Flaw.CLAIM_IGNORES_DEATH:
            return False
        return any(claim.process == process for claim in self.claims)

    # ---- jobs

    def enqueue(self, tenant: int) -> int:
        """Make a job, and the ticket by which it is found; returns its number."""
        self.jobs.append(Job(tenant))
        self.tickets.add(len(self.jobs) - 1)
        return len(self.jobs) - 1

    def is_fenced(self, job: int) -> bool:
        """Whether a transaction that passed the fence is open on a job."""
        return any(attempt.job == job for attempt in self.fences)

    def can_request_cancel(self, job: int) -> bool:
        """It waits and is not locked, or it runs and was not asked before."""
        # One that waits is moved at once, and its row may be locked.
        row = self.jobs[job]
        waits = row.state is State.AVAILABLE and not self.is_fenced(job)
        return waits or (row.state is State.RUNNING and not row.cancel_requested)

    def request_cancel(self, job: int) -> None:
        """End a job that waits; mark one that runs."""
        row = self.jobs[job]
        row.cancel_requested = True
        if row.state is State.AVAILABLE:
            self._finish(row, State.CANCELLED)  # its ticket stays behind

    def revive(self, job: int) -> None:
        """Run a job again that ended without success."""
        row = self.jobs[job]
        row.attempts, row.completions, row.cancel_requested = 0, 0, False
        self._make_available(job)

    # ---- claims: the grant of limits is one critical section, from the count to the grant

    def can_count(self, process: int) -> bool:
        """The process is alive, and nobody else is between counting and granting."""
        row = self.processes.get(process)
        free = not self.claims or self.flaw is Flaw.LIMITS_COUNTED_APART
        return free and row is not None and not row.dead

    def count(self, process: int) -> None:
        """Begin a claim: how many jobs may be granted."""
        running = [job.tenant for job in self.jobs if job.state is State.RUNNING]
        rooms = {tenant: TENANT_LIMIT - running.count(tenant) for tenant in range(TENANTS)}
        self.claims.append(Claim(process, KIND_LIMIT - len(running), rooms))

    def grant(self, claim: Claim) -> list[Attempt]:
        """End a claim: hand out what there is room for, and forget tickets that lead nowhere."""
        self.claims.remove(claim)
        granted = []
        for number in sorted(self.tickets):
            job = self.jobs[number]
            if claim.room < 1:
                break
            if self.is_fenced(number) and self.flaw is not Flaw.CLAIM_IGNORES_FENCES:
                continue
            if job.state is not State.AVAILABLE and self.flaw is not Flaw.TICKETS_TRUSTED:
                self.tickets.remove(number)  # stale
            elif claim.room_of_tenant[job.tenant] > 0:
                self.tickets.remove(number)
                claim.room -= 1
                claim.room_of_tenant[job.tenant] -= 1
                granted.append(self._hand_out(number, claim.process))
        return granted

    def _hand_out(self, number: int, process: int) -> Attempt:
        job = self.jobs[number]
        if job.state is not State.AVAILABLE:
            raise Violated(f"job {number} runs although it is {job.state}")
        self._serials += 1
        self._tokens += 1
        job.state, job.holder, job.attempts = State.RUNNING, process, job.attempts + 1
        job.token = job.attempts if self.flaw is Flaw.NAMED_BY_COUNTER else self._tokens
        job.latest = Attempt(number, self._serials, job.token, process)
        return job.latest

    # ---- what attempts do

    def fence(self, attempt: Attempt) -> bool:
        """Begin a transaction that keeps the job; False: the attempt does not hold it."""
        if not self._holds(attempt):
            return False
        self.fences.append(attempt)
        return True

    def commit(self, attempt: Attempt) -> None:
        """Commit an effect: this is where a stale attempt would do harm."""
        self.fences.remove(attempt)
        job = self.jobs[attempt.job]
        if attempt.taken or job.latest is not attempt:
            raise Violated(f"a stale effect: {attempt} committed, the latest is {job.latest}")
        if job.effects and job.effects[-1].token > attempt.token:
            raise Violated(f"effects out of order: {attempt} after {job.effects[-1]}")
        job.effects.append(attempt)

    def abort(self, attempt: Attempt) -> None:
        """Roll back."""
        self.fences.remove(attempt)

    def can_record(self, group: Sequence[tuple[Attempt, Outcome]]) -> bool:
        """Whether one statement can record all these outcomes without waiting for a lock."""
        return not any(self._finishes(*pair) and self.is_fenced(pair[0].job) for pair in group)

    def _finishes(self, attempt: Attempt, outcome: Outcome) -> bool:
        """Whether it would move the job's row; what only gives it back takes a weaker lock."""
        job = self.jobs[attempt.job]
        fails_for_good = outcome is Outcome.FAIL and job.attempts >= MAX_ATTEMPTS
        ends = outcome in {Outcome.COMPLETE, Outcome.CANCEL} or fails_for_good
        return ends or job.cancel_requested

    def record(self, group: Sequence[tuple[Attempt, Outcome]]) -> None:
        """Record outcomes in one statement, except those of attempts that do not hold their job."""
        for attempt, outcome in group:
            by_id = self.flaw is Flaw.COMPLETION_BY_ID and outcome is Outcome.COMPLETE
            job = self.jobs[attempt.job]
            if self._holds(attempt) or (by_id and job.state is State.RUNNING):
                self._apply(attempt, outcome)

    def _apply(self, attempt: Attempt, outcome: Outcome) -> None:
        job = self.jobs[attempt.job]
        if job.latest is not attempt:
            raise Violated(f"a stale outcome: {outcome} of {attempt}, the latest is {job.latest}")
        if outcome is Outcome.COMPLETE:
            job.completions += 1
            self._finish(job, State.DONE)
        elif outcome is Outcome.CANCEL or job.cancel_requested:
            self._finish(job, State.CANCELLED)
        elif outcome is Outcome.RELEASE:
            self._release(attempt.job)
        elif job.attempts >= MAX_ATTEMPTS:
            self._finish(job, State.DEAD)
        else:
            self._make_available(attempt.job)

    def can_rescue(self, job: int) -> bool:
        """It belongs to a dead process, and no transaction keeps it."""
        row = self.jobs[job]
        holder = self.processes.get(row.holder) if row.holder is not None else None
        free = not self.is_fenced(job) or self.flaw is Flaw.RESCUE_IGNORES_FENCES
        return holder is not None and holder.dead and free

    def rescue(self, job: int) -> None:
        """Take a job away from a dead process; the attempt counts."""
        self._take(job)
        row = self.jobs[job]
        if row.cancel_requested:
            self._finish(row, State.CANCELLED)
        elif row.attempts >= MAX_ATTEMPTS:
            self._finish(row, State.DEAD)
        else:
            self._make_available(job)

    def _take(self, job: int) -> None:
        latest = self.jobs[job].latest
        if latest is not None:
            latest.taken = True

    def _holds(self, attempt: Attempt) -> bool:
        job = self.jobs[attempt.job]
        return job.state is State.RUNNING and job.token == attempt.token

    def _release(self, number: int) -> None:
        job = self.jobs[number]
        job.attempts -= 1
        if job.cancel_requested:
            self._finish(job, State.CANCELLED)
        else:
            self._make_available(number)

    def _make_available(self, number: int) -> None:
        self.jobs[number].state, self.jobs[number].holder = State.AVAILABLE, None
        self.tickets.add(number)

    def _finish(self, job: Job, state: State) -> None:
        job.state, job.holder = state, None

    # ---- what must always hold

    def check(self) -> None:
        """Raise `Violated` unless the tables, as they are committed, keep the promises."""
        running = [job.tenant for job in self.jobs if job.state is State.RUNNING]
        if len(running) > KIND_LIMIT:
            raise Violated(f"limit of the kind exceeded: {len(running)} run")
        if any(running.count(tenant) > TENANT_LIMIT for tenant in running):
            raise Violated(f"limit of a tenant exceeded: jobs of {running} run")
        for number, job in enumerate(self.jobs):
            if job.completions > 1:
                raise Violated(f"job {number} was completed {job.completions} times")
            if job.state is State.AVAILABLE and number not in self.tickets:
                raise Violated(f"job {number} is lost: it waits, but nobody can find it")
            if job.state is State.RUNNING and job.holder not in self.processes:
                raise Violated(f"job {number} is lost: nobody knows process {job.holder}")
