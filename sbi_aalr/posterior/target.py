"""From sbi's potentials to what the sampling engine takes."""

from typing import Any

from sbi.inference.potentials.base_potential import BasePotential
from sbi.inference.potentials.ratio_based_potential import RatioBasedPotential

from sbi_aalr.sampling.log_prior import LogPrior
from sbi_aalr.sampling.target import CallableTarget, RatioTarget, Target


def make_target(
    potential_fn: BasePotential, proposal: Any, theta_transform: Any
) -> Target:
    """Say what is sampled, in the form that the sampling engine takes.

    Args:
        potential_fn: sbi's potential.
        proposal: Where candidates for the starts come from.
        theta_transform: From prior units to unconstrained space.

    Returns:
        The target, with the ratio estimator of the potential if it has one.
    """
    log_proposal = LogPrior(proposal)
    name = type(potential_fn).__name__
    parts = name, proposal, log_proposal, theta_transform
    if not isinstance(potential_fn, RatioBasedPotential):
        return CallableTarget(*parts, potential_fn)
    prior = potential_fn.prior
    log_prior = log_proposal if prior is proposal else LogPrior(prior)
    return RatioTarget(*parts, potential_fn.ratio_estimator, prior, log_prior)
