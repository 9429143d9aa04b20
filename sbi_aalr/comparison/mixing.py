"""How well the chains behind a posterior's draws mix."""

import math
from typing import Any, NamedTuple

import torch
from sbi.inference.posteriors import MCMCPosterior
from torch import Tensor

from sbi_aalr.mcmc import convergence
from sbi_aalr.posterior.mh_posterior import MHPosterior


class Mixing(NamedTuple):
    """How well chains mix; NaN where there are none.

    Attributes:
        min_ess: Least effective sample size, bulk or tail, over parameters.
        max_rhat: Largest R-hat over parameters.
    """

    min_ess: float
    max_rhat: float


def measure_mixing(posterior: Any, draws: Tensor) -> Mixing:
    """Measure the chains behind the last draws of a posterior.

    Args:
        posterior: The posterior that was drawn from.
        draws: What it returned, shape `(S, D)`.

    Returns:
        The figures; sbi's chains are put together again from the draws.
    """
    if isinstance(posterior, MHPosterior) and posterior.chains is not None:
        theta = posterior.chains.theta
    elif isinstance(posterior, MCMCPosterior):
        length = -(-len(draws) // posterior.num_chains)
        chains = draws[: len(draws) // length * length].unflatten(0, (-1, length))
        theta = chains.unsqueeze(2)
    else:
        return Mixing(math.nan, math.nan)
    theta = theta.double()
    sizes = convergence.ess_bulk(theta), convergence.ess_tail(theta)
    smallest, largest = torch.minimum(*sizes).min(), convergence.rhat(theta).max()
    return Mixing(float(smallest), float(largest))
