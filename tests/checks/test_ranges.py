"""Where priors that are made of parts allow parameters."""

import pytest
import torch
from sbi.utils import BoxUniform, MultipleIndependent
from torch import distributions as d

from sbi_aalr import AALR, MHPosterior
from sbi_aalr.checks import check_prior, find_outside, is_in_support
from sbi_aalr.sampling.log_prior import LogPrior

ONE = torch.ones(2)


def make_rows(distribution):
    return d.Independent(distribution, 1)


def make_mixture(component):
    return d.MixtureSameFamily(d.Categorical(torch.tensor([0.3, 0.7])), component)


def move(distribution, loc, scale=1.0):
    return d.TransformedDistribution(distribution, d.AffineTransform(loc, scale))


def make_boxes():
    low = torch.tensor([[-3.0, -3.0], [1.0, 1.0]])
    return make_mixture(make_rows(d.Uniform(low, low + 2)))


BETWEEN = [(0.0, 0.0), (-2.0, 2.0), (-4.0, -2.0)]
PRIORS = {
    "boxes": (make_boxes, BETWEEN),
    "moved": (lambda: move(make_rows(d.Exponential(ONE)), 3.0), [(2.9, 4.0)]),
    "mirrored": (lambda: move(make_rows(d.Exponential(ONE)), 3.0, -1), [(3.1, 0.0)]),
    "moved mixture": (
        lambda: move(make_mixture(make_rows(d.Gamma(torch.ones(2, 2), 1.0))), -2.0),
        [(-2.1, 0.0)],
    ),
    "mixture of moved": (
        lambda: make_mixture(
            move(
                make_rows(d.Exponential(torch.ones(2, 2))),
                torch.tensor([[0.0, 0.0], [-9.0, 3.0]]),
            )
        ),
        [(-1.0, 1.0), (-9.1, 4.0)],
    ),
    "parts": (
        lambda: MultipleIndependent(
            [move(d.Exponential(ONE[:1]), 3.0), BoxUniform(-ONE[:1], ONE[:1])]
        ),
        [(2.0, 0.0), (4.0, 2.0)],
    ),
    "logarithmic": (
        lambda: d.TransformedDistribution(
            BoxUniform(torch.tensor([-27.0, 0.0]), torch.tensor([0.0, 1.0])),
            d.ExpTransform(),
        ),
        [(-1.0, 2.0), (1.1, 2.0), (0.5, 0.9)],
    ),
    "logit": (
        lambda: d.TransformedDistribution(
            make_rows(d.Normal(0 * ONE, ONE)),
            [d.SigmoidTransform(), d.AffineTransform(-3.0, 6.0)],
        ),
        [(-3.1, 0.0)],
    ),
    "of low rank": (
        lambda: d.LowRankMultivariateNormal(0 * ONE, ONE.unsqueeze(1), ONE),
        [],
    ),
}


@pytest.mark.parametrize(("make", "outside"), PRIORS.values(), ids=PRIORS)
def test_prior_of_parts_allows_its_draws_and_nothing_else(make, outside):
    prior = check_prior("prior", make())
    torch.manual_seed(0)
    theta = prior.sample((5_000,))
    assert is_in_support(theta, prior).float().mean() > 0.999
    assert not find_outside(theta, prior).any()
    assert LogPrior(prior)(theta).isfinite().float().mean() > 0.999
    if outside:
        rows = torch.tensor(outside)
        assert find_outside(rows, prior).all()
        assert LogPrior(prior)(rows).isneginf().all()
    AALR(prior, show_progress_bars=False).append_simulations(theta, theta)


def test_mixture_of_boxes_is_sampled_with_the_right_shares():
    prior = make_boxes()
    posterior = MHPosterior(lambda theta, x_o: prior.log_prob(theta), prior)
    draws = posterior.sample(
        (4_000,), x=torch.zeros(1), seed=1, show_progress_bars=False
    )
    assert not find_outside(draws, prior).any()
    transform = posterior.theta_transform
    torch.testing.assert_close(transform.inv(transform(draws)), draws)
    assert float((draws[:, 0] > 0).float().mean()) == pytest.approx(0.7, abs=0.05)


class Flat(d.Distribution):
    """A prior with a density or a support that cannot be."""

    def __init__(self, log_density=0.0, high=None):
        super().__init__(event_shape=torch.Size([2]), validate_args=False)
        self.log_density, self.high = log_density, high

    @property
    def support(self):
        if self.high is None:
            return d.constraints.independent(d.constraints.real, 1)
        return d.constraints.independent(d.constraints.interval(0.0, self.high), 1)

    def sample(self, sample_shape=()):
        return torch.randn(*sample_shape, 2) + 3

    def log_prob(self, value):
        return -(value - 3).square().sum(dim=-1) / 2 + self.log_density


def test_prior_that_contradicts_itself_is_refused():
    check_prior("prior", Flat())
    with pytest.raises(ValueError, match=r"`prior` must give its own draws finite"):
        check_prior("prior", Flat(torch.inf))
    with pytest.raises(ValueError, match=r"`prior` must draw from its own `support`"):
        check_prior("prior", Flat(high=0.5))
    nothing = make_rows(d.Normal(torch.zeros(0), 1.0))
    with pytest.raises(ValueError, match=r"`prior` must have at least one parameter"):
        check_prior("prior", nothing)
