import math

import pytest
import torch
from exact_ratios import make_density, make_known
from linear_gaussian import PRIOR, draw_pairs, log_ratio
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import nn

from sbi_aalr import MHPosterior, networks
from sbi_aalr.errors import NormaliserWarning
from sbi_aalr.networks import Stack
from sbi_aalr.networks.density import draw_theta
from sbi_aalr.sampling.normaliser import PriorDraws

THETA, _, X = draw_pairs(40, seed=1)


class Exact(RatioEstimator):
    """The exact log-ratio, and something that depends on x added to it."""

    def __init__(self, offset):
        super().__init__(nn.Identity(), (2,), (2,))
        self.offset = offset

    def forward(self, theta, x):
        return log_ratio(theta, x) + self.offset * x[..., 0]


def test_exact_ratio_is_normalised_within_its_error():
    result = PriorDraws(Exact(0.0), PRIOR, 20_000).measure(X)
    assert result.num_effective.min() > 100
    errors = result.log_normaliser.abs() / result.standard_error
    assert errors.max() < 5
    assert errors.mean() > 0.3


def test_log_density_whose_normaliser_is_hardly_known_says_so():
    """A posterior so narrow that no draw of the prior falls into it."""
    theta = torch.full((1, 2), 0.5)
    for width, is_known in ((0.1, True), (1e-4, False)):

        class Narrow(Exact):
            def forward(self, theta, x, width=width):
                return -((theta - x) / width).square().sum(-1) / 2

        posterior = MHPosterior.from_estimator(Narrow(0.0), PRIOR)
        if is_known:
            assert posterior.normaliser(theta).num_effective >= 30
            posterior.log_prob(theta, x=theta)
            continue
        with pytest.warns(NormaliserWarning, match="may be off by far") as caught:
            posterior.log_prob(theta, x=theta)
        assert caught[0].filename == __file__ and caught[0].message.value < 30
        posterior.potential(theta, x=theta)


def test_what_was_added_is_measured():
    result = PriorDraws(Exact(0.7), PRIOR, 20_000).measure(X)
    errors = (result.log_normaliser - 0.7 * X[:, 0]).abs() / result.standard_error
    assert errors.max() < 5
    # The control: without it they would be off.
    assert (result.log_normaliser.abs() / result.standard_error).max() > 20


def test_standard_error_is_the_spread_over_seeds():
    results = [
        PriorDraws(Exact(0.0), PRIOR, 2_000, seed=seed).measure(X[:3])
        for seed in range(40)
    ]
    spread = torch.stack([r.log_normaliser for r in results]).std(dim=0)
    claimed = torch.stack([r.standard_error for r in results]).mean(dim=0)
    torch.testing.assert_close(spread, claimed, rtol=0.5, atol=0)


def test_separable_and_other_networks_are_measured_alike():
    estimator = networks.two_towers(8, 1)(THETA, X).eval()
    quick = PriorDraws(estimator, PRIOR, 3_000).measure(X[:4])

    class Slow(RatioEstimator):
        def forward(self, theta, x):
            return estimator(theta, x)

    slow = PriorDraws(Slow(nn.Identity(), (2,), (2,)), PRIOR, 3_000).measure(X[:4])
    torch.testing.assert_close(quick.log_normaliser, slow.log_normaliser)
    torch.testing.assert_close(quick.standard_error, slow.standard_error)


def test_generators_are_left_alone_and_seeds_repeat():
    before = torch.get_rng_state()
    first = PriorDraws(Exact(0.0), PRIOR, 100, seed=1).measure(X)
    assert torch.equal(torch.get_rng_state(), before)
    again = PriorDraws(Exact(0.0), PRIOR, 100, seed=1).measure(X)
    assert torch.equal(first.log_normaliser, again.log_normaliser)


def test_wrong_number_of_draws_is_named():
    with pytest.raises(ValueError, match="`num_draws` must be a positive int, got 0"):
        PriorDraws(Exact(0.0), PRIOR, 0).measure(X)


class HalfNormal(torch.distributions.Distribution):
    """A prior with an edge that its support does not tell."""

    support = torch.distributions.constraints.independent(
        torch.distributions.constraints.real, 1
    )
    mean, variance = torch.full((1,), 0.8), torch.full((1,), 0.36)

    def __init__(self):
        super().__init__(event_shape=torch.Size([1]), validate_args=False)

    def sample(self, sample_shape=()):
        return torch.randn(*sample_shape, 1).abs()

    def log_prob(self, value):
        inside = math.log(2) + torch.distributions.Normal(0.0, 1.0).log_prob(value)
        return torch.where(value > 0, inside, -torch.inf).squeeze(-1)


def test_draws_beyond_edges_of_the_prior_count_for_nothing():
    prior = HalfNormal()
    torch.manual_seed(1)
    theta = prior.sample((2_000,))
    density = make_density(theta, theta + 0.5 * torch.randn_like(theta), prior)
    exact = make_known(
        lambda theta, x: -2 * (theta - x).square().sum(-1), theta_dim=1, x_dim=1
    )
    estimator = Stack([exact], torch.ones(1), proposal=density)
    x = torch.tensor([[0.1], [1.5]])
    # A good part of the density's draws lie where the prior has none.
    drawn = draw_theta(density, x, 1_000, torch.Generator().manual_seed(1))
    assert 0.1 < (drawn[:, 0] < 0).float().mean() < 0.6
    result = PriorDraws(estimator, prior, 20_000).measure(x)
    grid = torch.linspace(0, 8, 80_001, dtype=torch.float64).unsqueeze(1)
    heights = (prior.log_prob(grid).unsqueeze(1) - 2 * (grid - x.T).square()).exp()
    known = torch.trapezoid(heights, grid[:, 0], dim=0).log()
    assert result.standard_error.max() < 0.03
    assert ((result.log_normaliser - known).abs() < 4 * result.standard_error).all()
