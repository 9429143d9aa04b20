"""From candidates to chains, through the public posterior."""

import math
import warnings

import pytest
import torch
from sbi.utils import BoxUniform, MultipleIndependent
from torch.distributions import Exponential

from sbi_aalr import ConvergenceWarning, MHPosterior, MHPosteriorParameters
from sbi_aalr.sampling.log_prior import LogPrior

QUIET = {"show_progress_bars": False}


def make_box(dim, side=1.0):
    return BoxUniform(-side * torch.ones(dim), side * torch.ones(dim))


class FlatTarget:
    def __call__(self, position):
        return torch.zeros(position.shape[:2])

    def select(self, index):
        return self


@pytest.mark.parametrize(("dim", "observations"), [(1, 1), (5, 5), (2, 3)])
def test_starts_under_a_flat_target_are_draws_from_the_prior(dim, observations):
    """The stream that makes candidates must not be the one that chooses among them."""
    prior = make_box(dim)
    means = []
    for seed in range(20):
        posterior = MHPosterior(
            lambda theta, x_o: prior.log_prob(theta),
            prior,
            num_chains=100,
            warmup_steps=0,
            max_rhat=None,
            min_ess=None,
            thin=1,
        )
        x = torch.zeros(observations, 1)
        draws = posterior.sample_batched((100,), x=x, seed=seed, **QUIET)
        means.append(draws.mean(dim=0))
    means = torch.stack(means)
    error = means.std(dim=0) / math.sqrt(len(means))
    assert (means.mean(dim=0).abs() < 5 * error).all()
    expected = math.sqrt(1 / 3 / 100)
    assert (means.std(dim=0) < 3 * expected).all()


def test_two_equal_modes_in_one_dimension_keep_their_shares():
    prior = make_box(1)

    def log_prob(theta, x_o):
        distance = (theta - torch.tensor([-0.7, 0.7])).square() / (2 * 0.01**2)
        return (-distance).logsumexp(-1) + prior.log_prob(theta)

    posterior = MHPosterior(log_prob, prior)
    for seed in range(5):
        draws = posterior.sample((2_000,), x=torch.zeros(1), seed=seed, **QUIET)
        ess = float(posterior.diagnostics()["ess_bulk"].min())
        share = float((draws > 0).float().mean())
        assert ess > 400
        assert abs(share - 0.5) < 5 * 0.5 / math.sqrt(ess)


def test_support_of_each_part_of_a_prior_is_kept():
    prior = MultipleIndependent([make_box(1), Exponential(torch.ones(1))])
    theta = torch.tensor([[0.0, -0.5], [0.0, 0.5], [2.0, 0.5]])
    log_prob = LogPrior(prior)(theta)
    assert torch.isneginf(log_prob[[0, 2]]).all()
    assert log_prob[1] == pytest.approx(math.log(0.5) - 0.5)


@pytest.mark.parametrize("num_chains", [1, 2, 3])
def test_population_kernels_refuse_too_few_chains(num_chains):
    with pytest.raises(ValueError, match="`num_chains` must be at least 4"):
        MHPosteriorParameters(kernel="differential_evolution", num_chains=num_chains)


def make_gaussian(**settings):
    prior = make_box(2, side=8)
    return MHPosterior(
        lambda theta, x_o: -theta.square().sum(-1) / 2 + prior.log_prob(theta),
        prior,
        **settings,
    )


def test_a_single_chain_stops_at_once_and_says_why():
    posterior = make_gaussian(num_chains=1)
    with pytest.warns(ConvergenceWarning, match="fewer than 2 chains"):
        posterior.sample((500,), x=torch.zeros(1), seed=1, **QUIET)
    assert int(posterior.diagnostics()["num_steps"]) < 20_000


def test_a_limit_that_is_off_does_not_warn():
    posterior = make_gaussian(num_chains=1, max_rhat=None, min_ess=50.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        posterior.sample((200,), x=torch.zeros(1), seed=1, **QUIET)
    assert bool(posterior.diagnostics()["converged"])
