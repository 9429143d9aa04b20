"""What kernels read off draws: widths, covariances, and the scale to begin with.

References:
    Roberts, Gelman & Gilks (1997), Annals of Applied Probability 7(1), for the scale.
"""

import torch
from torch import Tensor

_RIDGE = 1e-4


def spread(draws: Tensor) -> Tensor:
    """Standard deviation of draws, shape `(N, B, D)` -> `(B, D)`; 1 where zero.

    Example:
        >>> spread(torch.tensor([[[-2.0, 5.0]], [[2.0, 5.0]]]))
        tensor([[2., 1.]])
    """
    width = draws.std(dim=0, correction=0)
    return torch.where(width > 0, width, torch.ones_like(width))


def covariance_cholesky(draws: Tensor) -> Tensor:
    """Lower factor of the draws' covariance, `(N, B, D)` -> `(B, D, D)`.

    A small ridge in units of each parameter's variance keeps it positive definite when
    draws are few or lie in a plane.
    """
    factor, info = torch.linalg.cholesky_ex(_find_covariance(draws))
    if not bool((info > 0).any()):
        return factor
    # Of chains that ran away squares are infinite.
    size = draws.abs().amax(dim=0).clamp_min(torch.finfo(draws.dtype).tiny)
    return size.unsqueeze(-1) * torch.linalg.cholesky(_find_covariance(draws / size))


def measure_distances(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean distances, `(N, D)` and `(M, D)` -> `(N, M)`.

    Term by term: squares by a matrix product lose what is small beside the location.
    """
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(first, second, compute_mode=mode)


def _find_covariance(draws: Tensor) -> Tensor:
    centred = (draws - draws.mean(dim=0)).movedim(0, 1)
    covariance = centred.mT @ centred / max(draws.shape[0] - 1, 1)
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    variance = torch.where(variance > 0, variance, torch.ones_like(variance))
    return covariance + _RIDGE * torch.diag_embed(variance)


def optimal_scale(starts: Tensor) -> Tensor:
    """The scale 2.38 / sqrt(D) that is optimal for a Gaussian walk, shape `(B,)`."""
    _, num_observations, dim = starts.shape
    return starts.new_full((num_observations,), 2.38 / dim**0.5)
