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
    """Make all proposals at once, then take or leave them one by one.

    With the weights w = p(theta|x) / q(theta), a proposal is accepted with probability
    min(1, w(theta') / w(theta)); one whose weight is NaN or infinite is rejected.
    """
    num_chains, num_observations = state.log_prob.shape
    shape = (num_steps, num_chains, num_observations)
    mixture = parameters.mixture
    proposed = sample(generator, mixture, num_steps * num_chains)
    log_prob = log_prob_fn(proposed)
    log_weight = (log_prob - log_density(mixture, proposed)).view(shape)
    log_weight = torch.where(log_weight < torch.inf, log_weight, -torch.inf)
    here = state.log_prob - log_density(mixture, state.position)
    log_uniform = torch.rand(
        shape, generator=generator, device=here.device, dtype=here.dtype
    ).log_()
    standing = torch.full_like(here, -1, dtype=torch.long)
    gaps = []
    for index in range(num_steps):
        gap = log_weight[index] - here
        accepted = log_uniform[index] < gap
        here = torch.where(accepted, log_weight[index], here)
        standing = torch.where(accepted, index, standing)
        gaps.append(gap)
    moved = standing >= 0
    chain = torch.arange(num_chains, device=here.device).unsqueeze(1)
    row = standing.clamp(min=0) * num_chains + chain
    taken = proposed.gather(0, row.unsqueeze(-1).expand_as(state.position))
    rate = torch.stack(gaps).clamp_(max=0.0).exp_().mean(dim=0)
    proposal = State(proposed.unflatten(0, shape[:2]), log_prob.view(shape))
    return State(
        torch.where(moved.unsqueeze(-1), taken, state.position),
        torch.where(moved, log_prob.gather(0, row), state.log_prob),
    ), Info(rate, accepted, proposal, log_weight=log_weight)


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
