"""The checks of the chaos tests complain when there is something to complain about."""

import uuid
from collections.abc import AsyncIterator

import pytest

from tests.support.chaos import checks
from tests.support.chaos.ground import TENANTS, Ground, open_ground
from tests.support.chaos.recovery import Throughput, drain
from tests.support.chaos.worker import COMPLETION
from tests.support.postgres import TestDatabase

EFFECT = """
    INSERT INTO public.effects (tenant_id, job_id, fencing_token, step)
    SELECT tenant_id, job_id, fencing_token, $1 FROM platform.all_jobs
"""


@pytest.fixture
async def ground(bridge: None, fresh_database: TestDatabase) -> AsyncIterator[Ground]:
    async with open_ground(fresh_database) as opened:
        await opened.enqueue("nap", 3, tenants=TENANTS[:2])
        await drain(opened)
        yield opened


async def test_nothing_is_wrong_with_jobs_that_nobody_troubled(ground: Ground) -> None:
    assert await checks.stale_effects(ground) == []
    assert await checks.doubled_completions(ground, COMPLETION) == []
    assert await checks.doubled_effects(ground, COMPLETION) == []
    assert await checks.lost_jobs(ground, 6) == []
    assert await checks.exceeded_limits(ground, "nap", 6, 3) == []


async def test_an_effect_that_is_there_twice_is_found(ground: Ground) -> None:
    await ground.change(EFFECT, COMPLETION)
    assert await checks.doubled_effects(ground, COMPLETION) == [
        "6 jobs are done, 6 have an effect, 12 effects in all"
    ]
    assert await checks.doubled_completions(ground, COMPLETION) == [
        "6 jobs were completed more than once"
    ]


async def test_an_effect_that_is_missing_is_found(ground: Ground) -> None:
    await ground.change("DELETE FROM public.effects WHERE position = 1")
    assert await checks.doubled_effects(ground, COMPLETION) == [
        "6 jobs are done, 5 have an effect, 5 effects in all"
    ]


async def test_a_job_that_is_gone_or_ended_otherwise_is_found(ground: Ground) -> None:
    assert await checks.lost_jobs(ground, 7) == ["6 jobs are known, 7 were enqueued"]
    await ground.change("UPDATE platform.job_history SET state = 'dead'")
    assert await checks.lost_jobs(ground, 6) == ["6 jobs are dead"]


async def test_an_effect_of_another_attempt_than_the_holder_is_found(ground: Ground) -> None:
    await ground.change("UPDATE platform.job_history SET fencing_token = fencing_token + 100")
    await ground.change(EFFECT, 1)  # of the attempts that hold the jobs now
    await ground.change("UPDATE public.effects SET held = false WHERE step = 1")
    assert await checks.stale_effects(ground) == ["6 stale effects on 6 jobs"]
    await ground.change("UPDATE public.effects SET held = true")
    earlier = "UPDATE public.effects SET fencing_token = fencing_token - 200 WHERE step = 1"
    await ground.change(earlier)
    assert await checks.stale_effects(ground) == ["6 effects behind those of a later attempt"]


async def test_whoever_leaves_an_effect_without_holding_the_job_is_noted(ground: Ground) -> None:
    job = await ground.look("SELECT job_id FROM platform.job_history LIMIT 1")
    strange = "INSERT INTO public.effects (tenant_id, job_id, fencing_token, step) VALUES"
    await ground.change(f"{strange} ($1, $2, 1000000, 1)", TENANTS[0], job)
    await ground.change(f"{strange} ($1, $2, 1, 1)", TENANTS[0], uuid.uuid4())
    assert await checks.stale_effects(ground) == ["2 stale effects on 2 jobs"]


async def test_attempts_that_held_jobs_at_the_same_time_are_counted(ground: Ground) -> None:
    await ground.change(EFFECT, 1)
    found = await checks.exceeded_limits(ground, "nap", 5, 2)
    assert found == ["6 jobs at a time, 5 allowed", "3 jobs of a tenant at a time, 2 allowed"]


def test_throughput_is_the_sleep_in_a_window_in_jobs_of_average_length() -> None:
    naps = [(10.0, 12.0), (12.0, 14.0), (11.0, 13.0), (20.0, 22.0)]
    throughput = Throughput(naps, 2.0)
    assert throughput.between(10, 14) == pytest.approx(3 / 4)
    assert throughput.between(13, 14) == pytest.approx(0.5)
    assert throughput.between(14, 20) == 0
    assert throughput.back_after(14, 0.4, 30) == pytest.approx(5.8, abs=0.11)
    assert throughput.back_after(14, 0.9, 10) == 10
