"""Estimators taken apart give what they give whole."""

import pytest
import torch
from linear_gaussian import draw_pairs
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import nn

from sbi_aalr import networks
from sbi_aalr.networks import is_plain, is_separable
from sbi_aalr.networks.pairs import fix_observations, take_apart

THETA, _, X = draw_pairs(12, seed=1)


class Rescaled(RatioEstimator):
    def forward(self, theta, x):
        return 2 * super().forward(theta, x)


def build_rescaled(theta, x):
    return Rescaled(nn.Linear(4, 1), (2,), (2,))


BUILDERS = {
    "two_towers": networks.two_towers(8, 1),
    "mlp": networks.mlp((8,)),
    "rescaled": build_rescaled,
}


@pytest.mark.parametrize("name", BUILDERS)
def test_fixed_observations_give_every_pair(name):
    torch.manual_seed(0)
    estimator = BUILDERS[name](THETA, X).eval()
    with torch.no_grad():
        pairs = fix_observations(estimator, X[:5])(THETA)
        expected = torch.stack([estimator(THETA, x.expand(12, 2)) for x in X[:5]], 1)
    torch.testing.assert_close(pairs, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", BUILDERS)
def test_parts_put_together_are_the_estimator(name):
    torch.manual_seed(0)
    estimator = BUILDERS[name](THETA, X).eval()
    parts = take_apart(estimator)
    with torch.no_grad():
        together = parts.combine(parts.embed_theta(THETA), parts.embed_x(X))
        torch.testing.assert_close(together, estimator(THETA, X))
    assert is_separable(estimator) == (name == "two_towers")


def test_only_estimators_without_a_forward_of_their_own_are_plain():
    assert is_plain(RatioEstimator(nn.Linear(4, 1), (2,), (2,)))
    assert not is_plain(build_rescaled(THETA, X))
