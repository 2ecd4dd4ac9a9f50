"""The model of the job protocol keeps its promises, and breaks them once a precaution is missing.

The model lies under docs/models, where it is explained; it is no package, so it is found by path.
"""

import importlib
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

MODELS = Path(__file__).parents[3] / "docs" / "models"

SEARCH = settings(
    max_examples=400,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    report_multiple_bugs=False,
)
# The same examples every time. Most flaws show within 100 of them, the shyest within 400.
HUNT = settings(SEARCH, max_examples=3000, derandomize=True, database=None, phases=[Phase.generate])

BREAKS = {
    "COMPLETION_BY_ID": "stale outcome: complete",
    "NAMED_BY_COUNTER": "stale",
    "RESCUE_IGNORES_FENCES": "stale effect",
    "CLAIM_IGNORES_FENCES": "stale effect",
    "CLAIM_IGNORES_DEATH": "is lost: nobody knows process",
    "TICKETS_TRUSTED": "runs although it is cancelled",
    "LIMITS_COUNTED_APART": "limit of (the kind|a tenant) exceeded",
}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(MODELS))
    return importlib.import_module("job_protocol")


def test_the_protocol_keeps_its_promises(model: ModuleType) -> None:
    run_state_machine_as_test(model.JobProtocolMachine, settings=SEARCH)


@pytest.mark.parametrize("flaw", BREAKS)
def test_without_a_precaution_a_counterexample_is_found(model: ModuleType, flaw: str) -> None:
    broken = partial(model.JobProtocolMachine, model.Flaw[flaw])
    with pytest.raises(model.Violated, match=BREAKS[flaw]):
        run_state_machine_as_test(broken, settings=HUNT)


def test_every_precaution_is_tried(model: ModuleType) -> None:
    assert set(BREAKS) == {flaw.name for flaw in model.Flaw}


def test_jobs_that_nobody_troubles_are_done_at_once(model: ModuleType) -> None:
    protocol = model.Protocol()
    jobs = [protocol.database.enqueue(tenant) for tenant in (0, 0, 1)]
    protocol.settle()
    assert [protocol.database.jobs[job].completions for job in jobs] == [1, 1, 1]
