"""Log-probability of the truth and coverage, on posteriors that are known."""

import math

import pytest
import torch
from scipy import stats
from torch.distributions import MultivariateNormal

from sbi_aalr.comparison.truth import estimate_log_evidence, truth_scores
from sbi_aalr.simulators import GaussianLinear, TwoMoons


def make_generator():
    return torch.Generator().manual_seed(3)


def test_log_evidence_of_gaussian_is_exact():
    task = GaussianLinear()
    torch.manual_seed(0)
    x_o = torch.linspace(-0.5, 0.5, 10)
    draws = task.sample_posterior(2_000, x_o, seed=1)

    def log_joint(theta):
        return task.log_likelihood(theta, x_o) + task.prior.log_prob(theta)

    exact = MultivariateNormal(torch.zeros(10), 0.2 * torch.eye(10)).log_prob(x_o)
    result = estimate_log_evidence(log_joint, task.prior, draws, make_generator())
    assert result == pytest.approx(float(exact), abs=0.05)


def test_log_evidence_of_two_moons_is_that_of_a_grid():
    task = TwoMoons()
    torch.manual_seed(0)
    x_o = torch.tensor([0.1, 0.3])
    draws = task.sample_posterior(2_000, x_o, seed=1)
    middle = (torch.arange(1_500) + 0.5) / 750 - 1
    grid = torch.cartesian_prod(middle, middle)
    exact = torch.logsumexp(task.log_likelihood(grid, x_o).double(), 0)
    exact = exact - math.log(len(grid))

    def log_joint(theta):
        return task.log_likelihood(theta, x_o) + task.prior.log_prob(theta)

    result = estimate_log_evidence(log_joint, task.prior, draws, make_generator())
    assert result == pytest.approx(float(exact), abs=0.1)


def test_posterior_that_cannot_be_normalised_gives_nan():
    task = TwoMoons()
    draws = task.sample_posterior(500, [0.0, 0.0], seed=1)

    def spike(theta):
        return -((theta - 0.123).square().sum(-1)) * 1e9

    scores = truth_scores(
        spike, task.prior, draws, draws[0], generator=make_generator()
    )
    assert math.isnan(scores.log_prob_true)


def test_log_prob_true_of_exact_posterior_ignores_constants():
    task = GaussianLinear()
    torch.manual_seed(0)
    theta = task.prior.sample((1,))[0]
    x_o = task.simulate(theta[None])
    draws = task.sample_posterior(2_000, x_o, seed=1)
    posterior = MultivariateNormal(x_o[0] / 2, 0.05 * torch.eye(10))
    for constant in (0.0, 1_000.0):
        scores = truth_scores(
            lambda rows, constant=constant: posterior.log_prob(rows) + constant,
            task.prior,
            draws,
            theta,
            generator=make_generator(),
        )
        expected = float(posterior.log_prob(theta))
        assert scores.log_prob_true == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("factor", [1.0, 0.7, 1.4])
def test_coverage_is_that_of_a_calibrated_posterior_only(factor):
    """Observe a Gaussian 200 times; a posterior of another width is caught."""
    torch.manual_seed(5)
    prior = MultivariateNormal(torch.zeros(2), torch.eye(2))
    levels, covered = [], 0.0
    for _ in range(200):
        theta = prior.sample()
        centre = (theta + torch.randn(2)) / 2
        width = factor * math.sqrt(0.5)
        draws = centre + width * torch.randn(400, 2)

        def log_posterior(rows, centre=centre, width=width):
            return -(rows - centre).square().sum(-1) / (2 * width**2)

        scores = truth_scores(
            log_posterior, prior, draws, theta, generator=make_generator()
        )
        levels.append(scores.coverage_level)
        covered += scores.coverage / 200
    is_calibrated = stats.kstest(levels, "uniform").pvalue > 1e-3
    assert is_calibrated == (factor == 1.0)
    is_near = abs(covered - 0.9) < 3.5 * math.sqrt(0.09 / 200)
    assert is_near == (factor == 1.0)
