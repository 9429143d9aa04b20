"""Two towers begin tame and never overflow."""

import torch

from sbi_aalr import networks


def test_towers_begin_with_features_of_order_one():
    torch.manual_seed(0)
    theta, x = torch.randn(200, 3), torch.randn(200, 2)
    estimator = networks.two_towers(32)(theta, x)
    for embed, rows in zip(
        (estimator.embedding_net_theta, estimator.embedding_net_x),
        (theta, x),
        strict=True,
    ):
        spread = embed(rows).std()
        assert 0.2 < spread < 3


def test_towers_stay_finite_whatever_their_weights_say():
    torch.manual_seed(0)
    theta, x = torch.randn(200, 3), torch.randn(200, 2)
    estimator = networks.two_towers(32)(theta, x)
    with torch.no_grad():
        for embed in (estimator.embedding_net_theta, estimator.embedding_net_x):
            embed[-1][-1].linear.weight.mul_(1e3)
        logits = estimator(1e30 * theta, 1e30 * x)
    assert torch.isfinite(logits).all() and logits.abs().max() > 1e6
