"""What a posterior may be given as proposal, and how its density is evaluated."""

from typing import Any

import torch
from sbi.utils.conditional_density_utils import RestrictedPriorForConditional
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks import check_support
from sbi_aalr.sampling.log_prior import LogPrior
from sbi_aalr.seeding import generators_kept


class ConditionalPrior:
    """Draws of some parameters of a prior, with its density where the others are fixed.

    sbi's own restricted prior draws some parameters and wants the density of all.

    Args:
        restricted: sbi's restricted prior, from `conditional_potential`.
        condition: What the other parameters are fixed to, shape `(1, D)`; by default a
            draw of the prior.
    """

    def __init__(
        self, restricted: RestrictedPriorForConditional, condition: Tensor | None
    ) -> None:
        self.full_prior = restricted.full_prior
        self.dims_to_sample = list(restricted.dims_to_sample)
        if condition is None:
            condition = self.full_prior.sample(torch.Size((1,)))
        self.condition = condition
        self._log_prior = LogPrior(self.full_prior)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw the parameters that are not fixed, shape `(*sample_shape, d)`."""
        shape = torch.Size(sample_shape)
        theta = self.full_prior.sample(torch.Size((shape.numel(),)))
        return theta[:, self.dims_to_sample].reshape(*shape, -1)

    def log_prob(self, theta: Tensor) -> Tensor:
        """Log-density up to a constant, `(N, d)` -> `(N,)`, nats."""
        rows = self.condition.to(theta).repeat(len(theta), 1)
        rows[:, self.dims_to_sample] = theta
        return self._log_prior(rows)


def check_proposal(proposal: Any, potential_fn: Any) -> tuple[Any, int]:
    """Return what starts can be drawn from and how many parameters it has, or raise.

    Args:
        proposal: A distribution of parameter sets, also sbi's of a conditional.
        potential_fn: The potential to be sampled, whose prior is the default.

    Returns:
        The proposal, and the number of its parameters, `D`.

    Raises:
        TypeError: If it draws nothing, or there is none.
        ValueError: If draws are no rows of parameters with one log-density each, or
            parameters are discrete or bound to one another.
    """
    if proposal is None:
        proposal = getattr(potential_fn, "prior", None)
    if proposal is None:
        raise TypeError(
            "`proposal` must be a distribution to start chains from, got None, and "
            "`potential_fn` has no prior. Pass the prior as `proposal`."
        )
    if not all(
        callable(getattr(proposal, act, None)) for act in ("sample", "log_prob")
    ):
        raise TypeError(
            "`proposal` must be a distribution with `sample` and `log_prob`, got "
            f"{proposal!r:.60} of type {type(proposal).__name__}."
        )
    if isinstance(proposal, Distribution):
        check_support("proposal", proposal)
    with generators_kept(), torch.no_grad():
        if isinstance(proposal, RestrictedPriorForConditional):
            condition = getattr(potential_fn, "condition", None)
            proposal = ConditionalPrior(proposal, condition)
        theta = proposal.sample(torch.Size((2,)))
        log_prob = proposal.log_prob(theta)
    if theta.ndim != 2 or log_prob.shape != (2,):
        raise ValueError(
            "`proposal` must give each parameter set (D,) one log-density, got draws "
            f"{tuple(theta.shape)} with log-densities {tuple(log_prob.shape)} for 2 "
            "sets. Wrap it in torch.distributions.Independent(..., 1)."
        )
    return proposal, theta.shape[1]
