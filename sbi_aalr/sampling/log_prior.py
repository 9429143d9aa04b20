"""The log-density of a prior, minus infinity outside its support."""

from collections.abc import Callable

import torch
from sbi.utils.sbiutils import within_support
from torch import Tensor
from torch.distributions import Distribution


def prior_log_prob_fn(prior: Distribution) -> Callable[[Tensor], Tensor]:
    """Log-density of the prior that is minus infinity outside its support.

    Some of torch's give a finite density there, such as `Exponential`, or raise if they
    validate their arguments; some of sbi's take rows only.

    Args:
        prior: Distribution of parameters of shape `(D,)`.

    Returns:
        A function of positions `(..., D)` -> `(...)`, nats.
    """
    with torch.random.fork_rng(devices=[]):
        inside = prior.sample((1,))
    # One coordinate at a time: a part that is minus infinity there hides the others.
    dim = inside.shape[-1]
    index = torch.arange(dim, device=inside.device)
    far = inside.repeat(2 * dim, 1)
    far[index, index], far[dim + index, index] = 1e30, -1e30
    try:
        is_safe = torch.isneginf(prior.log_prob(far)) | within_support(prior, far)
        needs_check = not is_safe.all()
    except ValueError:
        needs_check = True

    def log_prob(theta: Tensor) -> Tensor:
        rows = theta.flatten(0, -2)
        if not needs_check:
            return prior.log_prob(rows).reshape(theta.shape[:-1])
        valid = within_support(prior, rows)
        log_density = prior.log_prob(torch.where(valid.unsqueeze(-1), rows, inside))
        return torch.where(valid, log_density, -torch.inf).reshape(theta.shape[:-1])

    return log_prob
