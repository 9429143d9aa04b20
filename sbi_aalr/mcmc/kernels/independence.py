"""Independence Metropolis-Hastings from a mixture fitted to the target in warm-up.

theta' ~ q, a mixture of multivariate Student t densities that is learned in warm-up for
each observation, from all chains together, and stays as it is within a round of draws.
It does not depend on where a chain stands, so a chain that accepts has forgotten its
past and may land in any mode; and the proposals of many steps can be drawn and
evaluated at once, after which the Metropolis-Hastings rule takes them one by one. The
heavy tails keep p/q bounded where the fit is too narrow.

References:
    Tierney (1994), Annals of Statistics 22(4); Andrieu & Thoms (2008) for the fit.
"""

from collections.abc import Callable
from typing import Any

from torch import Generator, Tensor

from sbi_aalr.mcmc import mixture_fit
from sbi_aalr.mcmc.kernel import Info, Kernel, Proposal, State, Steps
from sbi_aalr.mcmc.mixture_fit import MixtureFit
from sbi_aalr.mcmc.step import take_in_turn
from sbi_aalr.mcmc.student_mixture import log_density, sample
from sbi_aalr.types import LogProbFn


def make_kernel(
    build: Callable[[Generator, Tensor], Any],
    draw: Callable[[Generator, Any, int], tuple[Tensor, Tensor]],
    log_density: Callable[[Any, Tensor], Tensor],
) -> Kernel:
    """Propose from a density, whatever it is.

    Args:
        build: `(generator, starts)` -> parameters; see `Kernel`.
        draw: `(generator, parameters, num_samples)` -> draws of the density, shape
            `(N, B, D)`, and its log there, `(N, B)`, nats.
        log_density: `(parameters, position)` -> log of the density, `(C, B)`, nats.

    Returns:
        The kernel, which learns nothing.
    """

    def propose(
        generator: Generator,
        position: Tensor,
        others: Tensor,
        log_prob_fn: LogProbFn,
        parameters: Any,
    ) -> Proposal:
        proposed, there = draw(generator, parameters, len(position))
        return Proposal(proposed, log_density(parameters, position) - there)

    def look_ahead(
        generator: Generator,
        log_prob_fn: LogProbFn,
        parameters: Any,
        num_chains: int,
        num_steps: int,
    ) -> Steps:
        proposed, log_q = draw(generator, parameters, num_steps * num_chains)
        proposals = State(proposed, log_prob_fn(proposed))

        def take(state: State, start: int, num_steps: int) -> tuple[State, Info]:
            rows = slice(start * num_chains, (start + num_steps) * num_chains)
            own = State(*(part[rows] for part in proposals))
            here = log_density(parameters, state.position)
            return take_in_turn(generator, state, own, log_q[rows], here)

        return take

    return Kernel(build, propose, look_ahead=look_ahead)


def build(generator: Generator, starts: Tensor) -> MixtureFit:
    """Fit the mixture to the starts, shape `(C, B, D)`."""
    return mixture_fit.fit(generator, starts)


def draw(
    generator: Generator, parameters: MixtureFit, num_samples: int
) -> tuple[Tensor, Tensor]:
    """Draw from the mixture: `(N, B, D)`, and its log-density, `(N, B)`, nats."""
    proposed = sample(generator, parameters.mixture, num_samples)
    return proposed, find_log_density(parameters, proposed)


def find_log_density(parameters: MixtureFit, position: Tensor) -> Tensor:
    """Log-density of the mixture at positions `(C, B, D)`, `(C, B)`, nats."""
    return log_density(parameters.mixture, position)


def tune(parameters: MixtureFit, info: Info) -> MixtureFit:
    """Learn from proposals that were made at once."""
    if info.log_weight is None:
        return parameters
    points, log_weight = info.proposal.position, info.log_weight
    return mixture_fit.update(
        parameters, points.flatten(0, 1), log_weight.flatten(0, 1)
    )


def refit(generator: Generator, parameters: MixtureFit, draws: Tensor) -> MixtureFit:
    """Learn from draws of the chains, shape `(S, C, B, D)`."""
    return mixture_fit.refit(generator, parameters, draws.flatten(0, 1))


KERNEL = make_kernel(build, draw, find_log_density)._replace(
    tune=tune, refit=refit, relearn=refit
)
