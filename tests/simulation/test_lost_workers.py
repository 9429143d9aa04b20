"""Simulations that hang, or take their worker along, harm no others."""

import os
import threading
import time

import numpy as np
import pytest
import torch
import unreliable
from filled import EXECUTORS, fill, is_equal, open_executor
from kills import needs_fork

from sbi_aalr.seeding import read_generators
from sbi_aalr.simulation import time_limits

pytestmark = pytest.mark.filterwarnings(
    # Python warns of threads in the parent, which the workers do not use.
    "ignore:This process:DeprecationWarning"
)


@pytest.mark.parametrize("name", EXECUTORS)
def test_simulator_that_hangs_is_ended(tmp_path, good, name):
    settings = {"timeout": 0.3, "num_retries": 0, "num_simulations": 20}
    with open_executor(name) as executor:
        store, account = fill(
            tmp_path / "sims",
            unreliable.hang,
            executor=executor,
            on_error="skip",
            **settings,
        )
    theta = good[0][:20]
    bad = unreliable.is_bad(theta)
    assert account == (20, bad.sum()) and bad.any()
    assert torch.equal(store.failures.theta, theta[bad])
    assert set(store.failures.errors) == {"it took longer than 0.3 s"}


@needs_fork
@pytest.mark.parametrize("simulator", [unreliable.kill_worker, unreliable.hang_in_c])
def test_simulation_that_loses_its_worker_takes_no_other_along(
    tmp_path, good, simulator
):
    settings = {"timeout": 0.1, "num_retries": 0, "num_simulations": 20}
    with open_executor("processes") as executor:
        store, account = fill(
            tmp_path / "sims", simulator, executor=executor, on_error="skip", **settings
        )
    theta = good[0][:20]
    bad = unreliable.is_bad(theta)
    assert account == (20, bad.sum()) and bad.any()
    assert torch.equal(store.failures.theta, theta[bad])
    assert torch.equal(store[:][0], theta[~bad])
    assert all("its worker was lost" in error for error in store.failures.errors)


@needs_fork
def test_innocent_rows_are_as_if_no_worker_had_been_lost(tmp_path):
    expected, _ = fill(tmp_path / "expected", unreliable.simulate_row)
    with open_executor("processes") as executor:
        store, _ = fill(
            tmp_path / "sims",
            unreliable.kill_worker_in_row,
            executor=executor,
            on_error="skip",
            num_retries=0,
        )
    kept = ~unreliable.is_bad(expected[:][0])
    assert is_equal(store[:], [part[kept] for part in expected[:]])


@needs_fork
def test_worker_killed_from_outside_changes_nothing(tmp_path, good):
    path = tmp_path / "was_killed"
    with open_executor("processes") as executor:
        store, account = fill(
            tmp_path / "sims", unreliable.KilledOnce(path), executor=executor
        )
    assert path.exists() and account == (60, 0)
    assert is_equal(store[:], good)


class Late:
    """A simulator that hangs in some rows, and draws and sets modes when it ends."""

    def __init__(self):
        self.threads, self.may_end = [], threading.Event()

    def __call__(self, theta):
        if unreliable.is_bad(theta).any():
            self.threads.append(threading.current_thread())
            torch.set_default_dtype(torch.float64)
            torch.set_num_threads(3)
            os.chdir("/")
            try:
                self.may_end.wait(60)
            except BaseException:
                # As some simulators do; it is raised again after a second.
                for _ in range(300):
                    time.sleep(0.1)
            np.random.rand()
            torch.set_num_threads(3)
        return unreliable.simulate(theta)

    def end(self):
        assert self.threads and all(thread.is_alive() for thread in self.threads)
        self.may_end.set()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()


def fill_late(path):
    simulator = Late()
    settings = {"timeout": 0.3, "num_retries": 0, "num_simulations": 20}
    with open_executor("threads") as executor:
        fill(path, simulator, executor=executor, on_error="skip", **settings)
    return simulator


def read_modes():
    """The last is that of threads to come, which torch keeps elsewhere."""
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    numbers = torch.get_num_threads(), *found
    return os.getcwd(), torch.get_default_dtype(), *numbers


def test_simulation_that_is_given_up_leaves_the_process_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before, modes = read_generators(), read_modes()
    simulator = fill_late("sims")
    assert read_generators() == before
    assert read_modes() == modes
    # What is set meanwhile stays as well.
    monkeypatch.chdir("/")
    simulator.end()
    assert read_generators() == before
    assert read_modes() == ("/", *modes[1:])
    # The control: threads that are left alone draw when they wake up.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time_limits, "_end", lambda thread, ending: None)
    simulator = fill_late("more")
    simulator.end()
    assert read_generators() != before
