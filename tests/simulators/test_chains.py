"""Chains on exact likelihoods, against posteriors that are known."""

import math

import pytest
import torch
from scipy import stats
from torch.distributions import Independent, LogNormal, Normal

from sbi_aalr.simulators import _chains
from sbi_aalr.simulators._chains import sample_chains

PRIOR = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)


def log_likelihood(theta):
    """Two looks at one, with errors of 0.5."""
    return -((theta - torch.tensor([1.0, -2.0])).square() / 0.5).sum(-1)


def test_draws_follow_the_posterior():
    draws = sample_chains(PRIOR, log_likelihood, 8_000, seed=1).double()
    assert draws.shape == (8_000, 2)
    for column, centre in enumerate((0.8, -1.6)):
        scaled = (draws[:, column] - centre) / math.sqrt(0.2)
        assert stats.kstest(scaled, "norm").pvalue > 1e-3
        assert stats.kstest(scaled + 0.1, "norm").pvalue < 1e-3
    correlation = torch.corrcoef(torch.stack([draws[:-1, 0], draws[1:, 0]]))[0, 1]
    assert abs(correlation) < 5 / math.sqrt(8_000)


def test_bounds_of_the_prior_are_kept_and_only_what_is_inside_is_evaluated():
    prior = Independent(LogNormal(torch.zeros(1), torch.ones(1)), 1)

    def log_small(theta):
        assert (theta > 0).all()
        return -20 * theta[:, 0]

    draws = sample_chains(prior, log_small, 2_000, seed=2)[:, 0].double()
    grid = torch.linspace(1e-5, 2, 400_000, dtype=torch.float64)
    density = (-(grid.log() ** 2) / 2 - grid.log() - 20 * grid).exp()
    cdf = density.cumsum(0) / density.sum()
    rank = cdf[torch.searchsorted(grid, draws).clamp(max=len(grid) - 1)]
    assert stats.kstest(rank, "uniform").pvalue > 1e-3
    assert stats.kstest(rank**1.2, "uniform").pvalue < 1e-3


def test_seeds_repeat_and_the_global_one_decides_without():
    first, again, other = (
        sample_chains(PRIOR, log_likelihood, 50, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    drawn = []
    for _ in range(2):
        torch.manual_seed(5)
        drawn.append(sample_chains(PRIOR, log_likelihood, 50, seed=None))
    assert torch.equal(*drawn)


def test_chains_that_do_not_converge_raise(monkeypatch):
    monkeypatch.setattr(_chains, "_MAX_STEPS", 1_000)
    generator = torch.Generator().manual_seed(0)

    def log_noise(theta):
        # Nothing that a chain could explore.
        return 30 * torch.rand(len(theta), generator=generator)

    with pytest.raises(RuntimeError, match="chains of the exact posterior must conv"):
        sample_chains(PRIOR, log_noise, 50, seed=1)


@pytest.mark.parametrize("bad", [{"num_samples": 0}, {"seed": -1}])
def test_bad_counts_raise(bad):
    arguments = {"num_samples": 5, "seed": 1, **bad}
    with pytest.raises(ValueError, match=f"`{next(iter(bad))}` must be"):
        sample_chains(PRIOR, log_likelihood, **arguments)
