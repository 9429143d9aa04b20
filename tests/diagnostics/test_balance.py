import numpy as np
import pytest
import torch
from linear_gaussian import PRIOR, log_ratio, simulate

from sbi_aalr.diagnostics import classifier_balance


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


def test_one_simulation_tells_no_error():
    with pytest.raises(
        ValueError, match="`num_simulations` must be a positive int, at least 2"
    ):
        classifier_balance(log_ratio, simulate, PRIOR, num_simulations=1)
