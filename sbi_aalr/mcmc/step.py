"""Move chains once by a kernel: start, propose, take or leave.

References:
    Hermans et al. (2020), arXiv:1903.04057, Algorithm 2; Hastings (1970).
"""

from typing import Any

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc.kernel import Info, Kernel, State
from sbi_aalr.mcmc.trees import concatenate
from sbi_aalr.types import LogProbFn


def init(position: Tensor, log_prob_fn: LogProbFn) -> State:
    """Evaluate the starting positions.

    Args:
        position: Starts, shape `(C, B, D)`.
        log_prob_fn: Log-density, nats.

    Returns:
        The state from which the first step is taken.

    Raises:
        ValueError: If the log-density of any start is NaN or infinite.

    Example:
        >>> state = init(torch.zeros(2, 1, 3), lambda theta: -theta.square().sum(-1))
        >>> state.log_prob.shape
        torch.Size([2, 1])
    """
    log_prob = log_prob_fn(position)
    bad = ~torch.isfinite(log_prob)
    if bad.any():
        chain, observation = (int(i) for i in bad.nonzero()[0])
        raise ValueError(
            "Every chain must start where the log-density is finite, but "
            f"{int(bad.sum())} of {bad.numel()} do not: chain {chain} of observation "
            f"{observation} starts at {position[chain, observation].tolist()} with "
            f"log-density {float(log_prob[chain, observation])}. Start inside the "
            "prior's support."
        )
    return State(position, log_prob)


def accept(
    generator: Generator,
    state: State,
    proposal: State,
    log_correction: Tensor | float = 0.0,
) -> tuple[State, Info]:
    """Take or leave a proposal by the Metropolis-Hastings rule, Algorithm 2.

    A log-density difference that is NaN or plus infinity is a rejection: such a
    proposal has no valid density, and a chain that moved there would never leave.

    Args:
        generator: Source of randomness, on the device of the state.
        state: Current state.
        proposal: Proposed state, of the same shapes.
        log_correction: log q(theta|theta') - log q(theta'|theta), shape `(C, B)`; zero
            for a symmetric proposal.

    Returns:
        The next state and the report of this step.

    References:
        Hermans et al. (2020), arXiv:1903.04057, Algorithm 2; Hastings (1970).

    Example:
        >>> state = State(torch.zeros(1, 1, 1), torch.zeros(1, 1))
        >>> nowhere = State(torch.ones(1, 1, 1), torch.full((1, 1), float("nan")))
        >>> _, info = accept(torch.Generator(), state, nowhere)
        >>> info.accepted.item()
        False
    """
    return decide(draw_uniform(generator, state), state, proposal, log_correction)


def draw_uniform(generator: Generator, state: State) -> Tensor:
    """Draw what decides on a proposal for each chain, shape `(C, B)`."""
    return torch.rand(
        state.log_prob.shape,
        generator=generator,
        device=state.log_prob.device,
        dtype=state.log_prob.dtype,
    )


def decide(
    uniform: Tensor,
    state: State,
    proposal: State,
    log_correction: Tensor | float = 0.0,
) -> tuple[State, Info]:
    """The same as `accept`, with a uniform number that was drawn before."""
    log_ratio = proposal.log_prob - state.log_prob + log_correction
    valid = log_ratio < torch.inf
    acceptance_rate = torch.where(valid, log_ratio.clamp(max=0.0).exp(), 0.0)
    accepted = uniform < acceptance_rate
    position = torch.where(accepted.unsqueeze(-1), proposal.position, state.position)
    log_prob = torch.where(accepted, proposal.log_prob, state.log_prob)
    return State(position, log_prob), Info(acceptance_rate, accepted, proposal)


def take_in_turn(
    generator: Generator,
    state: State,
    proposals: State,
    log_q: Tensor,
    log_q_here: Tensor,
) -> tuple[State, Info]:
    """Take or leave independent proposals that were made at once, one by one.

    With the weights w = p(theta|x) / q(theta), a proposal is accepted with probability
    min(1, w(theta') / w(theta)); one whose weight is NaN or infinite is rejected.

    Args:
        generator: Source of randomness, on the device of the state.
        state: Current state of C chains.
        proposals: Draws of q for T steps of each chain, shape `(T C, B, D)`.
        log_q: Log-density of q at them, shape `(T C, B)`, nats.
        log_q_here: Log-density of q at the current state, shape `(C, B)`, nats.

    Returns:
        The state after the last step, and the report of all of them.

    References:
        Tierney (1994), Annals of Statistics 22(4).
    """
    num_chains, num_observations = state.log_prob.shape
    shape = (len(log_q) // num_chains, num_chains, num_observations)
    log_weight = (proposals.log_prob - log_q).view(shape)
    log_weight = torch.where(log_weight < torch.inf, log_weight, -torch.inf)
    here = state.log_prob - log_q_here
    log_uniform = torch.rand(
        shape, generator=generator, device=here.device, dtype=here.dtype
    ).log_()
    standing = torch.full_like(here, -1, dtype=torch.long)
    gaps, places = [], []
    for index in range(shape[0]):
        gap = log_weight[index] - here
        accepted = log_uniform[index] < gap
        here = torch.where(accepted, log_weight[index], here)
        standing = torch.where(accepted, index, standing)
        gaps.append(gap)
        places.append(standing)
    place = torch.stack(places)
    chain = torch.arange(num_chains, device=here.device).unsqueeze(1)
    row = (place.clamp(min=0) * num_chains + chain).flatten(0, 1)
    moved = place >= 0
    position, log_prob = (
        part.gather(0, row.view(*row.shape, *[1] * (part.ndim - 2)).expand_as(part))
        for part in proposals
    )
    path = State(
        torch.where(moved.unsqueeze(-1), position.view(*shape, -1), state.position),
        torch.where(moved, log_prob.view(shape), state.log_prob),
    )
    rate = torch.stack(gaps).clamp_(max=0.0).exp_().mean(dim=0)
    proposal = State(*(part.unflatten(0, shape[:2]) for part in proposals))
    info = Info(rate, accepted, proposal, log_weight=log_weight, path=path)
    return State(*(part[-1] for part in path)), info


def step(
    generator: Generator,
    state: State,
    log_prob_fn: LogProbFn,
    *,
    kernel: Kernel,
    parameters: Any,
) -> tuple[State, Info]:
    """Move every chain once, with one evaluation of the log-density for each.

    Args:
        generator: Source of randomness, on the device of the state.
        state: Current state.
        log_prob_fn: Log-density, nats.
        kernel: What proposes.
        parameters: The kernel's parameters; while they stay fixed, the target is left
            invariant.

    Returns:
        The next state and the report of this step.

    References:
        Hermans et al. (2020), arXiv:1903.04057, Algorithm 2.
    """
    if not kernel.uses_population:
        return _step_part(
            generator, state, state.position, log_prob_fn, kernel, parameters
        )
    half = state.position.shape[0] // 2
    first, second = State(*(t[:half] for t in state)), State(*(t[half:] for t in state))
    first, info_first = _step_part(
        generator, first, second.position, log_prob_fn, kernel, parameters
    )
    second, info_second = _step_part(
        generator, second, first.position, log_prob_fn, kernel, parameters
    )
    return concatenate((first, second)), _join(info_first, info_second)


def _step_part(
    generator: Generator,
    state: State,
    others: Tensor,
    log_prob_fn: LogProbFn,
    kernel: Kernel,
    parameters: Any,
) -> tuple[State, Info]:
    position, log_correction, component = kernel.propose(
        generator, state.position, others, log_prob_fn, parameters
    )
    proposal = State(position, log_prob_fn(position))
    state, info = accept(generator, state, proposal, log_correction)
    return state, info._replace(component=component)


def _join(first: Info, second: Info) -> Info:
    """Report of all chains from those of two halves."""
    return first._replace(
        acceptance_rate=torch.cat((first.acceptance_rate, second.acceptance_rate)),
        accepted=torch.cat((first.accepted, second.accepted)),
        proposal=concatenate((first.proposal, second.proposal)),
        component=None
        if first.component is None or second.component is None
        else torch.cat((first.component, second.component)),
    )
