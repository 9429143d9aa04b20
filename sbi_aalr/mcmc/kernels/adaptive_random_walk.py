"""A random walk whose covariance is learned in warm-up, pooled over the chains.

theta' = theta + scale * L z with L L^T the covariance of the warm-up draws of one
observation, all chains together, and z ~ N(0, I).

References:
    Haario, Saksman & Tamminen (2001), Bernoulli 7(2); Roberts & Rosenthal (2009).
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc import adaptation
from sbi_aalr.mcmc.adaptation import DualAveraging
from sbi_aalr.mcmc.kernel import Kernel, Proposal
from sbi_aalr.mcmc.shapes import covariance_cholesky, optimal_scale
from sbi_aalr.types import LogProbFn

_TARGET_ACCEPTANCE = 0.234


class Parameters(NamedTuple):
    """Parameters of the adaptive random walk.

    Attributes:
        cholesky: Lower factor of the covariance, shape `(B, D, D)`, prior units.
        scale: Factor on it.
    """

    cholesky: Tensor
    scale: DualAveraging


def build(generator: Generator, starts: Tensor) -> Parameters:
    """Take the covariance from the starts, shape `(C, B, D)`."""
    return Parameters(
        covariance_cholesky(starts), adaptation.start(optimal_scale(starts))
    )


def propose(
    generator: Generator,
    position: Tensor,
    others: Tensor,
    log_prob_fn: LogProbFn,
    parameters: Parameters,
) -> Proposal:
    """Propose theta' ~ N(theta, scale^2 L L^T); symmetric, no correction."""
    noise = torch.empty_like(position).normal_(generator=generator)
    scale = parameters.scale.log_scale.exp()[:, None, None]
    return Proposal(
        position + torch.einsum("bij,cbj->cbi", scale * parameters.cholesky, noise)
    )


def refit(generator: Generator, parameters: Parameters, draws: Tensor) -> Parameters:
    """Take the covariance of a window's draws, shape `(S, C, B, D)`."""
    cholesky = covariance_cholesky(draws.flatten(0, 1))
    return Parameters(cholesky, adaptation.restart(parameters.scale))


KERNEL = Kernel(
    build, propose, partial(adaptation.tune, target=_TARGET_ACCEPTANCE), refit
)
