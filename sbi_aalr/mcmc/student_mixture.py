"""A mixture of multivariate Student t densities, one mixture for each observation.

Four degrees of freedom give it tails that are heavier than those of most targets, so
that a sampler that proposes from it is not left in a corner for long. Draws and
densities are written as few large matrix products; how a mixture is fitted stands in
`mixture_fit.py`.
"""

import math
from functools import reduce
from typing import NamedTuple

import torch
from torch import Generator, Tensor

_DEGREES_OF_FREEDOM = 4


class StudentMixture(NamedTuple):
    """A mixture with `K` components for each of `B` observations.

    What every step needs is kept in the form that it needs it in.

    Attributes:
        edge: Cumulative weights, shape `(B, K)`.
        mean: Centres, shape `(B, K, D)`.
        root: Lower factors of the scale matrices, transposed and stacked for one
            product, shape `(B, D, K * D)`.
        whitening: Their inverses, stacked with the components last, `(B, D, D * K)`.
        white_mean: Whitened centres, shape `(B, 1, D * K)`.
        height: Log-density of each weighted component at its centre, `(B, 1, K)`.
    """

    edge: Tensor
    mean: Tensor
    root: Tensor
    whitening: Tensor
    white_mean: Tensor
    height: Tensor


def build(log_weight: Tensor, mean: Tensor, cholesky: Tensor) -> StudentMixture:
    """Make a mixture of what defines it.

    Args:
        log_weight: Log of the weights, shape `(B, K)`.
        mean: Centres, shape `(B, K, D)`.
        cholesky: Lower factors of the scale matrices, shape `(B, K, D, D)`.

    Returns:
        The mixture.
    """
    dof, dim = _DEGREES_OF_FREEDOM, mean.shape[-1]
    inverse = invert(cholesky)
    constant = (
        math.lgamma((dof + dim) / 2)
        - math.lgamma(dof / 2)
        - dim / 2 * math.log(dof * math.pi)
    )
    log_determinant = inverse.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
    # (B, K, out, in) -> (B, in, out, K): the sum over `out` then runs along whole rows.
    whitening = inverse.permute(0, 3, 2, 1).flatten(2).contiguous()
    white_mean = (inverse @ mean.unsqueeze(-1)).squeeze(-1).mT
    return StudentMixture(
        edge=log_weight.exp().cumsum(dim=-1),
        mean=mean,
        root=cholesky.permute(0, 3, 1, 2).flatten(2).contiguous(),
        whitening=whitening,
        white_mean=white_mean.flatten(1).unsqueeze(1),
        height=(constant + log_weight + log_determinant).unsqueeze(1),
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
    offset, component = draw_offset(generator, mixture, num_samples)
    # A chi-square with an even number of degrees is a sum of exponentials.
    uniform = torch.rand(
        (*offset.shape[:2], _DEGREES_OF_FREEDOM // 2),
        generator=generator,
        device=offset.device,
        dtype=offset.dtype,
    )
    chi_square = -2 * torch.log1p(-uniform).sum(dim=-1, keepdim=True)
    radius = (_DEGREES_OF_FREEDOM / chi_square).sqrt()
    return _pick(mixture.mean.flatten(0, 1), component) + radius * offset


def draw_offset(
    generator: Generator, mixture: StudentMixture, num_samples: int
) -> tuple[Tensor, Tensor]:
    """Draw Gaussian offsets with the shapes of components drawn by their weights.

    Args:
        generator: Source of randomness, on the device of the mixture.
        mixture: The mixture.
        num_samples: Draws an observation, `C`.

    Returns:
        Offsets from the centres, shape `(C, B, D)`, and the rows of the components
        among all observations' components, long, shape `(C, B)`.
    """
    observations, num_components, dim = mixture.mean.shape
    uniform = torch.rand(
        (observations, num_samples, 1),
        generator=generator,
        device=mixture.mean.device,
        dtype=mixture.mean.dtype,
    )
    component = (uniform > mixture.edge[:, None, :-1]).sum(dim=-1)
    noise = torch.randn(
        (observations, num_samples, dim),
        generator=generator,
        device=mixture.mean.device,
        dtype=mixture.mean.dtype,
    )
    # All components' shapes at once: one product is quicker than fetching a matrix for
    # each row.
    rows = torch.arange(component.numel(), device=component.device)
    rows = rows * num_components + component.flatten()
    offset = (noise @ mixture.root).view(-1, dim).index_select(0, rows)
    first = torch.arange(
        0, observations * num_components, num_components, device=rows.device
    )
    return (
        offset.view(observations, num_samples, dim).transpose(0, 1),
        (component + first.unsqueeze(1)).T,
    )


def log_density(mixture: StudentMixture, position: Tensor) -> Tensor:
    """Evaluate each observation's mixture.

    Args:
        mixture: The mixture.
        position: Where, shape `(C, B, D)`.

    Returns:
        Normalised log-density, shape `(C, B)`, nats.
    """
    dof, dim = _DEGREES_OF_FREEDOM, position.shape[-1]
    white = torch.baddbmm(
        mixture.white_mean, position.transpose(0, 1), mixture.whitening, beta=-1
    )
    squares = white.square_().unflatten(-1, (dim, -1)).unbind(dim=-2)
    distance = reduce(torch.add, squares)
    log_kernel = torch.add(
        mixture.height, torch.log1p(distance / dof), alpha=-(dof + dim) / 2
    )
    # By hand, as torch's own spends more on infinities than all else here takes.
    top = log_kernel.amax(dim=-1, keepdim=True)
    total = (log_kernel - top).exp_().sum(dim=-1).log_()
    return (top.squeeze(-1) + total).T


def invert(cholesky: Tensor) -> Tensor:
    """Inverse of lower triangular factors, shape `(..., D, D)`."""
    eye = torch.eye(cholesky.shape[-1], dtype=cholesky.dtype, device=cholesky.device)
    return torch.linalg.solve_triangular(cholesky, eye.expand_as(cholesky), upper=False)


def _pick(values: Tensor, rows: Tensor) -> Tensor:
    """Take rows of `(N, D)` at `(C, B)` -> `(C, B, D)`."""
    return values.index_select(0, rows.flatten()).unflatten(0, rows.shape)
