"""Twins of the supervisor and the mailbox that are broken in one place each: the model tells."""

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, reject, settings

from tests.unit.platform.model.compare import Divergence, compare
from tests.unit.platform.model.script import Script, scripts
from tests.unit.platform.model.world import Coincidence
from troupe.platform.dead_letters import Reason
from troupe.platform.mailbox import M, Mailbox
from troupe.platform.supervision import Intensity, State, Strategy
from troupe.platform.supervision._run import Run


class RestartsThoseBefore(Run):
    """rest_for_one takes the wrong siblings along."""

    def _fellows(self, failed):
        records = list(self.records.values())
        if self._strategy is Strategy.REST_FOR_ONE:
            return records[: records.index(failed)]
        return super()._fellows(failed)


class ToleratesOneMore(Run):
    def __init__(self, *arguments, intensity, **options):
        one_more = Intensity(restarts=intensity.restarts + 1, period=intensity.period)
        super().__init__(*arguments, intensity=one_more, **options)


class ForgetsAtTheEndOfThePeriod(Run):
    """A restart exactly one period ago no longer counts."""

    def _restart(self, failed, ran):
        since = trio.current_time() - self._intensity.period
        while self._restarts and self._restarts[0] <= since:
            self._restarts.popleft()
        super()._restart(failed, ran)


class StopsInStartOrder(Run):
    def _bring_down(self):
        forwards = self.records
        self.records = dict(reversed(forwards.items()))
        super()._bring_down()
        self.records = forwards


class StartsWithoutWaiting(Run):
    """The first start does not wait for one child before it starts the next."""

    @property
    def _ordered(self):
        return self.closing or self._strategy is not Strategy.ONE_FOR_ONE


class TakesAFailingStopForACrash(Run):
    """A child that fails while it is being stopped is restarted, and counted."""

    def _on_exit(self, record, error):
        if record.state is State.STOPPING and error is not None:
            record.enter(State.RUNNING)
            record.wanted, record.recycle = True, False
        super()._on_exit(record, error)


class BringsBackWhatAnOperatorStopped(Run):
    def _restart(self, failed, ran):
        for record in self._fellows(failed):
            record.held = False
        super()._restart(failed, ran)


class RestartsWhatFinished(Run):
    """A transient child comes back after a normal exit."""

    def _on_exit(self, record, error):
        super()._on_exit(record, error)
        if error is None and record.state is State.STOPPED and not record.held:
            record.wanted = not self.closing


class NeverKills(Run):
    def _act_on_deadlines(self, now):
        pass


class LosesWhatItDrops(Mailbox[M]):
    """One message disappears without a dead letter."""

    def kill(self, envelope, reason):
        if reason is not Reason.DROPPED:
            super().kill(envelope, reason)


class LetsNewcomersBargeIn(Mailbox[M]):
    """Whoever stood in line longest is served last."""

    def _fill(self):
        self._waiting = type(self._waiting)(reversed(self._waiting.items()))
        super()._fill()


class ForgetsOnRestart(Mailbox[M]):
    """The next incarnation finds an empty mailbox, as in Erlang, and nobody is told."""

    def open(self):
        self._queue.clear()
        super().open()


class KeepsQuestions(Mailbox[M]):
    def drop_questions(self, reason):
        pass


class TakesOneTooMany(Mailbox[M]):
    def __init__(self, owner, settings, dead_letters):
        super().__init__(owner, settings, dead_letters)
        self._settings = type(settings)(
            capacity=settings.capacity + 1,
            overflow=settings.overflow,
            patience=settings.patience,
        )


SUPERVISORS = [
    (RestartsThoseBefore, "rest_for_one"),
    (ToleratesOneMore, "one_for_one"),
    (ForgetsAtTheEndOfThePeriod, "one_for_one"),
    (StopsInStartOrder, "one_for_one"),
    (StartsWithoutWaiting, "one_for_one"),
    (TakesAFailingStopForACrash, "one_for_all"),
    (BringsBackWhatAnOperatorStopped, "one_for_all"),
    (RestartsWhatFinished, "one_for_one"),
    (NeverKills, "rest_for_one"),
]
MAILBOXES = [
    LosesWhatItDrops,
    LetsNewcomersBargeIn,
    ForgetsOnRestart,
    KeepsQuestions,
    TakesOneTooMany,
]


def diverges(strategy: str) -> bool:
    """Whether the comparison finds a fault, among as many scripts as find every twin's."""

    @settings(
        max_examples=3_000,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(script=scripts(strategy))
    def play(script: Script) -> None:
        try:
            compare(script)
        except Coincidence:
            reject()

    try:
        play()
    except Divergence:
        return True
    return False


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(("twin", "strategy"), SUPERVISORS)
def test_a_broken_supervisor_fails_the_comparison(twin, strategy, monkeypatch):
    monkeypatch.setattr("troupe.platform.supervision._supervisor.Run", twin)
    assert diverges(strategy)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("twin", MAILBOXES)
def test_a_broken_mailbox_fails_the_comparison(twin, monkeypatch):
    monkeypatch.setattr("troupe.platform.actor.Mailbox", twin)
    assert diverges("one_for_one")
