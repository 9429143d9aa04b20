import numpy as np
import pytest
import torch
from linear_gaussian import NOISE, PRIOR, build_quadratic, log_ratio
from spoiled import KINDS, RATIOS, draw_joint
from torch.distributions import MultivariateNormal, Normal

from sbi_aalr.diagnostics import ratio_normalisation
from sbi_aalr.diagnostics.plot_style import BLUE, GREY, RED
from sbi_aalr.networks import two_towers

_, X = draw_joint(4, seed=1)


def check(ratio, **settings):
    settings = {"num_draws": 10_000, "seed": 1, "x": X, **settings}
    return ratio_normalisation(ratio, PRIOR, **settings)


@pytest.mark.parametrize("kind", KINDS)
def test_exact_ratio_passes_and_spoiled_ones_are_caught_over_20_seeds(kind):
    results = [check(RATIOS[kind], seed=seed) for seed in range(20)]
    assert all(result.judged.all() for result in results)
    failures = sum(result.passed is False for result in results)
    # At the stated rate of 1 %, three or more of 20 have a probability of 0.1 %.
    assert failures <= 2 if kind == "exact" else failures == 20


def test_means_are_the_known_ones_of_a_shifted_ratio():
    result = check(RATIOS["shifted"], num_draws=50_000)
    # E_prior[r(x|theta + shift)] is N(x; shift, 1 + noise^2) over p(x).
    spread = (1 + NOISE**2) ** 0.5
    expected = (Normal(0.5, spread).log_prob(X) - Normal(0, spread).log_prob(X)).sum(1)
    error = np.abs(result.log_mean - expected.numpy()) / result.standard_error
    assert result.effective_sample_size.min() > 1_000
    assert error.max() < 5
    assert result.passed is False
    assert "observations failed; the log E[r] furthest from" in result.verdict


def test_too_few_effective_draws_are_not_judged():
    def sharp(theta, x):
        return 3_000 * log_ratio(theta, x)

    result = check(sharp)
    assert not result.judged.any() and result.passed is None
    assert result.verdict.startswith("Not judged: the effective number of prior draws")
    # One sharp observation among others is left out, and said to be.
    x = torch.cat((X, torch.full((1, 2), 20.0)))
    mixed = check(log_ratio, x=x)
    assert mixed.judged.tolist() == [True] * 4 + [False]
    assert mixed.passed and "1 more were not judged" in mixed.verdict


def test_ratio_of_zero_everywhere_is_not_judged():
    result = check(lambda theta, x: torch.full((len(theta),), -torch.inf))
    assert result.passed is None
    assert (result.effective_sample_size == 0).all()


@pytest.mark.parametrize(
    ("kind", "outcome"), [("exact", "passes"), ("shifted", "fails")]
)
def test_plot_draws_means_in_the_colour_of_their_outcome(kind, outcome):
    # The last observation is too far out to be judged.
    result = check(RATIOS[kind], x=torch.cat((X, torch.full((1, 2), 20.0))))
    (axes,) = result.plot().axes
    drawn = {bars.get_label(): bars for bars in axes.containers}
    if kind == "exact":
        assert list(drawn) == ["passes", "not judged"]
    colours = {"passes": BLUE, "fails": RED, "not judged": GREY}
    chosen = {
        "passes": result.judged & ~result.failed,
        "fails": result.failed,
        "not judged": ~result.judged,
    }
    assert outcome in drawn
    for label, bars in drawn.items():
        points, _, (reach,) = bars.lines
        (index,) = chosen[label].nonzero()
        np.testing.assert_array_equal(points.get_xdata(), index)
        np.testing.assert_allclose(points.get_ydata(), result.log_mean[index])
        assert points.get_color() == colours[label]
        ends = [segment[:, 1] for segment in reach.get_segments()]
        limit = result.limit * result.standard_error[index]
        np.testing.assert_allclose(np.ptp(ends, axis=1), 2 * limit)


def build_estimator(head):
    """An estimator of five parameters and eight data, at random."""
    theta, x = torch.randn(64, 5), torch.randn(64, 8)
    if head == "product":
        return two_towers(16)(theta, x).eval()
    estimator = build_quadratic(theta, x)
    if head == "own forward":

        class Shifted(type(estimator)):
            def forward(self, theta, x):
                return super().forward(theta, x) + 0.1

        estimator.__class__ = Shifted
    return estimator


@pytest.mark.parametrize("head", ["product", "quadratic", "own forward"])
def test_estimator_gives_what_it_gives_as_a_bare_function(head):
    torch.manual_seed(0)
    estimator = build_estimator(head)
    prior = MultivariateNormal(torch.zeros(5), torch.eye(5))
    x = torch.randn(3, 8)
    settings = {"num_draws": 5_000, "seed": 2}
    fast = ratio_normalisation(estimator, prior, x, **settings)
    bare = ratio_normalisation(lambda t, x: estimator(t, x), prior, x, **settings)
    for name in ("log_mean", "standard_error", "effective_sample_size"):
        np.testing.assert_allclose(
            getattr(fast, name), getattr(bare, name), rtol=1e-4, atol=1e-5
        )


def test_estimator_embeds_prior_draws_once_for_all_observations():
    torch.manual_seed(0)
    estimator = build_estimator("product")
    rows = {"theta": 0, "x": 0}

    def count(name):
        def add(net, inputs, output):
            rows[name] += len(inputs[0])

        return add

    estimator.embedding_net_theta.register_forward_hook(count("theta"))
    estimator.embedding_net_x.register_forward_hook(count("x"))
    prior = MultivariateNormal(torch.zeros(5), torch.eye(5))
    ratio_normalisation(estimator, prior, torch.randn(50, 8), num_draws=5_000, seed=1)
    assert rows == {"theta": 5_000, "x": 50}


def test_estimator_that_gives_nan_is_refused():
    estimator = build_estimator("product")
    for parameter in estimator.parameters():
        parameter.data.fill_(torch.nan)
    prior = MultivariateNormal(torch.zeros(5), torch.eye(5))
    with pytest.raises(ValueError, match="no NaN and no plus infinity"):
        ratio_normalisation(estimator, prior, torch.randn(2, 8), num_draws=100)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": X[0]}, ValueError, "`x` must have one row an observation"),
        ({"x": X.numpy()}, TypeError, "`x` must be a torch tensor"),
        ({"x": X * torch.nan}, ValueError, "`x` must be finite"),
        ({"num_draws": 1.5}, TypeError, "`num_draws` must be a positive int"),
    ],
)
def test_normalisation_refuses_what_does_not_fit(arguments, error, message):
    with pytest.raises(error, match=message):
        check(log_ratio, **arguments)
