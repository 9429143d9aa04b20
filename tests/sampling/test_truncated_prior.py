"""The cut prior is the prior inside, and nothing outside."""

import math

import pytest
import torch
from linear_gaussian import PRIOR, exact_posterior, log_ratio
from sbi.neural_nets.ratio_estimators import RatioEstimator
from sbi.utils import BoxUniform
from torch import nn

from sbi_aalr.sampling.cut import Cut
from sbi_aalr.sampling.truncated_prior import TruncatedPrior, cut_prior

X_O = torch.tensor([[1.0, -2.0]])
BOX = BoxUniform(-9 * torch.ones(2), 9 * torch.ones(2))


class Exact(RatioEstimator):
    """The exact log-ratio."""

    def __init__(self):
        super().__init__(nn.Identity(), (2,), (2,))

    def forward(self, theta, x):
        return log_ratio(theta, x)


def draw_posterior(num_draws):
    mean, deviation = exact_posterior(X_O)
    generator = torch.Generator().manual_seed(0)
    return mean + deviation * torch.randn(num_draws, 2, generator=generator)


def make_truncated(epsilon=0.01):
    return cut_prior(PRIOR, Exact(), X_O, draw_posterior(5_000), epsilon)


def test_draws_are_prior_draws_inside_the_cut():
    torch.manual_seed(0)
    truncated = make_truncated(epsilon=0.2)
    draws = truncated.sample((20_000,))
    assert truncated.keeps(draws).all()
    every = PRIOR.sample((100_000,))
    expected = every[truncated.keeps(every)]
    error = (draws.mean(0) - expected.mean(0)).abs()
    limit = 5 * expected.std(0) * (1 / len(draws) + 1 / len(expected)) ** 0.5
    assert (error < limit).all()
    # The control: the prior's own mean is elsewhere.
    assert ((draws.mean(0) - every.mean(0)).abs() > limit).all()


def test_one_draw_takes_few_proposals():
    truncated = make_truncated(epsilon=0.2)
    before = truncated.num_proposed
    assert truncated.sample().shape == (2,)
    assert truncated.num_proposed - before < 10_000


def test_cut_keeps_all_but_epsilon_of_the_posterior():
    draws = draw_posterior(50_000)
    for epsilon in (0.01, 0.2):
        kept = make_truncated(epsilon).keeps(draws).float().mean()
        assert 1 - 1.3 * epsilon - 0.005 < kept < 1 - 0.7 * epsilon


@pytest.mark.parametrize("prior", [PRIOR, BOX])
def test_density_is_the_priors_share_inside_and_nothing_outside(prior):
    truncated = cut_prior(prior, Exact(), X_O, draw_posterior(5_000), 0.01)
    inside = truncated.sample((50,))
    every = prior.sample((200_000,))
    share = truncated.keeps(every).float().mean()
    expected = prior.log_prob(inside) - share.log()
    error = 5 * (1 / share / len(every)) ** 0.5
    torch.testing.assert_close(
        truncated.log_prob(inside), expected, rtol=0, atol=float(error) + 0.02
    )
    outside = torch.tensor([[-8.0, 8.0]])
    assert torch.isneginf(truncated.log_prob(outside)).all()
    assert truncated.sample().shape == (2,) and truncated.sample((2, 3)).shape == (
        2,
        3,
        2,
    )


def test_cuts_add_up():
    first = make_truncated(0.2)
    second = cut_prior(first, Exact(), X_O, draw_posterior(500), 0.5)
    assert isinstance(second, TruncatedPrior) and len(second.cuts) == 2
    theta = draw_posterior(2_000)
    assert (first.keeps(theta) | ~second.keeps(theta)).all()
    assert second.keeps(theta).sum() < first.keeps(theta).sum()


def test_uniform_prior_is_proposed_from_the_box():
    prior = BoxUniform(-50 * torch.ones(2), 50 * torch.ones(2))
    truncated = cut_prior(prior, Exact(), X_O, draw_posterior(5_000), 0.01)
    assert truncated.keeps(truncated.sample((1_000,))).all()
    # From the whole prior, about one in a hundred would be.
    assert truncated.num_accepted / truncated.num_proposed > 0.3


def test_empty_cut_is_named(monkeypatch):
    monkeypatch.setattr("sbi_aalr.sampling.truncated_prior._MOST_DRAWS", 10)
    cut = make_truncated().cuts[0]._replace(least_log_ratio=1e9)
    with pytest.raises(RuntimeError, match=r"Only 0 of .* draws of the prior passed"):
        TruncatedPrior(PRIOR, (cut,)).sample((5,))


def test_small_shares_are_known():
    """Of a box the volumes tell it; of another prior, as many draws as it takes."""
    box = BoxUniform(-10 * torch.ones(2), 10 * torch.ones(2))
    low, high = torch.tensor([1.0, -2.0]), torch.tensor([1.001, -1.998])
    cut = Cut(Exact(), X_O, -1e30, low, high)
    truncated = TruncatedPrior(box, (cut,))
    truncated.sample((100,))
    known = math.log(0.001 * 0.002 / 20**2)
    found = truncated.find_log_share(truncated.num_accepted, truncated.num_proposed)
    assert found == pytest.approx(known, abs=1e-3)
    inside = (low + high) / 2
    assert float(truncated.log_prob(inside)) == pytest.approx(
        -math.log(0.001 * 0.002), abs=1e-3
    )
    # A corner of the Gaussian in which a draw of 9,000 lies.
    corner = torch.tensor([2.3, 2.3]), torch.tensor([9.0, 9.0])
    truncated = TruncatedPrior(PRIOR, (Cut(Exact(), X_O, -1e30, *corner),))
    share = float(torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(-2.3))) ** 2
    inside = torch.tensor([3.0, 3.0])
    expected = float(PRIOR.log_prob(inside)) - math.log(share)
    assert float(truncated.log_prob(inside)) == pytest.approx(expected, abs=0.16)
