import numpy as np
import pytest
import torch
from linear_gaussian import NOISE, PRIOR, log_ratio, simulate
from spoiled import KINDS, RATIOS, draw_joint
from torch.distributions import Normal

from sbi_aalr.diagnostics import classifier_balance, ratio_normalisation

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


def test_normalisation_plot_colours_what_fails():
    figure = check(RATIOS["shifted"]).plot()
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert "fails" in labels


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


def test_exact_classifier_is_balanced_over_20_seeds():
    results = [
        classifier_balance(log_ratio, simulate, PRIOR, num_simulations=5_000, seed=seed)
        for seed in range(20)
    ]
    assert sum(not result.passed for result in results) <= 2
    z = [(result.total - 1) / result.standard_error for result in results]
    assert 0.4 < np.std(z) < 1.6
    assert results[0].verdict.startswith("Balanced: E[d] sums to")


@pytest.mark.parametrize(
    "ratio",
    [
        lambda theta, x: log_ratio(theta, x) + 0.3,
        lambda theta, x: log_ratio(theta + 0.5, x),
        lambda theta, x: 3 * log_ratio(theta, x),
    ],
)
def test_unbalanced_classifier_is_caught(ratio):
    result = classifier_balance(ratio, simulate, PRIOR, num_simulations=20_000, seed=1)
    assert not result.passed
    assert result.verdict.startswith("Not balanced")


def test_balance_of_a_constant_ratio_by_hand():
    def one(theta, x):
        return torch.zeros(len(theta))

    result = classifier_balance(one, simulate, PRIOR, num_simulations=100, seed=1)
    assert (result.joint, result.marginal, result.total) == (0.5, 0.5, 1.0)
    assert result.passed
