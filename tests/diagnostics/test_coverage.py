from types import SimpleNamespace

import numpy as np
import pytest
import torch
from linear_gaussian import draw_pairs
from sbi.utils import BoxUniform
from spoiled import KINDS, POSTERIORS, GaussianPosterior, draw_joint

from sbi_aalr.diagnostics import expected_coverage


def check(posterior, seed=1, num_observations=300, **settings):
    theta, x = draw_joint(num_observations, seed)
    settings = {"num_samples": 100, "seed": seed, **settings}
    return expected_coverage(posterior, theta, x, **settings)


@pytest.mark.parametrize("kind", KINDS)
def test_exact_posterior_passes_and_spoiled_ones_are_caught(kind):
    result = check(POSTERIORS[kind])
    assert result.passed == (kind == "exact"), result.verdict
    start = {"exact": "No flaw found", "shifted": "Not calibrated: ranks of `theta_"}
    assert result.verdict.startswith(start.get(kind, kind.capitalize()))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_false_alarms_and_misses_over_20_seeds(kind):
    results = [check(POSTERIORS[kind], seed) for seed in range(20)]
    failures = sum(result.passed is False for result in results)
    # At the stated rate of 1 %, three or more of 20 have a probability of 0.1 %.
    assert failures <= 2 if kind == "exact" else failures == 20


def test_coverage_is_the_known_one_of_a_narrow_posterior():
    width = 0.7
    result = check(GaussianPosterior(width=width), num_observations=2_000)
    # In two dimensions the region of level p has the radius sqrt(-2 log(1 - p)).
    expected = 1 - (1 - result.levels) ** width**2
    error = np.sqrt(expected * (1 - expected) / 2_000)
    # A rank among 100 draws blurs the level by half a per cent.
    assert (np.abs(result.coverage - expected) < 5 * error + 0.005).all()
    assert ((result.lower <= result.coverage) & (result.coverage <= result.upper)).all()
    assert (result.lower <= expected + 0.005).mean() > 0.8


def test_intervals_are_clopper_and_pearsons():
    # 0 of 50: the upper end is 1 - 0.025^(1/50).
    result = check(GaussianPosterior(width=1e-6), num_observations=50)
    at = 0
    assert result.coverage[at] == 0
    assert result.lower[at] == 0
    assert result.upper[at] == pytest.approx(1 - 0.025 ** (1 / 50))


def test_ranks_break_ties_at_random():
    class Constant(GaussianPosterior):
        def sample_batched(self, sample_shape, x, **settings):
            return torch.zeros(*sample_shape, *x.shape)

    theta, x = torch.zeros(200, 2), torch.zeros(200, 2)
    result = expected_coverage(Constant(), theta, x, seed=1)
    assert result.passed
    assert 0 < result.ranks.min() < 0.1 and 0.9 < result.ranks.max() < 1


def test_few_observations_are_not_judged():
    result = check(POSTERIORS["over-confident"], num_observations=49)
    assert result.passed is None
    assert result.verdict.startswith("Not judged: 49 observations are fewer than 50")


def test_a_posterior_of_ours_is_taken_in_one_batch(posterior):
    theta, _, x = draw_pairs(100, seed=5)
    settings = {"num_chains": 25, "warmup_steps": 60, "thin": 5, "max_rhat": None}
    settings |= {"min_ess": None, "num_candidates": 1_000}
    result = expected_coverage(posterior, theta, x, num_samples=100, seed=1, **settings)
    assert posterior.chains.num_observations == 100
    assert result.passed, result.verdict


def test_same_seed_gives_same_ranks():
    first, second = check(POSTERIORS["exact"]), check(POSTERIORS["exact"])
    np.testing.assert_array_equal(first.ranks, second.ranks)
    np.testing.assert_array_equal(first.density_ranks, second.density_ranks)


def test_plot_draws_coverage_and_named_ranks():
    result = check(POSTERIORS["exact"], parameter_names=["rate", "size"])
    left, right = result.plot().axes
    np.testing.assert_array_equal(left.lines[1].get_ydata(), result.coverage)
    for column, line in enumerate(right.lines):
        below = (result.ranks[:, column, None] <= line.get_xdata()).mean(axis=0)
        np.testing.assert_allclose(line.get_ydata(), below - line.get_xdata())
    labels = [text.get_text() for text in right.get_legend().get_texts()]
    assert labels == ["rate", "size"]


def test_what_does_not_fit_is_refused():
    theta, x = draw_joint(60, seed=1)
    with pytest.raises(TypeError, match="must have a method `potential`, got Bare"):
        expected_coverage(
            type("Bare", (), {"sample_batched": lambda self: None})(), theta, x
        )
    with pytest.raises(ValueError, match=r"one row for each of x, got \(60, 2\)"):
        expected_coverage(POSTERIORS["exact"], theta, x[:50])
    with pytest.raises(ValueError, match="`num_samples` must be a positive int"):
        expected_coverage(POSTERIORS["exact"], theta, x, num_samples=0)
    wrong = GaussianPosterior()
    wrong.sample_batched = lambda sample_shape, x, **settings: x
    with pytest.raises(ValueError, match=r"draws of shape \(200, 60, 2\), got"):
        expected_coverage(wrong, theta, x)


def test_parameters_outside_the_prior_are_told():
    posterior = GaussianPosterior()
    posterior.potential_fn = SimpleNamespace(
        prior=BoxUniform(-torch.ones(2), torch.ones(2))
    )
    theta, x = draw_joint(20, seed=1)
    with pytest.raises(
        ValueError, match=r"`theta` must lie inside the prior, got 1. of"
    ):
        expected_coverage(posterior, theta, x)
    assert len(expected_coverage(posterior, theta.clamp(-1, 1), x).ranks) == 20
