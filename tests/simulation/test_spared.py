"""What a simulator does to torch's and NumPy's state ends with it."""

import os

import numpy as np
import pytest
import torch
from linear_gaussian import PRIOR, build_quadratic, simulate

from sbi_aalr import AALR
from sbi_aalr.seeding import seeded
from sbi_aalr.simulation.adapt import adapt
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


def test_run_that_is_repeated_is_not_taken_for_a_simulator_that_seeds():
    """A seed gives the same draws after the simulations as it did the first time."""
    simulator = adapt(simulate, PRIOR)
    draws = []
    for _ in range(3):
        with seeded(1):
            simulator(PRIOR.sample((20,)))
            draws.append(torch.rand(3))
    assert torch.equal(draws[0], draws[1]) and torch.equal(draws[0], draws[2])
    with seeded(1):
        simulate(PRIOR.sample((20,)))
        assert torch.equal(draws[0], torch.rand(3))


def set_modes(theta):
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(torch.get_num_threads() + 1)
    np.seterr(all="raise")
    os.chdir("/")
    with torch.device("cpu"):
        return simulate(theta)


def read_modes():
    return (
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
        np.geterr(),
        os.getcwd(),
    )


def test_modes_that_a_simulator_sets_end_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = read_modes()
    trainer = AALR(PRIOR, build_quadratic, show_progress_bars=False)
    trainer.train_online(set_modes, 400, batch_size=100, seed=1, checkpoint="here")
    assert read_modes() == before
    assert (tmp_path / "here").is_dir()
    assert trainer.build_posterior().target.ratio_dim == 2


def test_modes_end_where_it_fails_too():
    def fail(theta):
        set_modes(theta)
        raise RuntimeError("no")

    with pytest.raises(ValueError, match="`simulator` raised RuntimeError: no"):
        list(stream(fail, PRIOR, 20, 10))
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
