"""Gaussian linear: Bayes' rule and moments, against torch's own densities."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from sbi_aalr.simulators import GaussianLinear

X_O = torch.linspace(-0.8, 0.6, 10)


def score_moments(draws, mean, variance):
    """Errors of first and second moments, mixed ones too, in standard errors."""
    centred = draws.double() - mean
    products = (centred[:, :, None] * centred[:, None, :]).flatten(1)
    errors = torch.cat(
        [centred.mean(0), products.mean(0) - variance * torch.eye(10).flatten()]
    )
    scale = torch.cat([centred.std(0), products.std(0)]) / math.sqrt(len(draws))
    return (errors / scale).abs()


def test_exact_draws_have_the_conjugate_moments():
    draws = GaussianLinear().sample_posterior(50_000, X_O, seed=1)
    assert score_moments(draws, X_O / 2, 0.05).max() < 5
    assert score_moments(draws + 0.01, X_O / 2, 0.05).max() > 5
    wider = X_O / 2 + 1.05 * (draws - X_O / 2)
    assert score_moments(wider, X_O / 2, 0.05).max() > 5


def test_posterior_satisfies_bayes_rule():
    task = GaussianLinear()
    theta = task.prior.sample((200,))
    joint = task.log_likelihood(theta, X_O) + task.prior.log_prob(theta)
    posterior = MultivariateNormal(X_O / 2, 0.05 * torch.eye(10)).log_prob(theta)
    evidence = MultivariateNormal(torch.zeros(10), 0.2 * torch.eye(10)).log_prob(X_O)
    torch.testing.assert_close(
        joint - posterior, evidence.expand(200), rtol=1e-4, atol=1e-4
    )


def test_simulations_have_the_likelihood_s_moments():
    theta = torch.linspace(1, -1, 10)
    generator = torch.Generator().manual_seed(0)
    x = GaussianLinear().simulate(theta.expand(50_000, 10), generator=generator)
    assert score_moments(x, theta, 0.1).max() < 5
    assert score_moments(x, theta, 0.11).max() > 5
    normal = MultivariateNormal(theta, 0.1 * torch.eye(10))
    torch.testing.assert_close(
        GaussianLinear().log_likelihood(theta, x[:50]), normal.log_prob(x[:50])
    )


def test_seeds_repeat_and_bad_input_raises():
    task = GaussianLinear()
    first, again = (task.sample_posterior(5, X_O, seed=2) for _ in range(2))
    assert torch.equal(first, again)
    with pytest.raises(ValueError, match="`x_o` must be one observation of shape"):
        task.sample_posterior(5, X_O.expand(2, 10))
    with pytest.raises(ValueError, match=r"`theta` must have shape \(N, 10\)"):
        task.simulate(X_O)
