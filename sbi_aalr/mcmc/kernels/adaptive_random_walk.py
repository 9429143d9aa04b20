"""A random walk whose covariance is learned in warm-up, pooled over the chains.

theta' = theta + scale * L z with L L^T the covariance of the warm-up draws of one
observation, all chains together, and z ~ N(0, I).

References:
    Haario, Saksman & Tamminen (2001), Bernoulli 7(2); Roberts & Rosenthal (2009).
"""

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc import adaptation
from sbi_aalr.mcmc.adaptation import DualAveraging
from sbi_aalr.mcmc.kernel import Info, Kernel, Proposal
from sbi_aalr.mcmc.kernels.random_walk import optimal_scale
from sbi_aalr.types import LogProbFn

_TARGET_ACCEPTANCE = 0.234
_RIDGE = 1e-4


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


def tune(parameters: Parameters, info: Info) -> Parameters:
    """Move the scale towards an acceptance rate of 0.234."""
    scale = adaptation.update(
        parameters.scale, info.acceptance_rate, _TARGET_ACCEPTANCE
    )
    return parameters._replace(scale=scale)


def refit(generator: Generator, parameters: Parameters, draws: Tensor) -> Parameters:
    """Take the covariance of a window's draws, shape `(S, C, B, D)`."""
    cholesky = covariance_cholesky(draws.flatten(0, 1))
    return Parameters(cholesky, adaptation.restart(parameters.scale))


def covariance_cholesky(draws: Tensor) -> Tensor:
    """Lower factor of the draws' covariance, `(N, B, D)` -> `(B, D, D)`.

    A small ridge in units of each parameter's variance keeps it positive definite when
    draws are few or lie in a plane.
    """
    centred = (draws - draws.mean(dim=0)).movedim(0, 1)
    covariance = centred.mT @ centred / max(draws.shape[0] - 1, 1)
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    variance = torch.where(variance > 0, variance, torch.ones_like(variance))
    return torch.linalg.cholesky(covariance + _RIDGE * torch.diag_embed(variance))


KERNEL = Kernel(build, propose, tune, refit)
