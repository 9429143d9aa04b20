"""Where parameters are worth simulating for one observation, as a ratio says."""

from typing import NamedTuple

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

from sbi_aalr.networks.pairs import fix_observations

# A network is evaluated on blocks that stay in the cache.
_NETWORK_ROWS = 2_000
# Each side of a box is moved out by this share of its width.
_MARGIN = 0.05


class Cut(NamedTuple):
    """Where one round's estimator says that parameters are worth simulating.

    Attributes:
        estimator: The ratio estimator.
        x: The observation, shape `(1, *event_shape)`.
        least_log_ratio: Log-ratio below which parameters are left out, nats.
        low: Lower corner of a box outside which they are too, shape `(D,)`.
        high: Its upper corner, shape `(D,)`.
    """

    estimator: RatioEstimator
    x: Tensor
    least_log_ratio: float
    low: Tensor
    high: Tensor

    @torch.no_grad()
    def keeps(self, theta: Tensor) -> Tensor:
        """Which rows of theta, `(N, D)`, lie inside, `(N,)`."""
        inside = ((theta >= self.low) & (theta <= self.high)).all(dim=1)
        chosen = inside.nonzero().squeeze(1)
        if len(chosen):
            evaluate = fix_observations(self.estimator, self.x)
            for rows in chosen.split(_NETWORK_ROWS):
                inside[rows] = evaluate(theta[rows])[:, 0] >= self.least_log_ratio
        return inside


@torch.no_grad()
def find_cut(
    estimator: RatioEstimator, x: Tensor, draws: Tensor, epsilon: float
) -> Cut:
    """Find where posterior draws of one observation lie.

    Args:
        estimator: The ratio estimator.
        x: The observation, shape `(1, *event_shape)`.
        draws: Posterior draws given x, shape `(S, D)`.
        epsilon: Share of the posterior draws that may be left out, those of the least
            log-ratios.

    Returns:
        The cut.

    References:
        Miller et al. (2021), arXiv:2107.01214; Deistler et al. (2022),
        arXiv:2210.04815, for thresholds at a quantile.
    """
    log_ratio = fix_observations(estimator, x)(draws)
    least = float(torch.quantile(log_ratio, epsilon))
    low, high = draws.amin(dim=0), draws.amax(dim=0)
    margin = _MARGIN * (high - low)
    return Cut(estimator, x, least, low - margin, high + margin)
