"""The exact ratio and posterior of the linear Gaussian problem, and spoiled ones."""

import torch
from linear_gaussian import NOISE, PRIOR, log_ratio, simulate
from torch.distributions import Normal

from sbi_aalr.seeding import seeded

# What each must be found to be; every check has to catch all but the exact one.
RATIOS = {
    "exact": log_ratio,
    "over-confident": lambda theta, x: 1.5 * log_ratio(theta, x),
    "under-confident": lambda theta, x: 0.6 * log_ratio(theta, x),
    "shifted": lambda theta, x: log_ratio(theta + 0.5, x),
}


class GaussianPosterior:
    """The exact posterior, with its width and its mean moved on request."""

    def __init__(self, width=1.0, shift=0.0):
        precision = 1 + NOISE**-2
        self.slope = NOISE**-2 / precision
        self.scale = width * precision**-0.5
        self.shift = shift

    def sample_batched(self, sample_shape, x, show_progress_bars=True):
        mean = self.slope * x + self.shift
        return mean + self.scale * torch.randn(*sample_shape, *mean.shape)

    def potential(self, theta, x):
        mean = self.slope * x + self.shift
        return Normal(mean, self.scale).log_prob(theta).sum(dim=-1)


POSTERIORS = {
    "exact": GaussianPosterior(),
    "over-confident": GaussianPosterior(width=0.7),
    "under-confident": GaussianPosterior(width=1.4),
    "shifted": GaussianPosterior(shift=0.4),
}
KINDS = list(RATIOS)


def draw_joint(count, seed):
    """Parameters from the prior and data simulated from them."""
    with seeded(seed):
        theta = PRIOR.sample((count,))
        return theta, simulate(theta)
