"""Losses on logits: by hand, as the explicit double loop, and far off zero."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import softplus

from sbi_aalr.training.losses import (
    all_pairs_cross_entropy,
    all_pairs_imbalance,
    all_pairs_info_nce,
    binary_cross_entropy,
    imbalance,
    info_nce,
)

LOGITS = torch.randn(7, 7, generator=torch.Generator().manual_seed(0)).double() * 3


def cross_entropy_by_hand(joint, marginal):
    """Labels, sigmoids and logarithms, as Algorithm 1 is written."""
    losses = []
    for logit_joint, logit_marginal in zip(joint, marginal, strict=True):
        d_joint = 1 / (1 + np.exp(-logit_joint))
        d_marginal = 1 / (1 + np.exp(-logit_marginal))
        losses.append((-np.log(d_joint) - np.log(1 - d_marginal)) / 2)
    return np.array(losses)


def test_loss_equals_hand_computation():
    joint, marginal = np.random.default_rng(0).normal(0, 3, (2, 50))
    loss = binary_cross_entropy(torch.tensor(joint), torch.tensor(marginal))
    np.testing.assert_allclose(loss, cross_entropy_by_hand(joint, marginal), rtol=1e-10)


def test_loss_is_log_two_at_zero_logits():
    loss = binary_cross_entropy(torch.zeros(3), torch.zeros(3))
    assert loss.shape == (3,)
    assert loss.tolist() == pytest.approx([math.log(2)] * 3)


def test_loss_keeps_labels_apart():
    right = binary_cross_entropy(torch.full((1,), 5.0), torch.full((1,), -5.0))
    wrong = binary_cross_entropy(torch.full((1,), -5.0), torch.full((1,), 5.0))
    assert right < 0.01 and wrong > 4.9


@pytest.mark.parametrize("size", [100.0, -100.0])
def test_loss_keeps_gradient_where_sigmoid_saturates(size):
    joint = torch.tensor([-size], requires_grad=True)
    marginal = torch.tensor([size], requires_grad=True)
    loss = binary_cross_entropy(joint, marginal)
    loss.sum().backward()
    # Wrong by 100 nats on both pairs, or right by as much.
    assert loss.item() == pytest.approx(max(size, 0.0))
    assert joint.grad.item() == pytest.approx(-0.5 if size > 0 else 0.0)
    assert marginal.grad.item() == pytest.approx(0.5 if size > 0 else 0.0)


def test_probabilities_lose_gradient_where_logits_do_not():
    """The control: what the loss would be without softplus."""
    logit = torch.tensor([100.0], requires_grad=True)
    loss = torch.nn.BCELoss()(torch.sigmoid(logit), torch.zeros(1))
    loss.backward()
    assert logit.grad.item() == 0.0


def test_loss_of_differing_shapes_raises():
    with pytest.raises(ValueError, match="one entry for each simulation"):
        binary_cross_entropy(torch.zeros(3), torch.zeros(2))


def test_contrasts_far_off_give_neither_subnormal_gradients_nor_stop_the_joint():
    generator = torch.Generator().manual_seed(1)
    logits = 60 * torch.randn(100, 100, generator=generator, dtype=torch.float32) - 80
    # One simulation whose own logit is far below too: it must still be pulled up.
    logits.diagonal().copy_(torch.linspace(-200, 8, 100))
    logits.requires_grad_()
    joint, rows = logits.diagonal(), torch.arange(100)
    total = all_pairs_cross_entropy(logits) + all_pairs_info_nce(logits)
    (gradient,) = torch.autograd.grad(total.sum(), logits)
    tiny = torch.finfo(torch.float32).tiny
    assert not ((gradient != 0) & (gradient.abs() < tiny)).any()
    assert (gradient[rows, rows][joint < 0] < -0.4).all()
    # Nothing else has changed: the plain formulas, in double precision.
    double = logits.detach().double().requires_grad_()
    own = double.diagonal()
    marginal = (softplus(double).sum(0) - softplus(own)) / 99
    plain = (softplus(-own) + marginal) / 2
    plain = plain + double.logsumexp(0) + double.logsumexp(1) - 2 * own
    assert torch.allclose(total.double(), plain, rtol=1e-6, atol=1e-5)
    (exact,) = torch.autograd.grad(plain.sum(), double)
    assert torch.allclose(gradient.double(), exact, rtol=1e-4, atol=1e-6)
    # The control: as they stand, the formulas do give subnormal numbers.
    single = logits.detach().requires_grad_()
    (slow,) = torch.autograd.grad(softplus(single).sum(), single)
    assert ((slow != 0) & (slow.abs() < tiny)).any()


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
