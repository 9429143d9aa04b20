"""A mixture of multivariate Student t densities, one mixture for each observation.

Fitted by expectation-maximisation as a mixture of Gaussians, for all observations in
one batch; sampled and evaluated with six degrees of freedom.

References:
    Bishop (2006), Pattern Recognition and Machine Learning, section 9.2.
"""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

_DEGREES_OF_FREEDOM = 6
_MAX_COMPONENTS = 20
_MAX_POINTS = 3_000
_NUM_ITERATIONS = 15
_RIDGE = 1e-4


class StudentMixture(NamedTuple):
    """A mixture with `K` components for each of `B` observations.

    Attributes:
        log_weight: Log of the weights, shape `(B, K)`.
        mean: Centres, shape `(B, K, D)`.
        cholesky: Lower factors of the scale matrices, shape `(B, K, D, D)`.
        whitening: Their inverses, shape `(B, K, D, D)`.
    """

    log_weight: Tensor
    mean: Tensor
    cholesky: Tensor
    whitening: Tensor


def fit(generator: Generator, points: Tensor) -> StudentMixture:
    """Fit a mixture to points by expectation-maximisation.

    The number of components is what the points can carry, twenty at most. Points are
    thinned to 3,000 an observation.

    Args:
        generator: Source of randomness for the first centres.
        points: Shape `(N, B, D)`, any order.

    Returns:
        The mixture.
    """
    points = points[:: max(1, points.shape[0] // _MAX_POINTS)].movedim(0, 1)
    num_points, dim = points.shape[1:]
    num_components = max(1, min(_MAX_COMPONENTS, num_points // (10 * dim)))
    centre, width = points.mean(1, keepdim=True), points.std(1, keepdim=True)
    width = torch.where(width > 0, width, torch.ones_like(width))
    points = (points - centre) / width

    mean = _choose_centres(generator, points, num_components)
    size = num_components ** (-2 / dim)
    eye = torch.eye(dim, dtype=points.dtype, device=points.device)
    covariance = size * eye.expand(*mean.shape, dim)
    log_weight = torch.full_like(mean[..., 0], -math.log(num_components))
    outer = (points.unsqueeze(-1) * points.unsqueeze(-2)).flatten(-2)
    for _ in range(_NUM_ITERATIONS):
        whitening = _invert(torch.linalg.cholesky(covariance))
        distance = _squared_distance(points, mean, whitening)
        log_joint = (
            log_weight.unsqueeze(-2) + _log_determinant(whitening) - distance / 2
        )
        responsibility = log_joint.softmax(dim=-1)
        count = responsibility.sum(dim=-2)
        log_weight = (count + 1).log() - (count + 1).sum(-1, keepdim=True).log()
        share = responsibility / count.clamp(min=1e-6).unsqueeze(-2)
        mean = share.mT @ points
        moment = (share.mT @ outer).unflatten(-1, (dim, dim))
        covariance = moment - mean.unsqueeze(-1) * mean.unsqueeze(-2)
        # Few points say little about a component's shape: shrink it towards a ball.
        trust = (count / (count + dim))[..., None, None]
        covariance = trust * covariance + ((1 - trust) * size + _RIDGE) * eye
    cholesky = width.unsqueeze(-1) * torch.linalg.cholesky(covariance)
    return StudentMixture(
        log_weight, mean * width + centre, cholesky, _invert(cholesky)
    )


def sample(generator: Generator, mixture: StudentMixture, num_samples: int) -> Tensor:
    """Draw from each observation's mixture.

    Args:
        generator: Source of randomness, on the device of the mixture.
        mixture: The mixture.
        num_samples: Draws an observation, `C`.

    Returns:
        Independent draws, shape `(C, B, D)`.
    """
    component = choose_component(generator, mixture, num_samples)
    noise, radius = _draw_noise(generator, mixture.mean, num_samples)
    observation = torch.arange(mixture.mean.shape[0], device=mixture.mean.device)
    cholesky = mixture.cholesky[observation, component]
    offset = (cholesky @ noise.unsqueeze(-1)).squeeze(-1)
    return mixture.mean[observation, component] + radius * offset


def choose_component(
    generator: Generator, mixture: StudentMixture, num_samples: int
) -> Tensor:
    """Draw component indices by their weights, long, shape `(C, B)`."""
    edges = mixture.log_weight.exp().cumsum(dim=-1)
    uniform = torch.rand(
        (num_samples, edges.shape[0], 1), generator=generator, device=edges.device
    )
    return (uniform > edges[:, :-1]).sum(dim=-1)


def log_density(mixture: StudentMixture, position: Tensor) -> Tensor:
    """Evaluate each observation's mixture.

    Args:
        mixture: The mixture.
        position: Where, shape `(C, B, D)`.

    Returns:
        Normalised log-density, shape `(C, B)`, nats.
    """
    dof, dim = _DEGREES_OF_FREEDOM, position.shape[-1]
    distance = _squared_distance(
        position.movedim(0, 1), mixture.mean, mixture.whitening
    )
    constant = (
        math.lgamma((dof + dim) / 2)
        - math.lgamma(dof / 2)
        - dim / 2 * math.log(dof * math.pi)
    )
    height = mixture.log_weight.unsqueeze(-2) + _log_determinant(mixture.whitening)
    log_kernel = height - (dof + dim) / 2 * torch.log1p(distance / dof)
    return constant + log_kernel.logsumexp(dim=-1).T


def _draw_noise(
    generator: Generator, like: Tensor, num_samples: int
) -> tuple[Tensor, Tensor]:
    """Standard normals `(C, B, D)` and the radii `(C, B, 1)` that make them t."""
    shape = (num_samples, like.shape[0], like.shape[-1])
    noise = torch.randn(
        shape, generator=generator, device=like.device, dtype=like.dtype
    )
    # A chi-square with an even number of degrees is a sum of exponentials.
    uniform = torch.rand(
        (*shape[:2], _DEGREES_OF_FREEDOM // 2),
        generator=generator,
        device=like.device,
        dtype=like.dtype,
    )
    chi_square = -2 * torch.log1p(-uniform).sum(-1, keepdim=True)
    return noise, (_DEGREES_OF_FREEDOM / chi_square).sqrt()


def _choose_centres(generator: Generator, points: Tensor, count: int) -> Tensor:
    """First centres by k-means++, `(B, N, D)` -> `(B, K, D)`."""
    batch = torch.arange(points.shape[0], device=points.device)
    chosen = [points[:, 0]]
    distance = torch.full_like(points[..., 0], torch.inf)
    for _ in range(count - 1):
        gap = (points - chosen[-1].unsqueeze(1)).square().sum(-1)
        distance = torch.minimum(distance, gap)
        index = torch.multinomial(distance + 1e-12, 1, generator=generator)[:, 0]
        chosen.append(points[batch, index])
    return torch.stack(chosen, dim=1)


def _squared_distance(points: Tensor, mean: Tensor, whitening: Tensor) -> Tensor:
    """Mahalanobis distances, `(B, N, D)` to `K` components -> `(B, N, K)`."""
    components, dim = mean.shape[-2:]
    stacked = whitening.reshape(-1, components * dim, dim)
    centre = (whitening @ mean.unsqueeze(-1)).reshape(-1, 1, components * dim)
    white = torch.baddbmm(-centre, points, stacked.mT)
    return white.unflatten(-1, (components, dim)).square().sum(-1)


def _log_determinant(whitening: Tensor) -> Tensor:
    """Log-determinant of each whitening factor, shape `(B, 1, K)`."""
    return whitening.diagonal(dim1=-2, dim2=-1).log().sum(-1).unsqueeze(-2)


def _invert(cholesky: Tensor) -> Tensor:
    """Inverse of lower triangular factors."""
    eye = torch.eye(cholesky.shape[-1], dtype=cholesky.dtype, device=cholesky.device)
    return torch.linalg.solve_triangular(cholesky, eye.expand_as(cholesky), upper=False)
