"""Densities as ratios: exact where the closed form is, and normalised everywhere."""

import pytest
import torch
from exact_ratios import make_density, make_posterior_density
from linear_gaussian import NOISE, PRIOR, draw_pairs, exact_posterior, log_ratio
from sbi.utils import BoxUniform
from torch import distributions as d
from torch import nn

from sbi_aalr.networks import is_separable, likelihood_mixture, posterior_mixture
from sbi_aalr.networks.density import component_weights, draw_theta
from sbi_aalr.sampling.guided import Guide
from sbi_aalr.sampling.log_prior import LogPrior
from sbi_aalr.sampling.prior_transform import find_transform

NUM_ROWS = 10_000
BOX = BoxUniform(torch.tensor([-1.0]), torch.tensor([3.0]))


@pytest.fixture(scope="module")
def pairs():
    return draw_pairs(NUM_ROWS, seed=1)


def make_random(prior, num_rows=300, num_components=3, hidden_features=8):
    """A density of several components that no training has made dull."""
    torch.manual_seed(5)
    theta = prior.sample((num_rows,))
    x = theta + 0.5 * torch.randn_like(theta)
    estimator = make_density(theta, x, prior, num_components, hidden_features)
    torch.nn.init.normal_(estimator.embedding_net_x.layer.linear.bias, std=0.7)
    return estimator, x


@torch.no_grad()
def test_closed_form_of_the_posterior_is_exact_for_a_gaussian(pairs):
    theta, theta_prime, x = pairs
    estimator = make_density(theta, x)
    # Slopes and scales are known to 1 / sqrt(N).
    for rows in (theta, theta_prime):
        error = (estimator(rows, x) - log_ratio(rows, x)).abs()
        assert error.mean() < 5 / NUM_ROWS**0.5
    # The control: of shuffled parameters there is nothing to learn.
    nothing = make_density(theta_prime, x)
    assert nothing(theta_prime, x).abs().mean() < 5 / NUM_ROWS**0.5
    assert (nothing(theta, x) - log_ratio(theta, x)).abs().mean() > 0.2


@torch.no_grad()
def test_closed_form_of_the_likelihood_is_exact_up_to_a_function_of_x(pairs):
    theta, theta_prime, x = pairs
    build = likelihood_mixture(num_components=1, hidden_features=0)
    estimator = build(theta, x).eval()
    found = estimator(theta, x) - estimator(theta_prime, x)
    exact = log_ratio(theta, x) - log_ratio(theta_prime, x)
    assert (found - exact).abs().mean() < 5 / NUM_ROWS**0.5
    assert exact.abs().mean() > 0.5
    # What is left out is the log-density of the scaled data alone.
    evidence = d.Normal(0.0, (1 + NOISE**2) ** 0.5).log_prob(x).sum(dim=1)
    rest = estimator(theta, x) - log_ratio(theta, x) - evidence
    assert rest.std() < 5 / NUM_ROWS**0.5


@torch.no_grad()
def test_draws_have_the_exact_moments():
    estimator = make_posterior_density(NUM_ROWS)
    x = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
    draws = draw_theta(estimator, x, 4_000, torch.Generator().manual_seed(1))
    assert draws.shape == (4_000, 2, 2)
    for index in range(2):
        mean, spread = exact_posterior(x[index])
        # Monte Carlo error, and that of the regression at this x.
        error = 5 * spread / 4_000**0.5 + 5 * float(x.abs().max()) / NUM_ROWS**0.5 / 2
        assert (draws[:, index].mean(dim=0) - mean).abs().max() < error
        assert (draws[:, index].std(dim=0) / spread - 1).abs().max() < 0.07


@torch.no_grad()
def test_draws_and_density_agree_in_one_dimension():
    """Ranks of the draws under the density, integrated on a grid, are uniform."""
    estimator, x = make_random(BOX)
    line = torch.linspace(-1, 3, 20_001)[1:-1].unsqueeze(1)
    for row in x[:3]:
        log_q = estimator(line, row.expand(len(line), -1)) + BOX.log_prob(line)
        mass = log_q.double().exp() * (4 / 20_000)
        assert float(mass.sum()) == pytest.approx(1, abs=0.01)
        draws = draw_theta(
            estimator, row.unsqueeze(0), 5_000, torch.Generator().manual_seed(1)
        )[:, 0]
        ranks = mass.cumsum(0)[torch.searchsorted(line[:, 0], draws[:, 0]) - 1]
        distance = (ranks.sort().values - torch.linspace(0, 1, 5_000)).abs().max()
        # Kolmogorov's distance is above 1.95 / sqrt(N) once in a thousand times.
        assert distance < 1.95 / 5_000**0.5 + 0.01
        # The control: they are no draws of the prior.
        prior = BOX.sample((5_000,))[:, 0].sort().values
        assert (prior - draws[:, 0].sort().values).abs().max() > 0.2


@torch.no_grad()
def test_mean_ratio_over_the_prior_is_one():
    estimator, x = make_random(BOX)
    theta = BOX.sample((20_000,))
    for row in x[:5]:
        ratio = estimator(theta, row.expand(len(theta), -1)).double().exp()
        error = float(ratio.std()) / len(theta) ** 0.5
        assert error < 0.1 and abs(float(ratio.mean()) - 1) < 5 * error


@torch.no_grad()
def test_importance_weights_of_q_against_itself_are_one():
    estimator, x = make_random(PRIOR)
    theta, log_q = Guide(estimator).draw(torch.Generator().manual_seed(1), x[:4], 50)
    rows = theta.flatten(0, 1)
    again = estimator(rows, x[:4].repeat(50, 1)) + PRIOR.log_prob(rows)
    weights = (again.view(50, 4) - log_q).exp()
    torch.testing.assert_close(weights, torch.ones(50, 4), rtol=1e-3, atol=1e-3)
    # And by the mixture itself, in the whitened coordinates.
    shared = Guide(estimator).pair_with(rows, x[:4]).view(50, 4, 4)
    torch.testing.assert_close(
        shared.diagonal(dim1=1, dim2=2), log_q, rtol=1e-3, atol=1e-3
    )


@torch.no_grad()
def test_means_by_draws_are_means_by_the_ratio():
    estimator, x = make_random(PRIOR)
    draws = draw_theta(estimator, x[:1], 5_000, torch.Generator().manual_seed(1))[:, 0]
    torch.manual_seed(1)
    theta = PRIOR.sample((20_000,))
    ratio = estimator(theta, x[:1].expand(len(theta), -1)).exp()
    for function in (lambda t: t, torch.square, lambda t: (t > 0.2).float()):
        weighted = ratio.unsqueeze(1) * function(theta)
        errors = weighted.std(dim=0) / 20_000**0.5 + function(draws).std(dim=0) / 70.7
        gap = weighted.mean(dim=0) - function(draws).mean(dim=0)
        assert (gap.abs() < 5 * errors).all()


def test_same_generator_gives_same_draws_and_spares_the_global_one():
    estimator, x = make_random(PRIOR)
    state = torch.random.get_rng_state()
    found = [
        draw_theta(estimator, x[:2], 5, torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_component_weights_sum_to_one_and_are_those_of_the_layer():
    estimator, x = make_random(PRIOR)
    layer = estimator.embedding_net_x.layer
    nn.init.zeros_(layer.linear.weight)
    weights = component_weights(estimator.net.unpack(estimator.embedding_net_x(x[:3])))
    expected = layer.linear.bias[:3].softmax(dim=0).expand(3, -1)
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-5)


def test_both_sides_are_separable_and_pairs_are_rows():
    theta, _, x = draw_pairs(100, seed=2)
    builders = (
        posterior_mixture(find_transform(PRIOR), LogPrior(PRIOR), 3, 8),
        likelihood_mixture(2, 8),
    )
    for build in builders:
        estimator = build(theta, x).eval()
        assert is_separable(estimator)
        embedded = (
            estimator.embedding_net_theta(theta[:4]),
            estimator.embedding_net_x(x[:4]),
        )
        pairs = estimator.net.all_pairs(*embedded).diagonal()
        torch.testing.assert_close(
            pairs, estimator(theta[:4], x[:4]), rtol=1e-3, atol=1e-4
        )


def test_embedding_net_is_copied_and_used():
    torch.manual_seed(6)
    theta, images = PRIOR.sample((50,)), torch.randn(50, 1, 4, 4)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 5))
    estimator = posterior_mixture(
        find_transform(PRIOR), LogPrior(PRIOR), 2, 8, embedding_net_x=net
    )(theta, images)
    before = net[1].weight.clone()
    (-estimator(theta, images)).mean().backward()
    own = estimator.embedding_net_x.embedding_net[1].weight
    assert own is not net[1].weight and own.grad.abs().sum() > 0
    assert net[1].weight.grad is None and torch.equal(net[1].weight, before)
    assert estimator.eval()(theta, images).shape == (50,)


def test_bad_settings_are_named():
    for build in (likelihood_mixture, lambda **s: posterior_mixture(None, None, **s)):
        with pytest.raises(ValueError, match="`num_components`"):
            build(num_components=0)
        with pytest.raises(ValueError, match="`dropout`"):
            build(dropout=1.0)


@torch.no_grad()
def test_fixed_correlations_do_not_depend_on_the_condition():
    torch.manual_seed(2)
    theta = torch.randn(4_000, 2)
    lower = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    x = theta + 0.5 * torch.randn_like(theta) @ lower.T
    settings = {"num_components": 1, "hidden_features": 8, "fixed_correlations": True}
    estimator = likelihood_mixture(**settings)(theta, x).eval()
    exact = d.MultivariateNormal(theta, scale_tril=0.5 * lower).log_prob(x)
    # Untrained it is the regression in closed form, in scaled data.
    assert (estimator(theta, x) - exact).std() < 5 / len(theta) ** 0.5
    layer = estimator.embedding_net_theta.layer
    torch.nn.init.normal_(layer.linear.weight)
    packed = estimator.net.unpack(estimator.embedding_net_theta(theta))
    assert packed.scale.std(dim=0).min() > 0.1
    assert packed.below.std(dim=0).max() == 0.0
    assert layer.below.shape == (1,)


@torch.no_grad()
@pytest.mark.parametrize("name", ["constant", "sum"])
def test_numbers_that_say_nothing_say_nothing_off_their_value(pairs, name):
    """Such as a bin that all simulations leave empty, or a total that is rounded."""
    theta, _, x = pairs
    column = x.sum(dim=1, keepdim=True) if name == "sum" else torch.zeros(len(x), 1)
    other = theta[1:21]
    observed = x[:1].expand(20, -1)
    plain = likelihood_mixture(1, 0)(theta, x)(other, observed)
    wide = torch.cat((x, column), dim=1)
    estimator = likelihood_mixture(1, 0)(theta, wide)
    off = wide[:1].expand(20, -1) + torch.tensor([0.0] * x.shape[1] + [0.05])
    found = estimator(other, off)
    # A sum that is off moves the others by as much.
    change = (found - found.mean()) - (plain - plain.mean())
    assert change.abs().max() < (1e-3 if name == "constant" else 0.1)
    assert (plain - plain.mean()).std() > 0.5
