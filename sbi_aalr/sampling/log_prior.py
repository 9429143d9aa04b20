"""The log-density of a prior, minus infinity wherever the prior is not."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks import is_in_support
from sbi_aalr.seeding import generators_kept


class LogPrior:
    """Log-density of a prior that is minus infinity outside its support.

    Some of torch's give a finite density there, such as `Exponential`, or raise if they
    validate their arguments; some of sbi's take rows only.

    Made before threads start, as it takes a draw from the global generators, which it
    leaves as they were; evaluating it draws nothing.

    Args:
        prior: Distribution of parameters of shape `(D,)`.

    Example:
        >>> from torch.distributions import Exponential, Independent
        >>> log_prior = LogPrior(Independent(Exponential(torch.ones(1)), 1))
        >>> log_prior(torch.tensor([[1.0], [-1.0]]))
        tensor([-1., -inf])
    """

    def __init__(self, prior: Distribution) -> None:
        self._prior = prior
        with generators_kept():
            self._inside = prior.sample((1,))
        # One coordinate at a time, as a part that is minus infinity hides the others.
        dim = self._inside.shape[-1]
        index = torch.arange(dim, device=self._inside.device)
        far = self._inside.repeat(2 * dim, 1)
        far[index, index], far[dim + index, index] = 1e30, -1e30
        try:
            log_prob = prior.log_prob(far)
            is_right = is_in_support(far, prior) & ~log_prob.isnan()
            self._needs_check = not (log_prob.isneginf() | is_right).all()
        except ValueError:
            self._needs_check = True

    def __deepcopy__(self, memo: dict[int, object]) -> "LogPrior":
        """Itself: nothing of it changes, and not every prior can be copied."""
        return self

    def __call__(self, theta: Tensor) -> Tensor:
        """Evaluate parameters, shape `(..., D)` -> `(...)`, nats."""
        rows = theta.flatten(0, -2)
        if not self._needs_check:
            return self._prior.log_prob(rows).reshape(theta.shape[:-1])
        valid = is_in_support(rows, self._prior)
        safe = torch.where(valid.unsqueeze(-1), rows, self._inside)
        log_prob = self._prior.log_prob(safe)
        log_density = torch.where(valid & ~log_prob.isnan(), log_prob, -torch.inf)
        return log_density.reshape(theta.shape[:-1])
