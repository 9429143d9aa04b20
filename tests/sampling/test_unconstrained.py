"""Parameters of many decades are sampled where all decades are alike."""

import math

import pytest
import torch
from sbi.utils import MultipleIndependent
from torch.distributions import (
    ExpTransform,
    Gamma,
    HalfCauchy,
    Independent,
    LogNormal,
    Normal,
    TransformedDistribution,
    Uniform,
)

from sbi_aalr import MHPosterior
from sbi_aalr.mcmc import from_proposal
from sbi_aalr.sampling import chunks

QUIET = {"show_progress_bars": False, "seed": 1}
LN10 = math.log(10)
LOG_UNIFORM = TransformedDistribution(
    Uniform(torch.tensor([-12 * LN10]), torch.zeros(1)), [ExpTransform()]
)


def measure_up_to(limit):
    """A measurement of log10 theta that says no more than that it is below a limit."""

    def potential(theta, x_o):
        return -torch.nn.functional.softplus((theta[:, 0].log10() - limit) * 20)

    return potential


def draw(potential, prior):
    """Decades of draws, of three runs of many chains for a sharp mean."""
    settings = {"num_chains": 64, **QUIET}

    def posterior(theta, x_o):
        return potential(theta, x_o) + prior.log_prob(theta)

    sampler = MHPosterior(posterior, prior, max_steps=4_000)
    draws = sampler.sample((4_000,), x=torch.zeros(1), **settings)
    return draws[:, 0].log10(), sampler


@pytest.mark.parametrize("is_joined", [False, True])
def test_an_upper_limit_is_uniform_over_the_decades_below(is_joined):
    prior = Independent(LOG_UNIFORM, 1, validate_args=False)
    if is_joined:
        prior = MultipleIndependent([LOG_UNIFORM, Normal(torch.zeros(1), 1.0)])
    decades, sampler = draw(measure_up_to(-4), prior)
    ess = float(sampler.diagnostics()["ess_bulk"].min())
    assert ess > 400
    error = 5 * 8 / 12**0.5 / ess**0.5
    assert abs(decades.mean() + 8) < error
    assert abs((decades < -10).float().mean() - 0.25) < 5 * (0.19 / ess) ** 0.5


@pytest.mark.filterwarnings("ignore::sbi_aalr.errors.ConvergenceWarning")
def test_in_prior_units_the_small_decades_would_be_lost(monkeypatch):
    monkeypatch.setattr(
        chunks, "spans_decades", lambda rows: torch.zeros(rows.shape[1:])
    )
    prior = Independent(LOG_UNIFORM, 1, validate_args=False)
    decades, sampler = draw(measure_up_to(-4), prior)
    is_right = abs((decades < -10).float().mean() - 0.25) < 0.05
    has_converged = bool(sampler.diagnostics()["converged"].all())
    assert not (is_right and has_converged)


@pytest.mark.parametrize(
    ("prior", "centre"),
    [
        (LogNormal(torch.zeros(1), 5 * torch.ones(1)), -4.0),
        (Gamma(0.1 * torch.ones(1), torch.ones(1)), -6.0),
        (HalfCauchy(torch.ones(1)), 1.5),
        (LOG_UNIFORM, -11.9),
    ],
)
def test_measured_decades_have_the_exact_posterior(prior, centre):
    def potential(theta, x_o):
        return -((theta[:, 0].log10() - centre) ** 2) / (2 * 0.2**2)

    whole = Independent(prior, 1, validate_args=False)
    decades, sampler = draw(potential, whole)
    grid = torch.linspace(centre - 3, min(centre + 3, 2.9), 20_001)
    grid = grid[(grid < 0) & (grid > -12)] if prior is LOG_UNIFORM else grid
    theta = (10**grid).unsqueeze(1)
    log_density = potential(theta, None) + whole.log_prob(theta) + grid * LN10
    weight = log_density.double().softmax(0)
    mean = (weight * grid).sum()
    deviation = (weight * (grid - mean) ** 2).sum().sqrt()
    ess = float(sampler.diagnostics()["ess_bulk"].min())
    assert ess > 400
    assert abs(decades.mean() - mean) < 5 * deviation / ess**0.5
    assert abs(decades.std() / deviation - 1) < 5 / ess**0.5


def test_a_proposal_of_the_users_stays_in_prior_units():
    prior = Independent(LogNormal(torch.zeros(1), 2.0), 1)
    least = []

    def propose(generator, position):
        least.append(float(position.min()))
        noise = 2 * torch.empty_like(position).normal_(generator=generator)
        return position * noise.exp(), noise.sum(dim=-1)

    posterior = MHPosterior(
        lambda theta, x_o: prior.log_prob(theta), prior, kernel=from_proposal(propose)
    )
    draws = posterior.sample((1_000,), x=torch.zeros(1), **QUIET)
    assert min(least) > 0
    assert posterior.diagnostics()["converged"].all()
    error = 5 * 2 / float(posterior.diagnostics()["ess_bulk"].min()) ** 0.5
    assert abs(draws.log().mean()) < error
