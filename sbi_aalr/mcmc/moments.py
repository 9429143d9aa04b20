"""Moments of points that a mixture of Gaussians shares out, and the mixture of moments.

A component is known by the weighted sums of 1, z_i and z_i z_j over its points, so that
a step of expectation-maximisation is two matrix products for all observations, and the
sums of several sets of points add up.

References:
    Bishop (2006), Pattern Recognition and Machine Learning, section 9.2.
"""

import torch
from torch import Tensor

from sbi_aalr.mcmc.student_mixture import invert

_RIDGE = 1e-4


def expand(z: Tensor) -> Tensor:
    """The monomials 1, z_i and z_i z_j, `(..., D)` -> `(..., 1 + D + D^2)`."""
    return torch.cat((torch.ones_like(z[..., :1]), z, _square(z)), dim=-1)


def collect(
    monomials: Tensor,
    weight: Tensor,
    log_weight: Tensor,
    mean: Tensor,
    covariance: Tensor,
) -> Tensor:
    """Moments of weighted points that a mixture of Gaussians shares out.

    Args:
        monomials: What `expand` returned for the points, shape `(B, N, 1 + D + D^2)`.
        weight: How many points each counts for, shape `(B, N)`.
        log_weight: Of the components, shape `(B, K)`, nats.
        mean: Shape `(B, K, D)`.
        covariance: Shape `(B, K, D, D)`.

    Returns:
        Shape `(B, K, 1 + D + D^2)`.
    """
    log_joint = monomials @ _expand_log_density(log_weight, mean, covariance)
    share = log_joint.softmax(dim=-1).mul_(weight.unsqueeze(-1))
    return share.mT @ monomials


def maximise(moments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-weights, means and covariances of the components with these moments.

    Args:
        moments: Shape `(B, K, 1 + D + D^2)`.

    Returns:
        Shapes `(B, K)`, `(B, K, D)` and `(B, K, D, D)`.
    """
    count, mean, covariance = average(moments)
    dim = mean.shape[-1]
    eye = torch.eye(dim, dtype=mean.dtype, device=mean.device)
    # Few points say little about a component's shape: it takes that of all of them,
    # and where all are few, that of a ball.
    ball = find_ball_size(count.shape[-1], mean) * eye
    total = count.sum(dim=-1)[:, None, None, None]
    common = average_within(count, covariance)
    common = (total * common + dim * ball) / (total + dim)
    trust = (count / (count + dim))[..., None, None]
    covariance = trust * covariance + (1 - trust) * common + _RIDGE * eye
    return weigh_counts(count), mean, covariance


def average(moments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count, mean and covariance of the points that each component has."""
    # D from 1 + D + D^2.
    dim = round((moments.shape[-1] - 0.75) ** 0.5 - 0.5)
    count = moments[..., 0]
    averaged = moments[..., 1:] / count.clamp(min=1e-6).unsqueeze(-1)
    mean = averaged[..., :dim]
    return count, mean, (averaged[..., dim:] - _square(mean)).unflatten(-1, (dim, dim))


def average_within(count: Tensor, covariance: Tensor) -> Tensor:
    """Mean covariance of the points of a component, shape `(B, 1, D, D)`."""
    share = count / count.sum(dim=-1, keepdim=True).clamp(min=1e-6)
    return (share[..., None, None] * covariance).sum(dim=1, keepdim=True)


def weigh_counts(count: Tensor) -> Tensor:
    """Log of weights in proportion to the counts, none of which is left at zero."""
    return (count + 1).log() - (count + 1).sum(dim=-1, keepdim=True).log()


def find_ball_size(num_components: int, z: Tensor) -> float:
    """Variance of balls that together fill the space of points with variance one."""
    return float(num_components ** (-2 / z.shape[-1]))


def factorise(covariance: Tensor) -> Tensor:
    """Lower factors; where rounding broke a matrix, of its diagonal alone."""
    factor, info = torch.linalg.cholesky_ex(covariance)
    diagonal = covariance.diagonal(dim1=-2, dim2=-1).clamp(min=_RIDGE).sqrt()
    broken = (info > 0)[..., None, None]
    return torch.where(broken, torch.diag_embed(diagonal), factor)


def _expand_log_density(log_weight: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """Coefficients of the monomials in weighted Gaussian log-densities.

    The common constant is left out. Shape `(B, 1 + D + D^2, K)`.
    """
    whitening = invert(factorise(covariance))
    precision = whitening.mT @ whitening
    linear = (precision @ mean.unsqueeze(-1)).squeeze(-1)
    constant = log_weight + whitening.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
    constant = constant - (linear * mean).sum(dim=-1) / 2
    return torch.cat(
        (constant.unsqueeze(-1), linear, -precision.flatten(-2) / 2), dim=-1
    ).mT


def _square(z: Tensor) -> Tensor:
    """All products of two coordinates, `(..., D)` -> `(..., D^2)`."""
    return (z.unsqueeze(-1) * z.unsqueeze(-2)).flatten(-2)
