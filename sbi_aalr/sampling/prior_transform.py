"""From prior units to a space without bounds, for any prior."""

import warnings
from typing import Any

import torch
from sbi.utils import mcmc_transform
from torch import Tensor
from torch.distributions import biject_to, constraints
from torch.distributions.transforms import (
    AffineTransform,
    IndependentTransform,
    Transform,
)

from sbi_aalr.seeding import generators_kept, seeded

_NUM_DRAWS = 1_000
_QUANTILES = (0.1587, 0.5, 0.8413)


def find_transform(prior: Any, device: Any = None) -> Transform:
    """Find the transform of parameters `(N, D)` to unconstrained space.

    It is sbi's, but for priors that sbi's fails for: those whose mean or variance does
    not exist, as of Cauchy's or Student's distribution, and mixtures. It is the same
    for the same prior.

    Args:
        prior: The prior.
        device: Where parameters are; None for where the prior is.

    Returns:
        The transform.
    """
    if device is None:
        with generators_kept():
            device = prior.sample(torch.Size((1,))).device
    try:
        # sbi draws where a prior has no mean.
        with seeded(0), warnings.catch_warnings():
            # Where a prior has no support, sbi says that it goes by its spread.
            warnings.simplefilter("ignore", UserWarning)
            return mcmc_transform(prior, device=device)
    except (AssertionError, NotImplementedError):
        support: Any = getattr(prior, "support", constraints.real)
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    if support is constraints.real:
        inverse: Transform = _scale(prior, device)
    else:
        inverse = biject_to(support)
        if not _takes_rows(inverse, prior, device):
            # Bounds that differ between the components of a mixture.
            inverse = _scale(prior, device)
    return IndependentTransform(inverse, 1).inv


def _takes_rows(inverse: Transform, prior: Any, device: Any) -> bool:
    """Whether parameters `(N, D)` have finite counterparts of that shape."""
    with seeded(0):
        theta: Tensor = prior.sample(torch.Size((_NUM_DRAWS,))).to(device)
    try:
        position = inverse.inv(theta)
    except RuntimeError:
        return False
    return position.shape == theta.shape and bool(position.isfinite().all())


def _scale(prior: Any, device: Any) -> AffineTransform:
    """From parameters of order one to prior units, by quantiles of some draws."""
    with seeded(0):
        theta: Tensor = prior.sample(torch.Size((_NUM_DRAWS,)))
    levels = torch.tensor(_QUANTILES, dtype=theta.dtype, device=theta.device)
    low, centre, high = theta.quantile(levels, dim=0).to(device)
    return AffineTransform(centre, (high - low) / 2)
