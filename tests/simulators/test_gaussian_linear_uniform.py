"""Gaussian linear with a uniform prior, against scipy's truncated normal."""

import math

import pytest
import torch
from scipy import stats

from sbi_aalr.simulators import GaussianLinear, GaussianLinearUniform

SCALE = math.sqrt(0.1)
X_O = torch.tensor([0.0, 0.3, -0.3, 0.95, -0.95, 1.2, -1.2, 2.5, -2.5, 0.6])


def test_exact_draws_are_truncated_normals():
    draws = GaussianLinearUniform().sample_posterior(20_000, X_O, seed=1)
    assert draws.dtype == torch.float32 and (draws.abs() < 1).all()
    for column, centre in zip(draws.T, X_O.tolist(), strict=True):
        low, high = (-1 - centre) / SCALE, (1 - centre) / SCALE
        exact = stats.truncnorm(low, high, centre, SCALE)
        assert stats.kstest(column, exact.cdf).pvalue > 1e-3
        untruncated = stats.norm(centre, 1.1 * SCALE)
        assert stats.kstest(column, untruncated.cdf).pvalue < 1e-3
    correlations = torch.corrcoef(draws.T) - torch.eye(10)
    assert correlations.abs().max() < 5 / math.sqrt(20_000)


def test_simulator_and_likelihood_are_those_of_the_gaussian_prior_s_task():
    task = GaussianLinearUniform()
    torch.manual_seed(1)
    theta = task.prior.sample((5,))
    assert (theta.abs() < 1).all()
    x, same = (
        each.simulate(theta, generator=torch.Generator().manual_seed(2))
        for each in (task, GaussianLinear())
    )
    assert torch.equal(x, same)
    assert torch.equal(
        task.log_likelihood(theta, x), GaussianLinear().log_likelihood(theta, x)
    )


def test_observations_beyond_the_prior_s_reach_raise():
    far = torch.tensor([8.8, *[0.0] * 9])
    assert GaussianLinearUniform().sample_posterior(5, far).isfinite().all()
    with pytest.raises(ValueError, match=r"`x_o` must lie within 8\.9 of zero, got 9"):
        GaussianLinearUniform().sample_posterior(5, far + 0.2)


def test_seeds_repeat_and_bad_input_raises():
    task = GaussianLinearUniform()
    first, again = (task.sample_posterior(5, X_O, seed=2) for _ in range(2))
    assert torch.equal(first, again)
    with pytest.raises(ValueError, match="`x_o` must be one observation of shape"):
        task.sample_posterior(5, X_O.expand(2, 10))
    with pytest.raises(ValueError, match=r"`theta` must have shape \(N, 10\)"):
        task.simulate(X_O)
