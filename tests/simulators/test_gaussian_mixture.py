"""Gaussian mixture: densities and draws, against torch's and against a grid."""

import math

import pytest
import torch
from scipy import stats
from torch.distributions import (
    Categorical,
    MixtureSameFamily,
    MultivariateNormal,
)

from sbi_aalr.simulators import GaussianMixture


def make_mixture(centre):
    covariances = torch.eye(2) * torch.tensor([1.0, 0.01])[:, None, None]
    parts = MultivariateNormal(torch.as_tensor(centre).expand(2, 2), covariances)
    return MixtureSameFamily(Categorical(torch.ones(2)), parts)


def test_likelihood_is_the_mixture_s():
    theta = torch.tensor([3.0, -9.0])
    x = theta + torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        GaussianMixture().log_likelihood(theta, x), make_mixture(theta).log_prob(x)
    )
    broadcast = GaussianMixture().log_likelihood(torch.zeros(3, 1, 2), x)
    assert broadcast.shape == (3, 50)


def test_simulations_follow_the_likelihood():
    theta = torch.tensor([-10.0, 4.0])
    generator = torch.Generator().manual_seed(2)
    x = GaussianMixture().simulate(theta.expand(20_000, 2), generator=generator)
    square = (x - theta).square().sum(1)

    def distribution(value, share=0.5):
        wide, narrow = (-torch.expm1(-value / (2 * s**2)) for s in (1.0, 0.1))
        return share * wide + (1 - share) * narrow

    ranks = distribution(square.double())
    assert stats.kstest(ranks, "uniform").pvalue > 1e-3
    wrong = distribution(square.double(), 0.55)
    assert stats.kstest(wrong, "uniform").pvalue < 1e-3
    angle = torch.atan2(*(x - theta).T) / (2 * math.pi) + 0.5
    assert stats.kstest(angle, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("x_o", [[2.0, -3.0], [9.9, 0.0], [10.2, -10.1]])
def test_exact_posterior_matches_integration_on_a_grid(x_o):
    draws = GaussianMixture().sample_posterior(20_000, x_o, seed=1).double()
    assert (draws.abs() < 10).all() and len(draws.unique(dim=0)) > 19_990
    offset = (torch.arange(2_000, dtype=torch.float64) + 0.5) / 200 - 5
    grid = torch.tensor(x_o).double() + torch.cartesian_prod(offset, offset)
    grid = grid[(grid.abs() < 10).all(1)]
    weight = torch.softmax(
        GaussianMixture().log_likelihood(grid, torch.tensor(x_o).double()), 0
    )

    def compute_features(theta):
        centred = theta - torch.tensor(x_o)
        near = (centred.square().sum(1, keepdim=True) < 0.04).double()
        return torch.cat([centred, centred**2, centred.prod(1, keepdim=True), near], 1)

    expected = weight @ compute_features(grid)

    def score(theta):
        features = compute_features(theta)
        # No draw is near an observation outside the prior, and none should be.
        error = features.std(0).clamp(min=1e-6) / math.sqrt(len(theta))
        return (features.mean(0) - expected).abs() / error

    assert score(draws).max() < 5
    assert score(draws + 0.03).max() > 5


def test_implausible_observations_and_wrong_widths_raise():
    with pytest.raises(RuntimeError, match=r"accepted 0 of .* proposals, too few"):
        GaussianMixture().sample_posterior(10, [20.0, 0.0], seed=0)
    with pytest.raises(ValueError, match="`theta` must have a last dimension of 2"):
        GaussianMixture().simulate(torch.ones(3, 3))
    first, again = (
        GaussianMixture().sample_posterior(5, [0.0, 1.0], seed=2) for _ in range(2)
    )
    assert torch.equal(first, again)
