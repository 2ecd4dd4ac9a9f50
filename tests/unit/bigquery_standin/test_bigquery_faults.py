"""When an injected fault strikes."""

import pytest

from troupe_demo.bigquery.errors import BigQueryError
from troupe_demo.bigquery.faults import Fault, Faults


def _outcomes(faults: Faults, operation: str, calls: int) -> list[str]:
    outcomes = []
    for _ in range(calls):
        try:
            faults.strike(operation)
            outcomes.append("ok")
        except BigQueryError as error:
            outcomes.append(f"{error.code} {error.reason}")
    return outcomes


def test_a_fault_strikes_from_its_nth_call_on_for_as_often_as_it_says():
    faults = Faults()
    faults.add(Fault("tables.get", after=1, times=2, reason="backendError"))
    struck = "503 backendError"
    assert _outcomes(faults, "tables.get", 5) == ["ok", struck, struck, "ok", "ok"]


def test_other_operations_are_untouched():
    faults = Faults()
    faults.add(Fault("tables.get", reason="rateLimitExceeded"))
    assert _outcomes(faults, "tables.list", 2) == ["ok", "ok"]
    assert _outcomes(faults, "tables.get", 2) == ["429 rateLimitExceeded", "ok"]


def test_a_fault_without_end_strikes_until_it_is_replaced():
    faults = Faults()
    faults.add(Fault("*", times=None, reason="quotaExceeded"))
    assert _outcomes(faults, "jobs.insert", 3) == ["403 quotaExceeded"] * 3
    faults.replace([])
    assert _outcomes(faults, "jobs.insert", 1) == ["ok"]


def test_status_and_message_can_be_set():
    faults = Faults()
    faults.add(Fault("token", status=502, reason="x", message="no", retry_after=7))
    with pytest.raises(BigQueryError) as caught:
        faults.strike("token")
    assert (caught.value.code, caught.value.message, caught.value.retry_after) == (502, "no", 7)


def test_a_delay_is_cut_short_when_the_stand_in_ends():
    faults = Faults()
    faults.add(Fault("jobs.get", delay=3600))
    faults.close()
    assert _outcomes(faults, "jobs.get", 1) == ["ok"]


def test_the_log_forgets_when_told():
    faults = Faults()
    faults.record("jobs.get", "p", "/jobs/1", 200, {"tenant": "a"})
    assert [(a.operation, a.status, a.labels) for a in faults.log()] == [
        ("jobs.get", 200, {"tenant": "a"})
    ]
    faults.forget()
    assert faults.log() == []
