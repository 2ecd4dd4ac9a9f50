"""Workers: one task for jobs that do not wait, one each for those that do, nothing left behind."""

from contextvars import ContextVar

import pytest
import trio
import trio.testing

from troupe.platform.jobs._workers import Workers

word: ContextVar[str] = ContextVar("word", default="")


class Stage:
    """Runs pieces of work and notes which task ran them."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.workers = Workers(self.perform, self.cut_short, nursery)
        self.tasks: list[trio.lowlevel.Task] = []
        self.words: list[str] = []
        self.cut: list[str] = []
        self.scopes: dict[str, trio.CancelScope] = {}
        self.release = trio.Event()

    async def perform(self, work: str, scope: trio.CancelScope) -> None:
        self.tasks.append(trio.lowlevel.current_task())
        self.words.append(word.get())
        self.scopes[work] = scope
        match work:
            case "wait":
                await self.release.wait()
            case "leave a word":
                word.set("left behind")
            case "cancel late":
                scope.cancel()

    def cut_short(self, work: str) -> None:
        self.cut.append(work)

    def give(self, *works: str) -> None:
        for work in works:
            self.workers.give(work)


@pytest.fixture
async def stage(nursery: trio.Nursery) -> Stage:
    return Stage(nursery)


async def test_work_that_does_not_wait_shares_one_task(stage: Stage) -> None:
    stage.give(*["quick"] * 500)
    await trio.testing.wait_all_tasks_blocked()
    assert len(stage.tasks) == 500
    assert len(set(stage.tasks)) == 1


async def test_work_that_waits_has_a_task_of_its_own_and_holds_up_nobody(stage: Stage) -> None:
    stage.give("wait", "wait", "quick", "wait", "quick")
    await trio.testing.wait_all_tasks_blocked()
    assert len(stage.tasks) == 5
    assert len(set(stage.tasks)) == 4
    stage.release.set()


async def test_idle_workers_are_used_again(stage: Stage) -> None:
    stage.give("wait", "wait", "wait")
    await trio.testing.wait_all_tasks_blocked()
    stage.release.set()
    await trio.testing.wait_all_tasks_blocked()
    first = set(stage.tasks)
    stage.release = trio.Event()
    stage.give("wait", "wait", "wait", "wait")
    await trio.testing.wait_all_tasks_blocked()
    assert len(set(stage.tasks) - first) <= 1  # a fourth, and the one that stands by
    stage.release.set()


async def test_what_a_handler_leaves_in_the_context_is_not_seen_by_the_next(stage: Stage) -> None:
    stage.give("leave a word", "quick", "quick")
    await trio.testing.wait_all_tasks_blocked()
    stage.give("quick")
    await trio.testing.wait_all_tasks_blocked()
    assert stage.words == [""] * 4
    assert stage.tasks[1] is not stage.tasks[0]


async def test_cancelling_one_piece_of_work_ends_it_and_no_other(stage: Stage) -> None:
    stage.give("wait", "quick")
    await trio.testing.wait_all_tasks_blocked()
    stage.scopes["wait"].cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert stage.cut == ["wait"]
    stage.give("quick", "wait", "quick")
    await trio.testing.wait_all_tasks_blocked()
    assert len(stage.tasks) == 5
    assert stage.cut == ["wait"]
    stage.release.set()


async def test_a_cancelled_scope_is_not_used_again_although_the_work_went_on(stage: Stage) -> None:
    stage.give("cancel late", "wait")
    await trio.testing.wait_all_tasks_blocked()
    assert stage.cut == []
    assert stage.scopes["wait"] is not stage.scopes["cancel late"]
    stage.release.set()
