"""Simulation-based calibration of the sampler as a whole, on an exact ratio.

Parameters from the prior must rank among the draws of their posterior as any of those
does (Talts et al., 2018, arXiv:1804.06788), whatever made the chains stop.
"""

import warnings

import pytest
import torch
from sbi.diagnostics.lc2st import LC2ST
from sbi.neural_nets.ratio_estimators import RatioEstimator
from sbi.utils import BoxUniform
from scipy.stats import chisquare
from torch import nn

from sbi_aalr import MHPosterior
from sbi_aalr.mcmc import KERNELS, Proposal
from sbi_aalr.mcmc.kernels import independence

NUM_DRAWS = 63
PRIOR = BoxUniform(-2 * torch.ones(2), 2 * torch.ones(2))
# Enough for ranks, and quick to reach for kernels that walk.
LOOSE = {"max_rhat": 1.05, "min_ess": 100.0, "max_steps": 20_000}
QUIET = {"show_progress_bars": False}


def simulate(theta):
    """A banana through noise whose width differs, and is told: (N, 2) -> (N, 3)."""
    log_width = -2.5 * torch.rand(len(theta), 1)
    noise = log_width.exp() * torch.randn_like(theta)
    return torch.cat((bend(theta) + noise, log_width), dim=1)


def bend(theta):
    return torch.stack((theta[..., 0], theta[..., 1] + theta[..., 0].square()), dim=-1)


class ExactRatio(nn.Module):
    """The log-likelihood, which is the log-ratio up to a constant of x.

    Args:
        power: Exponent of the likelihood; 1 is right.
    """

    def __init__(self, power=1.0):
        super().__init__()
        # A parameter, as sbi asks a network's parameters where it lives.
        self.power = nn.Parameter(torch.tensor(power))

    def forward(self, rows):
        theta, seen, log_width = rows.split((2, 2, 1), dim=-1)
        gap = (seen - bend(theta)) / log_width.exp()
        return -self.power * gap.square().sum(dim=-1, keepdim=True) / 2


def rank(num_observations=300, seed=1, power=1.0, **settings):
    """Ranks of the true parameters, shape `(B, 2)`, and the posterior's diagnostics."""
    torch.manual_seed(seed)
    theta = PRIOR.sample((num_observations,))
    x = simulate(theta)
    estimator = RatioEstimator(ExactRatio(power), theta.shape[1:], x.shape[1:])
    posterior = MHPosterior.from_estimator(estimator, PRIOR, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        draws = posterior.sample_batched((NUM_DRAWS,), x, seed=seed, **QUIET)
    return (draws < theta).sum(dim=0), posterior.diagnostics()


def find_p_value(ranks):
    """Chance of ranks as uneven as these, the smaller of the two parameters'."""
    counts = [torch.bincount(r * 16 // (NUM_DRAWS + 1), minlength=16) for r in ranks.T]
    return min(chisquare(count.numpy()).pvalue for count in counts)


def test_ranks_are_uniform_with_the_defaults():
    ranks, figures = rank(num_observations=150)
    assert figures["converged"].all()
    assert find_p_value(ranks) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_ranks_are_uniform_for_every_kernel(name):
    ranks, figures = rank(num_observations=500, kernel=name, **LOOSE)
    assert figures["converged"].mean() > 0.95
    assert find_p_value(ranks) > 1e-3


def test_stopping_and_dropping_bias_nothing():
    """Some observations are done after 200 steps, some go on to 800."""
    ranks, figures = rank(
        num_observations=300, kernel="adaptive_random_walk", thin=1, **LOOSE
    )
    steps = figures["num_steps"].values
    assert (steps <= 200).mean() > 0.1 and (steps >= 800).mean() > 0.005
    assert find_p_value(ranks) > 1e-3


def propose_uncorrected(*arguments):
    return Proposal(independence.KERNEL.propose(*arguments).position)


def test_a_broken_kernel_is_caught():
    broken = independence.KERNEL._replace(propose=propose_uncorrected, look_ahead=None)
    ranks, _ = rank(num_observations=250, kernel=broken, warmup_steps=0, **LOOSE)
    assert find_p_value(ranks) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("power", [0.25, 4.0])
def test_a_wrong_ratio_is_caught(power):
    ranks, _ = rank(power=power, **LOOSE)
    assert find_p_value(ranks) < 1e-4


@pytest.mark.slow
def test_local_c2st_of_sbi_over_a_thousand_observations():
    torch.manual_seed(5)
    theta = PRIOR.sample((1_000,))
    x = simulate(theta)
    p_values = {}
    for power in (1.0, 0.2):
        estimator = RatioEstimator(ExactRatio(power), theta.shape[1:], x.shape[1:])
        posterior = MHPosterior.from_estimator(estimator, PRIOR)
        draws = posterior.sample_batched((1,), x, seed=2, **QUIET)[0]
        test = LC2ST(theta, x, draws, seed=1, num_trials_null=50)
        test.train_under_null_hypothesis(verbosity=0)
        test.train_on_observed_data(verbosity=0)
        x_o = torch.tensor([0.5, 0.5, -1.0])
        theta_o = posterior.sample((1_000,), x=x_o, seed=3, **QUIET)
        p_values[power] = test.p_value(theta_o, x_o)
    assert p_values[1.0] > 0.01
    assert p_values[0.2] < 0.05
