"""Dual averaging of a log-scale towards a stated acceptance rate.

The scale of a proposal is moved after every warm-up step by how far the chains' mean
acceptance rate is from its target, with steps that shrink; the average of the iterates
is what is kept when warm-up ends (Nesterov, 2009; Hoffman & Gelman, 2014,
arXiv:1111.4246, section 3.2).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from sbi_aalr.mcmc.kernel import Info

_SHRINKAGE = 0.05
_DELAY = 10.0
_FORGETTING = 0.75


class DualAveraging(NamedTuple):
    """A scale that is being learned, one for each observation, each shape `(B,)`.

    Attributes:
        log_scale: Scale that the next warm-up step uses, log.
        log_scale_average: Weighted average of the iterates, what is kept, log.
        anchor: Log-scale towards which the iterates are shrunk.
        error: Running mean of target minus observed acceptance rate.
        steps: Number of steps seen.
    """

    log_scale: Tensor
    log_scale_average: Tensor
    anchor: Tensor
    error: Tensor
    steps: Tensor


def start(scale: Tensor) -> DualAveraging:
    """Begin to adapt from `scale`, shape `(B,)`.

    Example:
        >>> start(torch.ones(2)).log_scale
        tensor([0., 0.])
    """
    log_scale = scale.log()
    zero = torch.zeros_like(log_scale)
    return DualAveraging(log_scale, log_scale, log_scale, zero, zero)


def update(
    state: DualAveraging, acceptance_rate: Tensor, target: float
) -> DualAveraging:
    """Move the scale after one step.

    Args:
        state: The scale so far.
        acceptance_rate: Acceptance probabilities of the step, shape `(C, B)`; NaN for
            chains that say nothing about this scale.
        target: Acceptance rate to aim at, in (0, 1).

    Returns:
        The scale for the next step; unchanged where every chain is NaN.

    Example:
        >>> higher = update(start(torch.ones(1)), torch.ones(4, 1), target=0.3)
        >>> bool(higher.log_scale > 0)
        True
    """
    gap = target - acceptance_rate.nanmean(dim=0)
    known = ~gap.isnan()
    gap = gap.nan_to_num()
    steps = state.steps + known
    weight = known / (steps + _DELAY)
    error = (1 - weight) * state.error + weight * gap
    log_scale = state.anchor - steps.sqrt() / _SHRINKAGE * error
    decay = known * steps.clamp(min=1) ** -_FORGETTING
    average = decay * log_scale + (1 - decay) * state.log_scale_average
    return DualAveraging(log_scale, average, state.anchor, error, steps)


def tune(parameters: Any, info: Info, *, target: float) -> Any:
    """Move every scale of a kernel towards an acceptance rate; the rest stays.

    Args:
        parameters: The kernel's parameters, a NamedTuple with fields `DualAveraging`.
        info: Report of the step, or of several.
        target: Acceptance rate to aim at, in (0, 1).

    Returns:
        The parameters for the next step.
    """
    scales = {
        name: update(value, info.acceptance_rate, target)
        for name, value in parameters._asdict().items()
        if isinstance(value, DualAveraging)
    }
    return parameters._replace(**scales)


def restart(state: DualAveraging) -> DualAveraging:
    """Begin anew from the scale kept so far, after the shape of a proposal changed."""
    return start(state.log_scale_average.exp())


def freeze(tree: Any) -> Any:
    """End adaptation: every averaged scale in `tree` becomes the scale in use.

    Args:
        tree: Parameters of a kernel, (nested) NamedTuples and tuples of tensors.

    Returns:
        The same structure, to be used unchanged from here on.
    """
    if isinstance(tree, Tensor):
        return tree
    if isinstance(tree, DualAveraging):
        return tree._replace(log_scale=tree.log_scale_average)
    children = (freeze(child) for child in tree)
    return type(tree)(*children) if hasattr(tree, "_fields") else tuple(children)
