"""What a simulator does to torch's and NumPy's state ends with it."""

import numpy as np
import pytest
import torch
from linear_gaussian import PRIOR, build_quadratic, simulate

from sbi_aalr import AALR
from sbi_aalr.seeding import seeded
from sbi_aalr.simulation.batches import stream


def seed_with(seed):
    def simulator(theta):
        torch.manual_seed(seed)
        return simulate(theta)

    return simulator


def find_repeated(batches):
    """How many batches begin with the parameters of another one."""
    firsts = [tuple(batch.theta[0].tolist()) for batch in batches]
    return len(firsts) - len(set(firsts))


@pytest.mark.parametrize("seed", [0, 1])
def test_simulator_that_seeds_does_not_repeat_parameters(seed):
    """Also where it takes the user's own seed, 1."""
    with seeded(1):
        batches = list(stream(seed_with(seed), PRIOR, 600, 100))
    # Two calls tell a seed that is the user's.
    assert find_repeated(batches) <= seed
    # As they are without the guard.
    unguarded = []
    for _ in range(6):
        unguarded.append(PRIOR.sample((100,)))
        seed_with(seed)(unguarded[-1])
    assert len({tuple(theta[0].tolist()) for theta in unguarded}) == 2


def test_rounds_and_passes_with_a_simulator_that_seeds_spend_all_parameters():
    trainer = AALR(PRIOR, build_quadratic, show_progress_bars=False)
    seen = []

    def simulator(theta):
        seen.append(theta.clone())
        return seed_with(0)(theta)

    trainer.train_online(simulator, 3_000, batch_size=100, seed=1)
    theta = torch.cat([rows for rows in seen if len(rows) > 3])
    assert len(theta.unique(dim=0)) == 3_000


def test_simulator_that_draws_is_left_alone():
    with seeded(1):
        batches = list(stream(simulate, PRIOR, 60, 20))
    with seeded(1):
        for batch in batches:
            theta = PRIOR.sample((20,))
            assert torch.equal(batch.theta, theta)
            assert torch.equal(batch.x, simulate(theta))
            assert torch.equal(batch.theta_prime, PRIOR.sample((20,)))


def set_modes(theta):
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    np.seterr(all="raise")
    return simulate(theta)


def test_modes_that_a_simulator_sets_end_with_it():
    before = np.geterr()
    trainer = AALR(PRIOR, build_quadratic, show_progress_bars=False)
    trainer.train_online(set_modes, 400, batch_size=100, seed=1)
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert np.geterr() == before
    assert trainer.build_posterior().target.ratio_dim == 2


def test_modes_end_where_it_fails_too():
    def fail(theta):
        set_modes(theta)
        raise RuntimeError("no")

    with pytest.raises(ValueError, match="`simulator` raised RuntimeError: no"):
        list(stream(fail, PRIOR, 20, 10))
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
