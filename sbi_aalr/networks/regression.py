"""Ridge regression in closed form: where the means of a conditional density start."""

from typing import NamedTuple

import torch
from torch import Tensor

# Penalties to choose from, times the number of rows, on standardised features.
_PENALTIES = torch.logspace(-7, 2, 28, dtype=torch.float64)
# At least so many rows, and more while they hold no more than so many numbers: where a
# density is exact but for its slopes, its error falls with every row.
_ENOUGH_ROWS, _MOST_NUMBERS = 20_000, 2**22
# Share of the target's variance that is taken for its residual at least.
_LEAST_VARIANCE = 1e-9


class Regression(NamedTuple):
    """A linear map, and what it leaves.

    Attributes:
        slope: Shape `(F, D)`.
        intercept: Shape `(D,)`.
        whitening: Inverse Cholesky factor of the covariance of the residuals, `(D, D)`.
    """

    slope: Tensor
    intercept: Tensor
    whitening: Tensor


def regress(features: Tensor, targets: Tensor) -> Regression:
    """Fit a ridge regression whose penalty generalised cross-validation chooses.

    Args:
        features: Shape `(N, F)`; F may be 0, and the map then is the mean.
        targets: Shape `(N, D)`.

    Returns:
        The regression, in float32.

    References:
        Golub, Heath & Wahba (1979), Technometrics 21(2).
    """
    num_rows = max(
        _ENOUGH_ROWS, _MOST_NUMBERS // (features.shape[1] + targets.shape[1])
    )
    features, targets = features[:num_rows].double(), targets[:num_rows].double()
    centre, mean = features.mean(dim=0), targets.mean(dim=0)
    inputs, outputs = features - centre, targets - mean
    slope = inputs.new_zeros(features.shape[1], targets.shape[1])
    spread = inputs.square().mean(dim=0).sqrt().clamp(min=1e-12)
    inputs = inputs / spread
    if features.shape[1]:
        slope = _solve(inputs, outputs)
    residuals = outputs - inputs @ slope
    floor = _LEAST_VARIANCE * outputs.var(dim=0, correction=0).clamp(min=1e-12)
    # As if one more row of each dimension's own size had been seen.
    covariance = residuals.T @ residuals / len(residuals) + torch.diag(floor)
    cholesky = torch.linalg.cholesky(covariance)
    eye = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    whitening = torch.linalg.solve_triangular(cholesky, eye, upper=False)
    slope = slope / spread.unsqueeze(1)
    return Regression(slope.float(), (mean - centre @ slope).float(), whitening.float())


def _solve(inputs: Tensor, outputs: Tensor) -> Tensor:
    """The slope for the penalty with the least generalised cross-validation score."""
    left, values, right = torch.linalg.svd(inputs, full_matrices=False)
    projected = left.T @ outputs
    squares = values.square()
    beyond = (outputs.square().sum(dim=0) - projected.square().sum(dim=0)).clamp(min=0)
    # Each dimension has a penalty of its own: some may be pure noise.
    penalties = len(inputs) * _PENALTIES.to(inputs.device)
    kept = squares / (squares + penalties.unsqueeze(1))
    lost = ((1 - kept).unsqueeze(2) * projected).square().sum(dim=1) + beyond
    freedom = (len(inputs) - 1 - kept.sum(dim=1)).clamp(min=1)
    best = (lost / freedom.square().unsqueeze(1)).argmin(dim=0)
    shrunk = kept[best].T / values.clamp(min=1e-12).unsqueeze(1)
    return right.T @ (shrunk * projected)
