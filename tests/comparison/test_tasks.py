"""Observations of a task: made once, and with exact draws where there are some."""

import torch

from sbi_aalr.comparison import TASKS
from sbi_aalr.comparison.tasks import observe


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


def test_tasks_without_exact_posterior_have_no_reference(tmp_path):
    task = TASKS["mg1"]()
    observation = observe(tmp_path, "mg1", task, 1, 50)
    assert observation.reference is None and observation.theta.shape == (3,)
