"""The loss of a batch: which pairs it is of, by hand, and that none leaks."""

import pytest
import torch
from linear_gaussian import build_quadratic, draw_pairs
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import nn

from sbi_aalr import networks
from sbi_aalr.networks import is_plain, is_separable
from sbi_aalr.networks.towers import SeparableHead
from sbi_aalr.simulation.batches import Batch
from sbi_aalr.training.losses import binary_cross_entropy, imbalance, info_nce
from sbi_aalr.training.ratio_loss import RatioLoss, choose_loss, compute_all_pairs

ALGORITHM_1 = RatioLoss(1, info_nce=0.0)


class Whole(RatioEstimator):
    """An estimator with a forward of its own, which cannot be taken apart."""

    def forward(self, theta, x):
        return (theta * x).sum(dim=1) - theta.square().sum(dim=1)


def build_whole(theta, x):
    return Whole(nn.Identity(), theta.shape[1:], x.shape[1:])


@pytest.mark.parametrize("build", [build_quadratic, build_whole])
def test_loss_of_fresh_contrasts_is_that_of_each_row_with_its_own(build):
    batch = Batch(*draw_pairs(20, seed=1))
    estimator = build(batch.theta, batch.x)
    with torch.no_grad():
        loss = ALGORITHM_1.of_batch(estimator, batch)
        joint = estimator(batch.theta, batch.x)
        marginal = estimator(batch.theta_prime, batch.x)
    torch.testing.assert_close(loss, binary_cross_entropy(joint, marginal))


@pytest.mark.parametrize("build", [build_quadratic, build_whole])
def test_loss_of_stored_pairs_is_that_of_the_next_rows_theta(build):
    theta, _, x = draw_pairs(4, seed=1)
    estimator = build(theta, x)
    with torch.no_grad():
        by_hand = [
            binary_cross_entropy(
                estimator(theta, x), estimator(theta.roll(shift, 0), x)
            )
            for shift in (1, 2, 3)
        ]
        met = set()
        for _ in range(50):
            loss = ALGORITHM_1.of_batch(estimator, Batch(theta, None, x))
            met |= {i for i, one in enumerate(by_hand) if torch.allclose(one, loss)}
    assert met == {0, 1, 2}


def test_weights_add_up_the_terms():
    batch = Batch(*draw_pairs(20, seed=1))
    estimator = build_quadratic(batch.theta, batch.x)
    logits = estimator(batch.theta, batch.x), estimator(batch.theta_prime, batch.x)
    loss = RatioLoss(1, cross_entropy=2.0, info_nce=3.0, balance=5.0)
    expected = 2 * binary_cross_entropy(*logits) + 3 * info_nce(*logits)
    expected = expected + 5 * imbalance(*logits)
    torch.testing.assert_close(loss.of_batch(estimator, batch), expected)


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
    assert ALGORITHM_1.of_batch(estimator, Batch(theta, theta, theta)).min() > 9


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
    assert choose_loss(stack) == ALGORITHM_1
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
