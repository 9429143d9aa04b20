"""What there is time for, on a machine whose speed nobody knows."""

import time

import pytest

from sbi_aalr.training import clock
from sbi_aalr.training.clock import Clock


@pytest.fixture
def now(monkeypatch):
    """A time that passes only when the test says so."""
    moment = [100.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: moment[0])

    def advance(seconds):
        moment[0] += seconds

    yield advance
    monkeypatch.undo()
    assert time.perf_counter() != moment[0]


def test_without_a_limit_all_is_affordable(now):
    free = Clock(None)
    now(1e6)
    free.learn(1, 100.0)
    assert free.left is None and free.afford(500, 1e9, 0.1) == 500


def test_time_that_is_left_buys_as_much_as_was_measured(now):
    limited = Clock(10.0)
    now(2.0)
    # 1,000 evaluations took two seconds, so half of the other eight buys 2,000.
    limited.learn(1_000, 100.0)
    assert limited.left == 8.0
    assert limited.afford(5_000, 1, 0.5) == 2_000
    assert limited.afford(5_000, 4, 0.5) == 500
    assert limited.afford(300, 4, 0.5) == 300
    now(20.0)
    assert limited.left == 0.0 and limited.afford(300, 4, 0.5) == 0


def test_slower_machine_does_less(now):
    done = []
    for slowness in (1.0, 3.0):
        limited, began = Clock(10.0), clock.time.perf_counter()
        now(slowness)
        limited.learn(1_000, began)
        done.append(limited.afford(10**6, 1, 0.5))
    assert done == [4_500, 1_166]
