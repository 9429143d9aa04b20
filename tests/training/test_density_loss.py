"""Maximum likelihood as a loss of ratio estimators."""

import torch
from exact_ratios import make_density, make_known
from linear_gaussian import draw_pairs, log_ratio

from sbi_aalr.networks import likelihood_mixture
from sbi_aalr.simulation.batches import Batch
from sbi_aalr.training.density_loss import DensityLoss
from sbi_aalr.training.loop import fit
from sbi_aalr.training.passes import StoredPasses
from sbi_aalr.training.recipe import Recipe


def test_loss_is_minus_the_log_ratio_of_each_pair():
    theta, theta_prime, x = draw_pairs(50, seed=1)
    loss = DensityLoss().of_batch(make_known(), Batch(theta, theta_prime, x))
    assert loss.shape == (50,)
    torch.testing.assert_close(loss, -log_ratio(theta, x))
    # Contrasts do not matter, and may be missing.
    again = DensityLoss().of_batch(make_known(), Batch(theta, None, x))
    assert torch.equal(again, loss)


@torch.no_grad()
def test_truth_has_the_least_loss():
    theta, _, x = draw_pairs(4_000, seed=1)
    batch, loss = Batch(theta, None, x), DensityLoss()
    exact = loss.of_batch(make_known(), batch).mean()
    for factor in (0.7, 1.4):
        other = make_density(theta, x)
        other.embedding_net_x.slope.mul_(factor)
        assert loss.of_batch(other, batch).mean() > exact + 0.02


def test_descent_mends_a_density_that_was_spoiled():
    torch.manual_seed(1)
    theta, _, x = draw_pairs(1_000, seed=1)
    fresh, _, fresh_x = draw_pairs(2_000, seed=2)
    for build in (make_density, likelihood_mixture(1, 0)):
        estimator = build(theta, x).eval()
        with torch.no_grad():
            best = float(-estimator(fresh, fresh_x).mean())
            bias = next(
                module.layer.linear.bias
                for module in (estimator.embedding_net_x, estimator.embedding_net_theta)
                if hasattr(module, "layer")
            )
            bias.add_(0.4)
            spoiled = float(-estimator(fresh, fresh_x).mean())
        rows = [(theta[i : i + 100], x[i : i + 100]) for i in range(0, 1_000, 100)]
        fit(
            estimator,
            StoredPasses(rows, 1_000, "cpu"),
            recipe=Recipe(100, 10, 0.03),
            loss=DensityLoss(),
        )
        with torch.no_grad():
            mended = float(-estimator(fresh, fresh_x).mean())
        assert spoiled > best + 0.2 and mended < best + 0.05
