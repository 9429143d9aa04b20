"""Independence Metropolis-Hastings from a mixture fitted to the warm-up draws.

theta' ~ q, a mixture of multivariate Student t densities fitted to all chains of one
observation, then frozen. It does not depend on where a chain stands, so a chain that
accepts has forgotten its past and may land in any mode. The heavy tails keep r q-ratios
bounded where the fit is too narrow.

References:
    Tierney (1994), Annals of Statistics 22(4); Andrieu & Thoms (2008) for the fit.
"""

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc.kernel import Info, Kernel, Proposal
from sbi_aalr.mcmc.student_mixture import StudentMixture, fit, log_density, sample
from sbi_aalr.types import LogProbFn


def build(generator: Generator, starts: Tensor) -> StudentMixture:
    """Fit the mixture to the starts, shape `(C, B, D)`."""
    return fit(generator, starts)


def propose(
    generator: Generator,
    position: Tensor,
    others: Tensor,
    log_prob_fn: LogProbFn,
    parameters: StudentMixture,
) -> Proposal:
    """Propose theta' ~ q with the correction log q(theta) - log q(theta')."""
    proposed = sample(generator, parameters, position.shape[0])
    log_q = log_density(parameters, torch.cat((position, proposed)))
    here, there = log_q.chunk(2)
    return Proposal(proposed, here - there)


def tune(parameters: StudentMixture, info: Info) -> StudentMixture:
    """Nothing to tune from step to step."""
    return parameters


def refit(
    generator: Generator, parameters: StudentMixture, draws: Tensor
) -> StudentMixture:
    """Fit the mixture to a window's draws, shape `(S, C, B, D)`."""
    return fit(generator, draws.flatten(0, 1))


KERNEL = Kernel(build, propose, tune, refit)
