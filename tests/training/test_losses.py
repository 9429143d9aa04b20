import math

import numpy as np
import pytest
import torch
from linear_gaussian import build_quadratic, draw_pairs
from torch.nn.functional import softplus

from sbi_aalr.simulation.batches import Batch
from sbi_aalr.training import losses
from sbi_aalr.training.losses import binary_cross_entropy
from sbi_aalr.training.ratio_loss import RatioLoss


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


def test_batch_loss_equals_hand_computation_from_estimator():
    batch = Batch(*draw_pairs(20, seed=1))
    estimator = build_quadratic(batch.theta, batch.x)
    with torch.no_grad():
        loss = RatioLoss(1, info_nce=0.0).of_batch(estimator, batch)
        joint = estimator(batch.theta, batch.x).numpy()
        marginal = estimator(batch.theta_prime, batch.x).numpy()
    np.testing.assert_allclose(loss, cross_entropy_by_hand(joint, marginal), rtol=1e-5)


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
    total = losses.all_pairs_cross_entropy(logits) + losses.all_pairs_info_nce(logits)
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
