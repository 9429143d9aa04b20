"""Observations of a task: made once, and with exact draws where there are some."""

import pickle

import numpy as np
import pytest
import torch
from instant_methods import make_method
from sbi.utils import BoxUniform
from torch.distributions import Poisson

from sbi_aalr.comparison import TASKS, compare
from sbi_aalr.comparison.tasks import adapt_task, observe


def test_observations_are_cached_and_differ(tmp_path):
    task = TASKS["two_moons"]()
    first, second = (observe(tmp_path, "moons", task, i, 50) for i in (1, 2))
    assert first.x.shape == (1, 2) and first.reference.shape == (50, 2)
    assert not torch.equal(first.theta, second.theta)
    files = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert set(files) == {"moons-1.safetensors", "moons-2.safetensors"}
    again = observe(tmp_path, "moons", None, 1, 50)
    assert torch.equal(again.reference, first.reference)
    assert files == {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


class RowTask:
    """Simulates one row at a time, in NumPy, and writes into what it is given."""

    prior = BoxUniform(-torch.ones(2), torch.ones(2))

    def simulate(self, theta):
        first, second = np.asarray(theta)
        theta.fill_(7.0)
        return np.array([first, second]) + 0.1 * np.random.standard_normal(2)


def test_a_task_may_have_any_simulator_that_sbi_accepts(tmp_path, log):
    table = compare(
        {"row": RowTask()},
        {"one": make_method(log)},
        [200],
        out=tmp_path,
        observations=1,
        num_samples=50,
        show_progress_bars=False,
    )
    assert table["error"].tolist() == [""]
    task = pickle.loads(pickle.dumps(adapt_task("row", RowTask())))
    theta = task.prior.sample((50,))
    assert (task.simulate(theta) - theta).abs().max() < 0.7


def test_a_task_that_cannot_work_is_told_before_anything_is_fitted(tmp_path):
    class Discrete(RowTask):
        prior = Poisson(torch.ones(1))

    class Bare:
        prior = RowTask.prior

    with pytest.raises(ValueError, match=r"`odd.prior` must be a distribution of cont"):
        compare({"odd": Discrete()}, ["aalr"], [200], out=tmp_path)
    with pytest.raises(
        TypeError, match="`tasks` must have a `prior` and a method `sim"
    ):
        compare({"bare": Bare()}, ["aalr"], [200], out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_tasks_without_exact_posterior_have_no_reference(tmp_path):
    task = TASKS["mg1"]()
    observation = observe(tmp_path, "mg1", task, 1, 50)
    assert observation.reference is None and observation.theta.shape == (3,)


def test_observations_are_not_those_that_sbibm_publishes(tmp_path):
    task = TASKS["gaussian_linear"]()
    torch.manual_seed(1_000_001)
    published = task.prior.sample((1,))[0]
    mine = [observe(tmp_path, "linear", task, i, 5).theta for i in range(1, 11)]
    assert not any(torch.equal(theta, published) for theta in mine)
