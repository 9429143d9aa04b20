"""SLCP's four modes, with the exact log-likelihood as potential."""

import arviz_stats
import pytest
import torch

from sbi_aalr import ConvergenceWarning, MHPosterior
from sbi_aalr.simulators import SLCP

QUIET = {"show_progress_bars": False}


def make_posterior(**settings):
    slcp = SLCP()

    def potential(theta, x_o):
        likelihood = slcp.log_likelihood(theta, x_o.expand(len(theta), -1))
        return likelihood + slcp.prior.log_prob(theta)

    return slcp, MHPosterior(potential, slcp.prior, **settings)


def simulate_observations(slcp, count, seed):
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(count, 5, generator=generator)
    return slcp.simulate(6 * uniform - 3, generator=generator)


def measure_errors(theta):
    """Errors of the modes' shares in standard errors; exact shares are a quarter.

    The likelihood knows theta_3 and theta_4 by their squares alone.
    """
    mode = 2 * (theta[..., 2] > 0).long() + (theta[..., 3] > 0)
    features = torch.nn.functional.one_hot(mode, 4).double()
    ess = arviz_stats.ess(features.numpy(), method="mean", chain_axis=0, draw_axis=1)
    assert ess.min() > 200
    error = (features.mean(dim=(0, 1)) - 0.25).abs()
    return error / (0.1875 / torch.as_tensor(ess)).sqrt()


@pytest.mark.slow
def test_shares_of_modes_are_right_for_ten_observations():
    slcp, posterior = make_posterior()
    x = simulate_observations(slcp, 10, seed=3)
    posterior.sample_batched((1_000,), x, seed=1, warmup_steps=400, **QUIET)
    assert posterior.diagnostics()["converged"].all()
    assert measure_errors(posterior.chains.theta).max() < 5


def test_shares_of_modes_are_right_for_one_observation():
    slcp, posterior = make_posterior()
    x = simulate_observations(slcp, 1, seed=4)
    posterior.sample((1_000,), x=x, seed=1, **QUIET)
    assert measure_errors(posterior.chains.theta).max() < 5


def test_chains_that_miss_modes_show_it_in_r_hat():
    slcp, posterior = make_posterior(kernel="adaptive_random_walk", num_chains=20)
    x = simulate_observations(slcp, 1, seed=4)
    with pytest.warns(ConvergenceWarning, match="R-hat"):
        posterior.sample((2_000,), x=x, seed=1, max_steps=4_000, **QUIET)
    assert posterior.diagnostics()["r_hat"].max() > 1.01
