"""The paper's test of the ratio: what it must catch, and how often it cries wolf."""

import numpy as np
import pytest
import torch
from linear_gaussian import PRIOR, log_ratio, simulate
from sbi.utils import BoxUniform
from sbi.utils.user_input_checks import process_prior
from sklearn.linear_model import LogisticRegression
from spoiled import KINDS, RATIOS
from torch.distributions import Exponential, Poisson

from sbi_aalr.diagnostics import ratio_roc
from sbi_aalr.diagnostics.marginal import thin
from sbi_aalr.diagnostics.ratio_roc import RatioROC

THETA = torch.tensor([1.0, -0.5])
BOX = BoxUniform(-2 * torch.ones(2), 2 * torch.ones(2))


def check(ratio, **settings):
    settings = {"num_simulations": 3_000, "seed": 1, **settings}
    return ratio_roc(ratio, simulate, PRIOR, THETA, **settings)


@pytest.mark.parametrize("kind", KINDS)
def test_exact_ratio_passes_and_spoiled_ones_are_caught(kind):
    result = check(RATIOS[kind])
    assert result.effective_sample_size > 1_000
    assert result.passed == (kind == "exact"), result.verdict
    assert ("No flaw found" in result.verdict) == (kind == "exact")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_false_alarms_and_misses_over_20_seeds(kind):
    results = [
        check(RATIOS[kind], num_simulations=6_000, seed=seed) for seed in range(20)
    ]
    assert min(result.effective_sample_size for result in results) > 1_000
    failures = sum(result.passed is False for result in results)
    if kind == "exact":
        # At the stated rate of 1 %, three or more of 20 have a probability of 0.1 %.
        assert failures <= 2
        z = [(r.auc - 0.5) / r.auc_standard_error for r in results]
        assert np.std(z) < 1.5  # 2.5 times the standard error of a spread of 1
    else:
        assert failures == 20


@pytest.mark.slow
def test_error_is_that_of_repeated_runs():
    results = [check(log_ratio, num_simulations=600, seed=seed) for seed in range(50)]
    spread = np.std([result.auc for result in results], ddof=1)
    stated = np.mean([result.auc_standard_error for result in results])
    # 50 runs give the spread to 10 %, and the correction is on the safe side.
    assert 0.6 < spread / stated < 1.3


def test_same_seed_gives_same_result_and_leaves_generators_alone():
    before = torch.get_rng_state()
    first, second, other = (
        check(log_ratio, num_simulations=500, seed=seed) for seed in (3, 3, 4)
    )
    assert (first.auc, first.p_value) == (second.auc, second.p_value)
    assert first.auc != other.auc
    assert torch.equal(before, torch.get_rng_state())


def test_an_estimator_is_taken_as_it_is(estimator):
    result = check(estimator)
    assert result.passed
    assert abs(result.auc - 0.5) < 5 * result.auc_standard_error


def test_too_few_effective_weights_are_not_judged():
    def sharp(theta, x):
        return -1e4 * (x - theta).square().sum(dim=-1)

    result = check(sharp)
    assert result.effective_sample_size < 10
    assert result.passed is None
    assert result.verdict.startswith("Not judged: the weights have an effective sample")
    assert "Raise `num_simulations`" in result.verdict
    # A limit that cannot be met is not met by an exact ratio either.
    assert check(log_ratio, min_effective_sample_size=1e6).passed is None


def test_effective_sample_size_by_hand():
    # Half of the marginal has the weight 1, the other half 3: 4^2 / (1 + 9) * N / 2.
    def ratio(theta, x):
        return torch.where(torch.arange(len(x)) % 2 == 0, 0.0, np.log(3.0))

    result = check(ratio, num_simulations=2_000)
    assert result.effective_sample_size == pytest.approx(1_600)


def test_a_factor_of_theta_alone_goes_unseen_as_documented():
    def shifted(theta, x):
        return log_ratio(theta, x) + 100 * theta[:, 0]

    first, second = (
        check(ratio, num_simulations=500) for ratio in (log_ratio, shifted)
    )
    assert first.auc == pytest.approx(second.auc, abs=1e-3)


def test_classifier_of_ones_own_is_used():
    # A linear classifier cannot see a difference of spread: a weak test passes.
    over = RATIOS["over-confident"]
    wide = ratio_roc(
        over,
        simulate,
        PRIOR,
        torch.zeros(2),
        num_simulations=3_000,
        classifier=LogisticRegression(),
        seed=1,
    )
    assert wide.passed
    assert not check(RATIOS["shifted"], classifier=LogisticRegression()).passed


def test_thinning_keeps_means_and_bounds_rows_however_often_it_is_done():
    torch.manual_seed(0)
    log_weights = 2 * torch.randn(50_000, dtype=torch.double)
    values = torch.randn(50_000, dtype=torch.double) + log_weights
    expected = (log_weights.exp() * values).sum() / log_weights.exp().sum()
    for parts in (1, 5):
        kept, new = values[:0], log_weights[:0]
        for block, weights in zip(
            values.chunk(parts), log_weights.chunk(parts), strict=True
        ):
            kept, new = thin(torch.cat((kept, block)), torch.cat((new, weights)))
        assert 1_000 < len(kept) < 5_100
        assert len(kept.unique()) == len(kept)
        share = new.softmax(0)
        error = (share * (kept - expected)).square().sum().sqrt()
        assert abs((share * kept).sum() - expected) < 5 * error
        # The control: without weights the mean is another one.
        assert abs(kept.mean() - expected) > 5 * error


def test_plot_shows_curve_and_verdict():
    result = check(RATIOS["shifted"])
    false, true = result.roc_curve
    assert result.roc_curve.shape == (2, 101)
    assert np.trapezoid(true, false) == pytest.approx(result.auc, abs=0.01)
    (axes,) = result.plot().axes
    assert axes.get_title() == result.verdict
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), true)


def test_nan_figures_are_never_a_pass():
    nan = float("nan")
    result = RatioROC(nan, nan, np.zeros((2, 101)), nan, 200, nan, 0.01)
    assert result.passed is None


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"theta": torch.ones(3)}, ValueError, r"`theta` must be one set.*\(2,\), got"),
        ({"theta": [1.0, 2.0]}, TypeError, "`theta` must be a torch tensor, got list"),
        ({"theta": torch.full((2,), torch.nan)}, ValueError, "`theta` must be finite"),
        ({"log_ratio": 3}, TypeError, "`log_ratio` must be a ratio estimator"),
        ({"log_ratio": lambda t, x: t}, ValueError, r"one number a row, \(500,\)"),
        ({"log_ratio": lambda t, x: 1.0}, TypeError, "must return a torch tensor"),
        (
            {"log_ratio": lambda t, x: x[:, 0] * torch.nan},
            ValueError,
            "no NaN and no plus infinity, got 500",
        ),
        (
            {"log_ratio": lambda t, x: torch.full((len(x),), -torch.inf)},
            ValueError,
            "above minus infinity somewhere",
        ),
        ({"simulator": lambda theta: theta[:3]}, ValueError, "one row for each"),
        ({"simulator": 3}, TypeError, "`simulator` must be callable, got int"),
        ({"theta": THETA + 0j}, TypeError, "`theta` must hold real numbers"),
        (
            {"log_ratio": lambda t, x: 1 / 0},
            ValueError,
            r"`log_ratio` must take theta .*ZeroDivisionError.*\(500, 2\), \(500, 2\)",
        ),
        ({"prior": BOX, "theta": THETA + 9}, ValueError, "`theta` must lie inside the"),
        ({"prior": Poisson(torch.ones(1))}, ValueError, "of continuous parameters"),
        ({"prior": "wide"}, TypeError, "`prior` must be a torch Distribution"),
        ({"num_simulations": 0}, ValueError, "`num_simulations` must be a positive"),
        ({"false_alarm_rate": 1.0}, ValueError, "`false_alarm_rate` must lie strictly"),
        ({"min_effective_sample_size": 0}, ValueError, "must be a positive finite"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    given = {"log_ratio": log_ratio, "simulator": simulate, "prior": PRIOR}
    given |= {"theta": THETA, "num_simulations": 500, **arguments}
    with pytest.raises(error, match=message):
        ratio_roc(**given)


def test_a_prior_of_one_parameter_without_an_event_shape_is_taken():
    prior, _, _ = process_prior(Exponential(torch.tensor([2.0])))
    assert prior.event_shape == ()
    found = ratio_roc(
        lambda theta, x: -(x - theta).square()[:, 0] / 2,
        lambda theta: theta + torch.randn_like(theta),
        prior,
        torch.tensor([0.5]),
        num_simulations=500,
        classifier=LogisticRegression(),
        seed=1,
    )
    assert found.passed
