"""Predators and prey as equations: against scipy, and chains against weighted draws."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import solve_ivp
from torch.distributions import MultivariateNormal

from sbi_aalr.simulators import LotkaVolterraODE

THETA = torch.tensor([[0.8825, 0.0498, 0.8825, 0.0498], [1.5, 0.02, 0.5, 0.03]])


def solve_populations(theta):
    """Prey at all times, then predators, by another solver."""
    alpha, beta, gamma, delta = theta

    def slope(_, state):
        prey, predators = state
        meetings = prey * predators
        return [alpha * prey - beta * meetings, delta * meetings - gamma * predators]

    times = 2.1 * np.arange(10)
    solution = solve_ivp(slope, (0, 20), [30, 1], t_eval=times, rtol=1e-10, atol=1e-12)
    return solution.y.flatten()


@pytest.mark.parametrize("theta", THETA)
def test_simulations_are_log_normal_around_the_populations(theta):
    generator = torch.Generator().manual_seed(1)
    x = LotkaVolterraODE().simulate(theta.expand(5_000, 4), generator=generator)
    log_mean = torch.from_numpy(solve_populations(theta.tolist())).log()
    score = x.double().log() - log_mean
    ranks = (score / 0.1).flatten()
    assert stats.kstest(ranks, "norm").pvalue > 1e-3
    assert stats.kstest(1.05 * ranks, "norm").pvalue < 1e-3
    assert ((score.mean(0) / 0.1).abs() * math.sqrt(5_000)).max() < 5


def test_likelihood_is_log_normal():
    torch.manual_seed(2)
    x = LotkaVolterraODE().simulate(THETA)
    expected = [
        stats.lognorm.logpdf(row.numpy(), 0.1, scale=solve_populations(theta)).sum()
        for theta, row in zip(THETA.tolist(), x, strict=True)
    ]
    found = LotkaVolterraODE().log_likelihood(THETA, x)
    assert found.tolist() == pytest.approx(expected, abs=0.02)
    assert LotkaVolterraODE().log_likelihood(THETA[:, None], x).shape == (2, 2)
    wrong = LotkaVolterraODE().log_likelihood(1.01 * THETA, x)
    assert wrong.tolist() != pytest.approx(expected, abs=0.02)


def test_the_impossible_has_no_density():
    x = LotkaVolterraODE().simulate(THETA)
    assert LotkaVolterraODE().log_likelihood(-THETA, x).eq(-math.inf).all()
    assert LotkaVolterraODE().log_likelihood(THETA, 0 * x).eq(-math.inf).all()


def test_populations_are_kept_within_bounds():
    # Prey that predators eat at once, and predators that eat without end.
    theta = torch.tensor([[0.1, 3.0, 0.1, 1.0], [3.0, 1e-5, 0.01, 1.0]])
    x = LotkaVolterraODE().simulate(theta.repeat(200, 1))
    low, high = x[::2].log().mean(0), x[1::2].log().mean(0)
    assert low.min() == pytest.approx(math.log(1e-10), abs=0.05)
    assert high.max() == pytest.approx(math.log(1e4), abs=0.05)


def test_simulations_of_the_prior_are_finite_and_repeat():
    torch.manual_seed(3)
    theta = LotkaVolterraODE().prior.sample((20_000,))
    first, again = (
        LotkaVolterraODE().simulate(theta, generator=torch.Generator().manual_seed(4))
        for _ in range(2)
    )
    assert torch.equal(first, again) and first.dtype == torch.float32
    assert first.isfinite().all() and (first > 0).all()


def test_bad_input_raises():
    task = LotkaVolterraODE()
    with pytest.raises(ValueError, match="`theta` must be positive, got 0"):
        task.simulate(0 * THETA)
    with pytest.raises(ValueError, match="`x_o` must be positive, got -1"):
        task.sample_posterior(5, [-1.0] * 20)
    with pytest.raises(ValueError, match="`x_o` must have a last dimension of 20"):
        task.sample_posterior(5, torch.ones(9))


@pytest.mark.slow
def test_chains_have_the_moments_of_weighted_draws():
    torch.manual_seed(5)
    task = LotkaVolterraODE()
    x_o = task.simulate(task.true_parameters[None])
    draws = task.sample_posterior(5_000, x_o, seed=1)
    logs = draws.log().double()
    centre = logs.mean(0)
    proposal = MultivariateNormal(centre, 1.5 * torch.cov(logs.T))
    proposed = proposal.sample((50_000,))
    theta = proposed.exp()
    weight = torch.softmax(
        task.log_likelihood(theta, x_o.double())
        + task.prior.log_prob(theta)
        + proposed.sum(1)
        - proposal.log_prob(proposed),
        0,
    )
    assert 1 / weight.square().sum() > 10_000

    def compute_features(values):
        score = (values - centre) / logs.std(0)
        return torch.cat([score, score**2], 1)

    exact = compute_features(proposed)
    expected = weight @ exact
    variance = weight @ (exact - expected).square() * weight.square().sum()

    def score(values):
        features = compute_features(values)
        error = (features.var(0) / (0.7 * len(values)) + variance).sqrt()
        return (features.mean(0) - expected).abs() / error

    assert score(logs).max() < 5
    assert score(logs + 0.15 * logs.std(0)).max() > 5
