"""Digits that float32 does not have come from the simulator to the disk and back."""

import numpy as np
import pytest
import torch
from sbi.utils import BoxUniform

from sbi_aalr.errors import PrecisionWarning
from sbi_aalr.simulation import SimulationStore, fill_store

FAR = 1e9


def draw_far(theta):
    return FAR + theta.double() + torch.randn(theta.shape, dtype=torch.float64)


def draw_far_by_row(theta):
    return np.array([FAR + float(theta[0]) + np.random.standard_normal()])


@pytest.mark.parametrize("simulator", [draw_far, draw_far_by_row])
def test_digits_that_float32_does_not_have_are_on_disk(simulator, tmp_path):
    """They were rounded, and of a thousand numbers one was left."""
    prior = BoxUniform(-torch.ones(1), torch.ones(1))
    store = SimulationStore(tmp_path / "sims.zarr")
    fill_store(store, simulator, prior, 60, seed=1)
    found = SimulationStore(tmp_path / "sims.zarr")
    assert found.validate() == 60
    _, x = found[:60]
    assert x.dtype == torch.float64 and len(x.unique()) == 60
    assert (x - FAR).abs().max() < 10


def test_store_of_float32_says_that_it_rounds(tmp_path):
    store = SimulationStore(tmp_path / "sims.zarr")
    theta = torch.rand(30, 1)
    store.append(theta, theta)
    with pytest.warns(PrecisionWarning, match="`x` is rounded to float32 as all data"):
        store.append(theta, draw_far(theta))
    assert store.validate() == 60
