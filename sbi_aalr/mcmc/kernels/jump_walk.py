"""The default kernel: jumps between modes, and walks within them.

Nineteen steps in twenty propose independently from a mixture learned in warm-up, and
forget where the chain stood. One in twenty is a random walk with the local shapes of
that same mixture, theta' = theta + scale * L_k z, which moves the chains that wait in
the corners that the mixture fits badly. Component k is drawn by its weight and not by
where the chain stands, so that the walk is symmetric.
"""

from functools import partial
from typing import NamedTuple, TypeAlias

from torch import Generator, Tensor

from sbi_aalr.mcmc import adaptation, prefetch
from sbi_aalr.mcmc.adaptation import DualAveraging
from sbi_aalr.mcmc.kernel import Info, Kernel, Proposal, State, Steps
from sbi_aalr.mcmc.kernels import independence
from sbi_aalr.mcmc.kernels.mix import mix
from sbi_aalr.mcmc.mixture_fit import MixtureFit
from sbi_aalr.mcmc.shapes import optimal_scale
from sbi_aalr.mcmc.student_mixture import StudentMixture, draw_offset
from sbi_aalr.types import LogProbFn

_TARGET_ACCEPTANCE = 0.3


class Walk(NamedTuple):
    """Parameters of the walk.

    Attributes:
        mixture: Shapes to walk in, and how often each is used.
        scale: Factor on them.
    """

    mixture: StudentMixture
    scale: DualAveraging


Parameters: TypeAlias = tuple[MixtureFit, Walk]


def build(generator: Generator, starts: Tensor) -> Parameters:
    """Fit one mixture to the starts, `(C, B, D)`, for both parts."""
    fit, scale = _MIX.build(generator, starts)
    return fit, Walk(fit.mixture, scale)


def tune(parameters: Parameters, info: Info) -> Parameters:
    """Tune both parts; the walk takes its shapes from what the jumps have learned."""
    fit, walk = _MIX.tune(parameters, info)
    return fit, walk._replace(mixture=fit.mixture)


def refit(generator: Generator, parameters: Parameters, draws: Tensor) -> Parameters:
    """Let both parts learn from draws of the chains, shape `(S, C, B, D)`."""
    fit, walk = _MIX.refit(generator, parameters, draws)
    return fit, walk._replace(mixture=fit.mixture)


def _start_scale(generator: Generator, starts: Tensor) -> DualAveraging:
    return adaptation.start(optimal_scale(starts))


def _walk(
    generator: Generator,
    position: Tensor,
    others: Tensor,
    log_prob_fn: LogProbFn,
    parameters: Walk,
) -> Proposal:
    """Propose theta' ~ N(theta, scale^2 L_k L_k^T); symmetric, no correction."""
    return Proposal(position + _draw_offsets(generator, parameters, position.shape[0]))


def _walk_ahead(
    generator: Generator,
    log_prob_fn: LogProbFn,
    parameters: Walk,
    num_chains: int,
    num_steps: int,
) -> Steps:
    """Make the same steps in fewer calls."""
    draw = partial(_draw_offsets, generator, parameters, num_chains)

    def take(state: State, start: int, num_steps: int) -> tuple[State, Info]:
        return prefetch.walk(generator, state, draw, log_prob_fn, num_steps)

    return take


def _draw_offsets(generator: Generator, parameters: Walk, count: int) -> Tensor:
    offset, _ = draw_offset(generator, parameters.mixture, count)
    return parameters.scale.log_scale.exp().unsqueeze(-1) * offset


WALK = Kernel(
    _start_scale,
    _walk,
    partial(adaptation.tune, target=_TARGET_ACCEPTANCE),
    look_ahead=_walk_ahead,
)
_MIX = mix([independence.KERNEL, WALK], [0.95, 0.05])

KERNEL = _MIX._replace(build=build, tune=tune, refit=refit)
