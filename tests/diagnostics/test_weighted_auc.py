import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sbi_aalr.diagnostics.weighted_auc import weighted_auc, weighted_roc


def test_auc_is_scikit_learns_with_weights_and_ties():
    generator = np.random.default_rng(0)
    positive = generator.normal(0.5, 1, 200).round(1)
    negative = generator.normal(0, 1, 300).round(1)
    weights = generator.exponential(size=300)
    expected = roc_auc_score(
        np.repeat([1, 0], [200, 300]),
        np.concatenate((positive, negative)),
        sample_weight=np.concatenate((np.ones(200), weights)),
    )
    assert weighted_auc(positive, negative, weights).value == pytest.approx(expected)
    # The scale of the weights is of no account.
    scaled = weighted_auc(positive, negative, 7 * weights)
    assert scaled == pytest.approx(weighted_auc(positive, negative, weights))


def test_auc_by_hand():
    area = weighted_auc(np.array([1.0, 3.0]), np.array([0.0, 2.0]), np.array([1.0, 3]))
    # 1 beats the quarter below it, 3 beats all.
    assert area.value == pytest.approx((0.25 + 1) / 2)


def test_standard_error_is_that_of_repeated_runs():
    generator = np.random.default_rng(1)
    areas = []
    for _ in range(300):
        weights = generator.exponential(size=200)
        positive, negative = generator.normal(size=(2, 200))
        areas.append(weighted_auc(positive, negative, weights))
    values, errors = np.array(areas).T
    spread = values.std(ddof=1)
    # 300 runs give a spread to 4 %.
    assert abs(errors.mean() / spread - 1) < 5 * 0.04
    assert abs(values.mean() - 0.5) < 5 * spread / np.sqrt(300)


def test_curve_of_perfect_scores_goes_through_the_corner():
    grid = np.linspace(0, 1, 5)
    curve = weighted_roc(np.array([2.0, 3]), np.array([0.0, 1]), np.ones(2), grid)
    np.testing.assert_allclose(curve, 1)
