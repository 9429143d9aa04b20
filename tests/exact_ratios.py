"""Ratio estimators that compute a log-ratio which is known, and densities beside them.

Their heads are separable, as those are that the package stacks and samples quickly.
"""

import torch
from linear_gaussian import PRIOR, draw_pairs, log_ratio
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import nn

from sbi_aalr.networks import posterior_mixture
from sbi_aalr.sampling.log_prior import LogPrior
from sbi_aalr.sampling.prior_transform import find_transform


class FunctionNet(nn.Module):
    """A log-ratio `function(theta, x)` of `(..., D)` and `(..., E)`, as a head."""

    def __init__(self, function, theta_dim):
        super().__init__()
        self.function, self.theta_dim = function, theta_dim
        # Estimators are asked for the device of their weights.
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, embedded):
        theta, x = embedded[..., : self.theta_dim], embedded[..., self.theta_dim :]
        return (self.function(theta, x) + self.nothing).unsqueeze(-1)

    def all_pairs(self, theta, x):
        return self.function(theta.unsqueeze(1), x.unsqueeze(0)) + self.nothing


def make_known(function=log_ratio, theta_dim=2, x_dim=2):
    """An estimator of a known log-ratio; by default that of `linear_gaussian`."""
    net = FunctionNet(function, theta_dim)
    return RatioEstimator(net, (theta_dim,), (x_dim,)).eval()


def make_density(theta, x, prior=PRIOR, num_components=1, hidden_features=0):
    """A density q(theta|x) / p(theta); in closed form unless it has features."""
    build = posterior_mixture(
        find_transform(prior),
        LogPrior(prior),
        num_components=num_components,
        hidden_features=hidden_features,
    )
    return build(theta, x).eval()


def make_posterior_density(num_rows=4_000, seed=1):
    """One of the linear Gaussian problem, exact but for what few rows leave open."""
    theta, _, x = draw_pairs(num_rows, seed)
    return make_density(theta, x)
