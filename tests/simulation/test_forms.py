"""How a simulator is called is found out, also where it often fails."""

import pytest
import torch
from sbi.utils import BoxUniform

from sbi_aalr.simulation import SimulationStore, fill_store

pytestmark = pytest.mark.filterwarnings(
    "ignore::sbi_aalr.errors.InvalidSimulationsWarning"
)


def fail_often(theta):
    if (theta[:, 0] > 0).any():
        raise ValueError("too hot")
    return theta + 0.1 * torch.randn_like(theta)


def fail_often_by_row(theta):
    first, second = theta
    if first > 0:
        raise ValueError("too hot")
    return torch.stack((first, second))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("simulator", [fail_often, fail_often_by_row])
def test_simulator_that_fails_for_half_of_the_prior_is_used(simulator, seed, tmp_path):
    """It was refused nine times in ten: no five of its parameters worked together."""
    prior = BoxUniform(-torch.ones(2), torch.ones(2))
    store = SimulationStore(tmp_path / "sims.zarr")
    account = fill_store(store, simulator, prior, 40, seed=seed, on_error="skip")
    assert account.num_simulations == 40
    assert 8 <= account.num_failures <= 32
    assert (store.failures.theta[:, 0] > 0).all()
    takes_batches = simulator is fail_often
    assert store.describe()["takes_batches"] == takes_batches


def test_what_a_batch_raised_is_told(tmp_path):
    def fail(theta):
        raise ValueError(f"no numbers for {theta.ndim} dimensions")

    prior = BoxUniform(-torch.ones(2), torch.ones(2))
    store = SimulationStore(tmp_path / "sims.zarr")
    with pytest.raises(ValueError, match=r"for 2 dimensions; row by row it .*for 1 d"):
        fill_store(store, fail, prior, 40, seed=1)
