"""Independence Metropolis-Hastings from a mixture fitted to the target in warm-up.

theta' ~ q, a mixture of multivariate Student t densities that is learned in warm-up for
each observation, from all chains together, then frozen. It does not depend on where a
chain stands, so a chain that accepts has forgotten its past and may land in any mode;
and the proposals of many steps can be drawn and evaluated at once, after which the
Metropolis-Hastings rule takes them one by one. The heavy tails keep r q-ratios bounded
where the fit is too narrow.

References:
    Tierney (1994), Annals of Statistics 22(4); Andrieu & Thoms (2008) for the fit.
"""

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc import mixture_fit
from sbi_aalr.mcmc.kernel import Info, Kernel, Proposal, State
from sbi_aalr.mcmc.mixture_fit import MixtureFit
from sbi_aalr.mcmc.step import take_in_turn
from sbi_aalr.mcmc.student_mixture import log_density, sample
from sbi_aalr.types import LogProbFn


def build(generator: Generator, starts: Tensor) -> MixtureFit:
    """Fit the mixture to the starts, shape `(C, B, D)`."""
    return mixture_fit.fit(generator, starts)


def propose(
    generator: Generator,
    position: Tensor,
    others: Tensor,
    log_prob_fn: LogProbFn,
    parameters: MixtureFit,
) -> Proposal:
    """Propose theta' ~ q with the correction log q(theta) - log q(theta')."""
    proposed = sample(generator, parameters.mixture, position.shape[0])
    log_q = log_density(parameters.mixture, torch.cat((position, proposed)))
    here, there = log_q.chunk(2)
    return Proposal(proposed, here - there)


def advance(
    generator: Generator,
    state: State,
    log_prob_fn: LogProbFn,
    parameters: MixtureFit,
    num_steps: int,
) -> tuple[State, Info]:
    """Make all proposals at once, then take or leave them one by one."""
    mixture = parameters.mixture
    proposed = sample(generator, mixture, num_steps * state.position.shape[0])
    proposals = State(proposed, log_prob_fn(proposed))
    return take_in_turn(
        generator,
        state,
        proposals,
        log_density(mixture, proposed),
        log_density(mixture, state.position),
    )


def tune(parameters: MixtureFit, info: Info) -> MixtureFit:
    """Learn from proposals that were made at once; there is nothing else to tune."""
    if info.log_weight is None:
        return parameters
    points, log_weight = info.proposal.position, info.log_weight
    return mixture_fit.update(
        parameters, points.flatten(0, 1), log_weight.flatten(0, 1)
    )


# No `refit`: weighted proposals say more than the chains' draws.
KERNEL = Kernel(build, propose, tune, advance=advance)
