"""Where a prior allows parameters, asked of the parts that it is made of.

torch's own `support` is too wide for some that are transformed: that of an exponential
distribution which an affine transform has moved is all of the real line. Of mixtures
it is too narrow: what any component allows should be allowed, not what all of them do.
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    MixtureSameFamily,
    TransformedDistribution,
)


@torch.no_grad()
def is_in_support(theta: Tensor, prior: Distribution) -> Tensor:
    """Which rows of theta, `(N, D)`, the support allows, `(N,)`; all without one."""
    return _reduce(_find_inside(theta, prior), 1)


def _find_inside(value: Tensor, prior: Any) -> Tensor:
    """The same for a part of a prior, of any shape that its `log_prob` takes."""
    inner = getattr(prior, "prior", None)
    if isinstance(inner, Distribution):
        return _find_inside(value, inner)
    if isinstance(prior, Independent):
        inside = _find_inside(value, prior.base_dist)
        return _reduce(inside, inside.ndim - prior.reinterpreted_batch_ndims)
    if isinstance(prior, MixtureSameFamily):
        component: Any = prior.component_distribution
        padded = value.unsqueeze(-1 - len(prior.event_shape))
        return _find_inside(padded, component).any(dim=-1)
    if isinstance(prior, TransformedDistribution):
        return _find_inside_transformed(value, prior)
    widths = getattr(prior, "dims_per_dist", None)
    if widths is not None:
        # sbi's `MultipleIndependent`.
        parts = zip(value.split(widths, dim=-1), prior.dists, strict=True)
        flags = [_reduce(_find_inside(*part), value.ndim - 1) for part in parts]
        return torch.stack(flags).all(dim=0)
    try:
        inside = prior.support.check(value)
    except (NotImplementedError, AttributeError):
        inside = torch.ones(value.shape, dtype=torch.bool, device=value.device)
    return inside


def _find_inside_transformed(value: Tensor, prior: TransformedDistribution) -> Tensor:
    """Bring values back to the base distribution, step by step."""
    ndim = value.ndim - len(prior.event_shape)
    inside = value.new_ones(value.shape[:ndim], dtype=torch.bool)
    for transform in reversed(prior.transforms):
        inside = inside & _reduce(transform.codomain.check(value), ndim)
        value = transform.inv(value)
    return inside & _reduce(_find_inside(value, prior.base_dist), ndim)


def _reduce(flags: Tensor, ndim: int) -> Tensor:
    """All of what belongs together, in the last dimensions."""
    return flags.flatten(ndim).all(dim=-1) if flags.ndim > ndim else flags
