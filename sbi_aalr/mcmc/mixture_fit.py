"""Fit a mixture to a target: first to points, then to weighted draws.

A first mixture comes from expectation-maximisation on the chains of one observation.
It is then improved by population Monte Carlo: draws from the mixture are weighted by
the target over the mixture, and one step of expectation-maximisation on them adds to
running moments that forget their past by and by. The largest weights are cut, so that
no few draws decide a fit; what the mixture misses grows from round to round all the
same. Draws of chains add to the moments as well: they stand where the mixture is too
thin for its own draws to tell. Everything runs for all observations in one batch.

References:
    Bishop (2006), Pattern Recognition and Machine Learning, section 9.2; Cappe, Douc,
    Guillin, Marin & Robert (2008), arXiv:0710.4242, for mixtures of Student t in
    population Monte Carlo; Cappe & Moulines (2009), arXiv:0712.4273, for running
    moments; Ionides (2008) for the cut.
"""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc.moments import (
    average,
    average_within,
    collect,
    expand,
    factorise,
    find_ball_size,
    maximise,
    weigh_counts,
)
from sbi_aalr.mcmc.student_mixture import StudentMixture, build
from sbi_aalr.mcmc.trees import concatenate, select

# More components fit few dimensions worse, and many, where points are few for each.
_MAX_COMPONENTS = 30
_MAX_POINTS = 3_000
_NUM_ITERATIONS = 8
# Steps of expectation-maximisation on draws of chains, and for how many independent
# ones a draw counts: chains stay where they are now and then, and a mixture that knew
# where they stand too well would draw them away from there.
_NUM_ITERATIONS_ON_CHAINS, _CHAIN_WEIGHT = 3, 0.1
_POOLED_RIDGE = 1e-3
# Share of its moments that a fit keeps when new draws come.
_MEMORY = 0.9
# Share of the draws, those with the largest weights, whose weights are made equal.
_CUT_SHARE = 0.005
# Bounds the memory of the monomials, in numbers.
_MAX_ENTRIES = 2**25


class MixtureFit(NamedTuple):
    """A mixture that is being fitted, `K` components for each of `B` observations.

    Attributes:
        mixture: The mixture as it stands.
        centre: Place from which points are measured, shape `(B, 1, D)`.
        width: Unit in which they are measured, shape `(B, 1, D)`.
        moments: Weighted sums of the monomials 1, z_i and z_i z_j of the points z in
            these units, shape `(B, K, 1 + D + D^2)`.
    """

    mixture: StudentMixture
    centre: Tensor
    width: Tensor
    moments: Tensor


def fit(generator: Generator, points: Tensor) -> MixtureFit:
    """Fit a mixture to points by expectation-maximisation.

    Args:
        generator: Source of randomness for the thinning and the first centres.
        points: Shape `(N, B, D)`, any order; thinned to 3,000 an observation.

    Returns:
        The fit.
    """
    points = _thin(generator, points)
    parts = [
        _fit_to_points(generator, part.transpose(0, 1))
        for part in points.split(_count_together(points), dim=1)
    ]
    centre, width, moments = (torch.cat(part) for part in zip(*parts, strict=True))
    return _make_fit(centre, width, moments)


def update(fit: MixtureFit, points: Tensor, log_weight: Tensor) -> MixtureFit:
    """Improve a fit by weighted draws, of its own mixture or of another density.

    Args:
        fit: The fit so far.
        points: Draws, shape `(N, B, D)`.
        log_weight: Log-density of the target less that of what they were drawn from,
            shape `(N, B)`, nats; NaN and plus infinity count as no weight.

    Returns:
        The new fit; unchanged for observations where no draw has weight.
    """
    log_weight = log_weight.T.nan_to_num(-torch.inf, -torch.inf, -torch.inf)
    num_cut = max(1, round(_CUT_SHARE * log_weight.shape[1]))
    largest = log_weight.topk(num_cut, dim=1).values[:, -1:]
    # Finite, so that an observation without any weight gives zeros and not NaN.
    log_weight = torch.minimum(log_weight, largest) - largest.clamp(min=-1e30)
    weight = log_weight.exp()
    # The weights of all draws sum to the number of draws that they are worth.
    total = weight.sum(dim=1, keepdim=True)
    weight = weight * total / weight.square().sum(dim=1, keepdim=True).clamp(min=1e-30)
    z = (points.transpose(0, 1) - fit.centre) / fit.width
    new = collect(expand(z), weight, *maximise(fit.moments))
    moments = torch.where(
        (total > 0).unsqueeze(-1), _MEMORY * fit.moments + new, fit.moments
    )
    return _make_fit(fit.centre, fit.width, moments)


def refit(generator: Generator, fit: MixtureFit, points: Tensor) -> MixtureFit:
    """Improve a fit by draws of the target, such as those of chains.

    Args:
        generator: Source of randomness for the thinning.
        fit: The fit so far.
        points: Draws, shape `(N, B, D)`, any order; thinned to 3,000 an observation.

    Returns:
        The new fit.
    """
    points = _thin(generator, points)
    observations = torch.arange(points.shape[1], device=points.device)
    parts = []
    for index in observations.split(_count_together(points)):
        part = select(fit, index)
        kept = _MEMORY * part.moments
        z = (points[:, index].transpose(0, 1) - part.centre) / part.width
        monomials, weight = expand(z), torch.full_like(z[..., 0], _CHAIN_WEIGHT)
        for _ in range(_NUM_ITERATIONS_ON_CHAINS):
            new = collect(monomials, weight, *maximise(part.moments))
            part = _make_fit(part.centre, part.width, kept + new)
        parts.append(part)
    return concatenate(parts)


def pool(fit: MixtureFit) -> StudentMixture:
    """Make the mixture of a fit whose components lend each other their shape.

    A fit never forgets the ball that is as wide as all modes together. Far narrower
    modes are better matched by their mean covariance within alone.

    Args:
        fit: The fit to points.

    Returns:
        The mixture.
    """
    count, mean, covariance = average(fit.moments)
    dim = mean.shape[-1]
    common = average_within(count, covariance)
    trust = (count / (count + 2 * dim))[..., None, None]
    ridge = torch.diag_embed(common.diagonal(dim1=-2, dim2=-1)).mul(_POOLED_RIDGE)
    covariance = trust * covariance + (1 - trust) * common + ridge
    return _build_mixture(fit.centre, fit.width, weigh_counts(count), mean, covariance)


def _thin(generator: Generator, points: Tensor) -> Tensor:
    """Some of the points, at random: every k-th would leave out whole chains."""
    order = torch.randperm(points.shape[0], generator=generator, device=points.device)
    return points[order[:_MAX_POINTS]]


def _count_together(points: Tensor) -> int:
    """Observations whose monomials fit into memory, for points `(N, B, D)`."""
    num_points, dim = points.shape[0], points.shape[2]
    return max(1, _MAX_ENTRIES // (num_points * (1 + dim + dim**2)))


def _fit_to_points(
    generator: Generator, points: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Centre, width and moments for points `(B, N, D)`."""
    dim = points.shape[-1]
    num_components = min(10 * dim, _MAX_COMPONENTS, max(1, 200 // dim))
    centre = points.mean(dim=1, keepdim=True)
    width = points.std(dim=1, keepdim=True, correction=0)
    width = torch.where(width > 0, width, torch.ones_like(width))
    z = (points - centre) / width
    mean = _choose_centres(generator, z, num_components)
    log_weight = torch.full_like(mean[..., 0], -math.log(num_components))
    eye = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    covariance = find_ball_size(num_components, z) * eye.expand(*mean.shape, -1)
    monomials, weight = expand(z), torch.ones_like(z[..., 0])
    for _ in range(_NUM_ITERATIONS):
        moments = collect(monomials, weight, log_weight, mean, covariance)
        log_weight, mean, covariance = maximise(moments)
    return centre, width, moments


def _make_fit(centre: Tensor, width: Tensor, moments: Tensor) -> MixtureFit:
    mixture = _build_mixture(centre, width, *maximise(moments))
    return MixtureFit(mixture, centre, width, moments)


def _build_mixture(
    centre: Tensor, width: Tensor, log_weight: Tensor, mean: Tensor, covariance: Tensor
) -> StudentMixture:
    cholesky = width.unsqueeze(-1) * factorise(covariance)
    return build(log_weight, mean * width + centre, cholesky)


def _choose_centres(generator: Generator, points: Tensor, count: int) -> Tensor:
    """First centres by k-means++, `(B, N, D)` -> `(B, K, D)`."""
    batch = torch.arange(points.shape[0], device=points.device)
    chosen = [points[:, 0]]
    distance = torch.full_like(points[..., 0], torch.inf)
    for _ in range(count - 1):
        gap = (points - chosen[-1].unsqueeze(1)).square().sum(-1)
        distance = torch.minimum(distance, gap)
        edge = (distance + 1e-12).cumsum(dim=-1)
        uniform = torch.empty_like(edge[:, :1]).uniform_(generator=generator)
        index = torch.searchsorted(edge, uniform * edge[:, -1:])
        chosen.append(points[batch, index[:, 0].clamp(max=points.shape[1] - 1)])
    return torch.stack(chosen, dim=1)
