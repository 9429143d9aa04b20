"""The learning rate under a limit: down by the clock if need be, and never back."""

import pytest

from sbi_aalr.training.budget import Budget


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the test lets pass."""
    now = [0.0]
    monkeypatch.setattr("sbi_aalr.training.budget.time.perf_counter", lambda: now[0])
    return now


def spend(budget, clock, seconds, rows=10):
    """Rate factors before steps that last so long."""
    factors = []
    for duration in seconds:
        factors.append(budget.compute_rate_factor())
        clock[0] += duration
        budget.spend(rows)
    return factors


def test_rate_never_comes_back_after_a_step_that_waited(clock):
    budget = Budget(100_000, time_limit=10.0)
    budget.begin_pass(0.0)
    factors = spend(budget, clock, [0.5, 2.0, 0.01, 0.01, 0.5, 2.0, 0.01, 0.01])
    late = factors[2:]
    assert late == sorted(late, reverse=True) and late[-1] < 0.6
    # The control: the share that is spent does go back.
    assert budget.measure_progress() < 0.6


def test_clock_has_no_say_where_the_simulations_run_out_first(clock):
    slow_start = [0.3, *[0.01] * 99]
    factors = {}
    for limit in (None, 30.0):
        clock[0] = 0.0
        budget = Budget(1_000, limit)
        budget.begin_pass(0.0)
        factors[limit] = spend(budget, clock, slow_start)
    assert factors[None] == factors[30.0]
    # The control: a limit that is reached does count.
    clock[0] = 0.0
    budget = Budget(1_000, 1.0)
    budget.begin_pass(0.0)
    assert spend(budget, clock, slow_start) != factors[None]
