"""Losses over all pairs equal the explicit double loop, and never leak."""

import math

import pytest
import torch
from linear_gaussian import draw_pairs
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import nn

from sbi_aalr import networks
from sbi_aalr.networks import SeparableHead, is_plain, is_separable
from sbi_aalr.simulation.batches import Batch
from sbi_aalr.training.losses import (
    all_pairs_cross_entropy,
    all_pairs_imbalance,
    all_pairs_info_nce,
    binary_cross_entropy,
    imbalance,
    info_nce,
)
from sbi_aalr.training.ratio_loss import RatioLoss, choose_loss, compute_all_pairs

LOGITS = torch.randn(7, 7, generator=torch.Generator().manual_seed(0)).double() * 3


def loop_over_pairs(log_ratio):
    """Joint logits, and for each x those of every other theta, one by one."""
    rows = len(log_ratio)
    joint = torch.stack([log_ratio[j, j] for j in range(rows)])
    marginal = torch.stack(
        [
            torch.stack([log_ratio[i, j] for i in range(rows) if i != j])
            for j in range(rows)
        ]
    )
    return joint, marginal


def test_cross_entropy_equals_the_double_loop():
    expected = binary_cross_entropy(*loop_over_pairs(LOGITS))
    torch.testing.assert_close(all_pairs_cross_entropy(LOGITS), expected)


def test_info_nce_equals_the_double_loop_both_ways():
    by_theta = info_nce(*loop_over_pairs(LOGITS))
    by_x = info_nce(*loop_over_pairs(LOGITS.T))
    torch.testing.assert_close(all_pairs_info_nce(LOGITS), by_theta + by_x)


def test_imbalance_equals_the_double_loop():
    expected = imbalance(*loop_over_pairs(LOGITS))
    torch.testing.assert_close(all_pairs_imbalance(LOGITS), expected)


def test_info_nce_equals_hand_computation():
    loss = info_nce(torch.tensor([1.0]), torch.tensor([[2.0, 3.0]]))
    by_hand = -math.log(math.e / (math.e + math.e**2 + math.e**3))
    assert float(loss) == pytest.approx(by_hand)


def test_imbalance_is_zero_for_balanced_and_large_for_unbalanced_classifiers():
    assert float(imbalance(torch.tensor([2.0]), torch.tensor([-2.0]))) < 1e-10
    assert float(imbalance(torch.tensor([9.0]), torch.tensor([9.0]))) > 0.9


@pytest.mark.parametrize(
    "loss", [all_pairs_cross_entropy, all_pairs_info_nce, all_pairs_imbalance]
)
@pytest.mark.parametrize("shape", [(1, 1), (2, 3)])
def test_what_is_no_square_of_two_rows_is_named(loss, shape):
    with pytest.raises(ValueError, match=r"square matrix .* got shape \(\d, \d\)"):
        loss(torch.zeros(shape))


def test_contrasts_of_other_rows_are_named():
    with pytest.raises(ValueError, match=r"one entry for each.*\(3,\) and \(2, 4\)"):
        info_nce(torch.zeros(3), torch.zeros(2, 4))


class Equality(SeparableHead):
    """Recognises theta that made x = theta, and nothing else."""

    def __init__(self):
        super().__init__(1)

    def forward(self, embedded):
        theta, x = embedded.split(2, dim=-1)
        return torch.where((theta == x).all(dim=-1, keepdim=True), 20.0, -20.0)

    def all_pairs(self, embedded_theta, embedded_x):
        same = (embedded_theta[:, None] == embedded_x[None]).all(dim=-1)
        return torch.where(same, 20.0, -20.0)


@pytest.mark.parametrize("num_contrasts", [None, 1, 4])
@pytest.mark.parametrize("info_nce", [0.0, 1.0])
def test_no_row_is_contrasted_with_its_own_theta(num_contrasts, info_nce):
    theta = draw_pairs(5, seed=1)[0]
    estimator = RatioEstimator(Equality(), (2,), (2,), nn.Identity(), nn.Identity())
    loss = RatioLoss(num_contrasts, info_nce=info_nce)
    for _ in range(50):
        assert loss.of_batch(estimator, Batch(theta, None, theta)).max() < 1e-6
    # The control: with its own theta among the contrasts a row pays 10 nats and more.
    leak = RatioLoss(1, info_nce=0.0)
    assert leak.of_batch(estimator, Batch(theta, theta, theta)).min() > 9


def test_all_pairs_of_a_network_equal_its_single_pairs():
    theta, _, x = draw_pairs(6, seed=1)
    estimator = networks.two_towers(8)(theta, x).eval()
    with torch.no_grad():
        pairs = compute_all_pairs(estimator, theta, x[:4])
        for i in range(6):
            for j in range(4):
                single = estimator(theta[i : i + 1], x[j : j + 1])
                torch.testing.assert_close(pairs[i, j], single[0])


def test_separable_networks_are_told_from_others():
    theta, _, x = draw_pairs(9, seed=1)
    towers, stack = networks.two_towers(8)(theta, x), networks.residual_mlp(8)(theta, x)
    assert is_plain(towers) and is_separable(towers)
    assert is_plain(stack) and not is_separable(stack)
    assert choose_loss(towers) == RatioLoss()
    assert choose_loss(stack) == RatioLoss(num_contrasts=1, info_nce=0.0)
    with pytest.raises(ValueError, match=r"not separable.*num_contrasts=1"):
        RatioLoss().of_batch(stack, Batch(theta, None, x))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"num_contrasts": 0}, ValueError, "`num_contrasts` must be a positive int"),
        ({"num_contrasts": 1.5}, TypeError, "`num_contrasts` must be"),
        ({"balance": -1.0}, ValueError, "`balance` must be .* at least 0, got -1.0"),
        ({"cross_entropy": 0.0, "info_nce": 0.0}, ValueError, "must not both be 0"),
    ],
)
def test_wrong_loss_is_named(settings, error, message):
    with pytest.raises(error, match=message):
        RatioLoss(**settings)


def test_too_few_rows_for_the_contrasts_are_named():
    theta, _, x = draw_pairs(3, seed=1)
    estimator = networks.mlp((4,))(theta, x)
    with pytest.raises(ValueError, match="at least 4 rows, got 3"):
        RatioLoss(num_contrasts=3).of_batch(estimator, Batch(theta, None, x))
