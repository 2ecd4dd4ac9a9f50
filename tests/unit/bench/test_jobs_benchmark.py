"""What the benchmark of durable jobs computes from what it measures."""

import math
from array import array
from itertools import pairwise
from pathlib import Path

import pytest

from ops.bench.jobs import report
from ops.bench.jobs.endurance import windows_of
from ops.bench.jobs.entrants import ours, pgqueuer
from ops.bench.jobs.latency import Waits, percentile
from ops.bench.jobs.throughput import Throughput
from ops.bench.jobs.worker import Arrivals, Instants, check, read_instants


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100), (0.001, 1)]
)
def test_a_percentile_is_the_nearest_rank(share: float, expected: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_lost_jobs_are_the_longest_waits() -> None:
    assert percentile([0.001] * 98 + [math.inf] * 2, 0.99) == math.inf


def test_windows_count_what_began_in_them_and_nothing_after_the_last() -> None:
    starts = array("d", [100.0, 109.9, 110.0, 119.9, 120.1, 0.0])
    assert windows_of(starts, 100.0, 20.0) == [0.2, 0.2]


def test_arrivals_at_a_fixed_rate_are_evenly_spaced_and_complete() -> None:
    arrivals = list(Arrivals(count=20, batch=8, pauses=(0.01, 0.01), seed=1))
    assert [numbers for _, numbers in arrivals] == [range(8), range(8, 16), range(16, 20)]
    assert [offset for offset, _ in arrivals] == pytest.approx([0.0, 0.01, 0.02])


def test_random_pauses_stay_in_bounds_and_differ_from_seed_to_seed() -> None:
    first, second = (
        [offset for offset, _ in Arrivals(count=50, batch=1, pauses=(0.02, 0.18), seed=seed)]
        for seed in (1, 2)
    )
    pauses = [later - sooner for sooner, later in pairwise(first)]
    assert all(0.02 <= pause <= 0.18 for pause in pauses)
    assert first != second


def test_instants_come_back_as_they_were_noted(tmp_path: Path) -> None:
    instants = Instants(tmp_path / "begun", 3)
    instants.note(1)
    instants.write()
    first, second, third = read_instants(tmp_path / "begun")
    assert (first, third) == (0.0, 0.0)
    assert second > 0
    assert instants.noted == 1


@pytest.mark.parametrize("ran", [9, 11])
def test_a_round_with_a_job_too_few_or_too_many_does_not_count(ran: int) -> None:
    check(10, 10)
    with pytest.raises(RuntimeError):
        check(ran, 10)


def test_our_rate_is_compared_with_the_best_of_a_peers_settings() -> None:
    python = Path("python")
    slow, fast = pgqueuer(python, 100, pool=False), pgqueuer(python, 500, pool=True)
    figures = {
        ours({}).label: Throughput(enqueue=[50.0, 60.0, 70.0], drain=[29.0, 30.0, 100.0]),
        slow.label: Throughput(enqueue=[40.0], drain=[10.0]),
        fast.label: Throughput(enqueue=[60.0, 50.0], drain=[20.0]),
    }
    drain, bulk = report.throughput_targets(figures)
    assert drain.measured == pytest.approx(30 / 20)
    assert drain.met
    assert bulk.measured == pytest.approx(60 / 50)


def test_a_wait_beyond_its_bound_misses_the_target() -> None:
    figures = {ours({}).label: Waits(p50=[0.009, 0.011, 0.004], p99=[0.051, 0.052, 0.040])}
    p50, p99 = report.waits_targets("idle", figures, 0.010, 0.050)
    assert p50.measured == pytest.approx(9.0)
    assert p50.met
    assert p99.measured == pytest.approx(51.0)
    assert not p99.met
