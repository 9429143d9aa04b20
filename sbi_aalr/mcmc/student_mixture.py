"""A mixture of multivariate Student t densities, one mixture for each observation.

Fitted by expectation-maximisation as a mixture of Gaussians, for all observations in
one batch; sampled and evaluated with four degrees of freedom.

References:
    Bishop (2006), Pattern Recognition and Machine Learning, section 9.2.
"""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

_DEGREES_OF_FREEDOM = 4
_MAX_COMPONENTS = 12
_MAX_POINTS = 3_000
_NUM_ITERATIONS = 12
_RIDGE = 1e-4
# Bounds the memory of the monomials, in numbers.
_MAX_ENTRIES = 2**25


class StudentMixture(NamedTuple):
    """A mixture with `K` components for each of `B` observations.

    What evaluation needs at every step is kept beside what defines the mixture.

    Attributes:
        edge: Cumulative weights, shape `(B, K)`.
        mean: Centres, shape `(B, K, D)`.
        cholesky: Lower factors of the scale matrices, shape `(B, K, D, D)`.
        whitening: Their inverses, stacked for one product, shape `(B, D, K * D)`.
        white_mean: Whitened centres, shape `(B, 1, K * D)`.
        height: Log-density of each weighted component at its centre, `(B, 1, K)`.
    """

    edge: Tensor
    mean: Tensor
    cholesky: Tensor
    whitening: Tensor
    white_mean: Tensor
    height: Tensor


def fit(generator: Generator, points: Tensor) -> StudentMixture:
    """Fit a mixture to points by expectation-maximisation.

    The number of components is what the points can carry, twelve at most. Points are
    thinned to 3,000 an observation.

    Args:
        generator: Source of randomness for the thinning and the first centres.
        points: Shape `(N, B, D)`, any order.

    Returns:
        The mixture.
    """
    # At random: every k-th of draws ordered by chain would leave out whole chains.
    order = torch.randperm(points.shape[0], generator=generator, device=points.device)
    points = points[order[:_MAX_POINTS]].movedim(0, 1)
    num_points, dim = points.shape[1:]
    observations = max(1, _MAX_ENTRIES // (num_points * (1 + dim + dim**2)))
    parts = [_fit(generator, part) for part in points.split(observations)]
    return StudentMixture(*(torch.cat(fields) for fields in zip(*parts, strict=True)))


def _fit(generator: Generator, points: Tensor) -> StudentMixture:
    """Fit to points `(B, N, D)`."""
    num_points, dim = points.shape[1:]
    num_components = max(1, min(_MAX_COMPONENTS, num_points // (10 * dim)))
    centre = points.mean(1, keepdim=True)
    width = points.std(1, keepdim=True, correction=0)
    width = torch.where(width > 0, width, torch.ones_like(width))
    points = (points - centre) / width

    mean = _choose_centres(generator, points, num_components)
    size = num_components ** (-2 / dim)
    eye = torch.eye(dim, dtype=points.dtype, device=points.device)
    covariance = size * eye.expand(*mean.shape, dim)
    log_weight = torch.full_like(mean[..., 0], -math.log(num_components))
    # Both steps are one product with the monomials 1, x_i and x_i x_j of the points.
    monomials = torch.cat(
        (torch.ones_like(points[..., :1]), points, _square(points)), -1
    )
    for _ in range(_NUM_ITERATIONS):
        log_joint = monomials @ _expand_log_density(log_weight, mean, covariance)
        moments = log_joint.softmax(dim=-1).mT @ monomials
        count = moments[..., 0]
        log_weight = (count + 1).log() - (count + 1).sum(-1, keepdim=True).log()
        average = moments[..., 1:] / count.clamp(min=1e-6).unsqueeze(-1)
        mean = average[..., :dim]
        covariance = (average[..., dim:] - _square(mean)).unflatten(-1, (dim, dim))
        # Few points say little about a component's shape: shrink it towards a ball.
        trust = (count / (count + dim))[..., None, None]
        covariance = trust * covariance + ((1 - trust) * size + _RIDGE) * eye
    cholesky = width.unsqueeze(-1) * _cholesky(covariance)
    return build(log_weight, mean * width + centre, cholesky)


def build(log_weight: Tensor, mean: Tensor, cholesky: Tensor) -> StudentMixture:
    """Make a mixture of what defines it.

    Args:
        log_weight: Log of the weights, shape `(B, K)`.
        mean: Centres, shape `(B, K, D)`.
        cholesky: Lower factors of the scale matrices, shape `(B, K, D, D)`.
    """
    dof, dim = _DEGREES_OF_FREEDOM, mean.shape[-1]
    whitening = _invert(cholesky)
    constant = (
        math.lgamma((dof + dim) / 2)
        - math.lgamma(dof / 2)
        - dim / 2 * math.log(dof * math.pi)
    )
    height = constant + log_weight.unsqueeze(-2) + _log_determinant(whitening)
    return StudentMixture(
        log_weight.exp().cumsum(dim=-1),
        mean,
        cholesky,
        *_stack(mean, whitening),
        height,
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
    offset = pick(mixture.cholesky, component) @ noise.unsqueeze(-1)
    return pick(mixture.mean, component) + radius * offset.squeeze(-1)


def pick(values: Tensor, component: Tensor) -> Tensor:
    """Take each chain's component, `(B, K, ...)` at `(C, B)` -> `(C, B, ...)`."""
    observations, components = values.shape[:2]
    first = torch.arange(0, observations * components, components, device=values.device)
    rows = values.flatten(0, 1).index_select(0, (component + first).flatten())
    return rows.unflatten(0, component.shape)


def choose_component(
    generator: Generator, mixture: StudentMixture, num_samples: int
) -> Tensor:
    """Draw component indices by their weights, long, shape `(C, B)`."""
    inner = mixture.edge[:, :-1]
    uniform = torch.rand(
        (num_samples, inner.shape[0], 1), generator=generator, device=inner.device
    )
    return (uniform > inner).sum(dim=-1)


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
        position.transpose(0, 1), mixture.white_mean, mixture.whitening
    )
    log_kernel = torch.add(
        mixture.height, torch.log1p(distance / dof), alpha=-(dof + dim) / 2
    )
    # By hand, as torch's own spends more on infinities than all else here takes.
    top = log_kernel.amax(dim=-1, keepdim=True)
    return (top.squeeze(-1) + (log_kernel - top).exp().sum(dim=-1).log()).T


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
        edge = (distance + 1e-12).cumsum(dim=-1)
        uniform = torch.rand(edge[:, :1].shape, generator=generator, device=edge.device)
        index = torch.searchsorted(edge, uniform * edge[:, -1:])
        chosen.append(points[batch, index[:, 0].clamp(max=points.shape[1] - 1)])
    return torch.stack(chosen, dim=1)


def _stack(mean: Tensor, whitening: Tensor) -> tuple[Tensor, Tensor]:
    """Stack `(B, K, D, D)` into one factor `(B, D, K * D)`, with its white centres."""
    white_mean = (whitening @ mean.unsqueeze(-1)).flatten(1).unsqueeze(1)
    return whitening.flatten(1, 2).mT.contiguous(), white_mean


def _squared_distance(points: Tensor, white_mean: Tensor, stacked: Tensor) -> Tensor:
    """Mahalanobis distances, `(B, N, D)` to `K` components -> `(B, N, K)`."""
    white = torch.baddbmm(white_mean, points, stacked, beta=-1)
    return white.unflatten(-1, (-1, points.shape[-1])).square().sum(-1)


def _expand_log_density(log_weight: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """Coefficients of the monomials in weighted Gaussian log-densities.

    The common constant is left out. Shape `(B, 1 + D + D^2, K)`.
    """
    whitening = _invert(_cholesky(covariance))
    precision = whitening.mT @ whitening
    linear = (precision @ mean.unsqueeze(-1)).squeeze(-1)
    constant = log_weight + _log_determinant(whitening).squeeze(-2)
    constant = constant - (linear * mean).sum(-1) / 2
    return torch.cat(
        (constant.unsqueeze(-1), linear, -precision.flatten(-2) / 2), -1
    ).mT


def _cholesky(covariance: Tensor) -> Tensor:
    """Lower factors; where rounding broke a matrix, of its diagonal alone."""
    factor, info = torch.linalg.cholesky_ex(covariance)
    diagonal = covariance.diagonal(dim1=-2, dim2=-1).clamp(min=_RIDGE).sqrt()
    broken = (info > 0)[..., None, None]
    return torch.where(broken, torch.diag_embed(diagonal), factor)


def _square(points: Tensor) -> Tensor:
    """All products of two coordinates, `(..., D)` -> `(..., D^2)`."""
    return (points.unsqueeze(-1) * points.unsqueeze(-2)).flatten(-2)


def _log_determinant(whitening: Tensor) -> Tensor:
    """Log-determinant of each whitening factor, shape `(B, 1, K)`."""
    return whitening.diagonal(dim1=-2, dim2=-1).log().sum(-1).unsqueeze(-2)


def _invert(cholesky: Tensor) -> Tensor:
    """Inverse of lower triangular factors."""
    eye = torch.eye(cholesky.shape[-1], dtype=cholesky.dtype, device=cholesky.device)
    return torch.linalg.solve_triangular(cholesky, eye.expand_as(cholesky), upper=False)
