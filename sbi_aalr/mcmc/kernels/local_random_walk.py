"""A random walk with the local shapes of the target, taken from a fitted mixture.

theta' = theta + scale * L_k z, where component k of the mixture is drawn by its weight
and not by where the chain stands, so that the proposal is symmetric. It moves chains
where an independence sampler waits: in the corners that its mixture fits badly.
"""

from typing import NamedTuple

from torch import Generator, Tensor

from sbi_aalr.mcmc import adaptation, mixture_fit
from sbi_aalr.mcmc.adaptation import DualAveraging
from sbi_aalr.mcmc.kernel import Info, Kernel, Proposal
from sbi_aalr.mcmc.kernels.random_walk import optimal_scale
from sbi_aalr.mcmc.student_mixture import StudentMixture, draw_offset
from sbi_aalr.types import LogProbFn

_TARGET_ACCEPTANCE = 0.3


class Parameters(NamedTuple):
    """Parameters of the local random walk.

    Attributes:
        mixture: Shapes to walk in, and how often each is used.
        scale: Factor on them.
    """

    mixture: StudentMixture
    scale: DualAveraging


def build(generator: Generator, starts: Tensor) -> Parameters:
    """Fit the shapes to the starts, shape `(C, B, D)`."""
    return start(mixture_fit.fit(generator, starts).mixture, starts)


def start(mixture: StudentMixture, starts: Tensor) -> Parameters:
    """Begin with the shapes of a mixture that is there already."""
    return Parameters(mixture, adaptation.start(optimal_scale(starts)))


def propose(
    generator: Generator,
    position: Tensor,
    others: Tensor,
    log_prob_fn: LogProbFn,
    parameters: Parameters,
) -> Proposal:
    """Propose theta' ~ N(theta, scale^2 L_k L_k^T); symmetric, no correction."""
    offset, _ = draw_offset(generator, parameters.mixture, position.shape[0])
    scale = parameters.scale.log_scale.exp().unsqueeze(-1)
    return Proposal(position + scale * offset)


def tune(parameters: Parameters, info: Info) -> Parameters:
    """Move the scale towards an acceptance rate of 0.3."""
    scale = adaptation.update(
        parameters.scale, info.acceptance_rate, _TARGET_ACCEPTANCE
    )
    return parameters._replace(scale=scale)


def refit(generator: Generator, parameters: Parameters, draws: Tensor) -> Parameters:
    """Fit the shapes to a window's draws, shape `(S, C, B, D)`."""
    mixture = mixture_fit.fit(generator, draws.flatten(0, 1)).mixture
    return Parameters(mixture, adaptation.restart(parameters.scale))


KERNEL = Kernel(build, propose, tune, refit)
