"""Several steps of a symmetric walk in one evaluation of the log-density.

The offsets of a walk that does not look where it stands can be drawn before the first
step is taken. After k of them a chain stands at one of 2^k positions, the sums of those
that were taken, and all can be evaluated at once. Where chains are few, a call takes as
long for some hundred rows as for a few, so that k steps cost little more than one.

References:
    Brockwell (2006), JCGS 15(1), doi:10.1198/106186006X100579.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc.kernel import Info, State
from sbi_aalr.mcmc.step import decide, draw_uniform
from sbi_aalr.types import LogProbFn


def walk(
    generator: Generator,
    state: State,
    draw_offset: Callable[[], Tensor],
    log_prob_fn: LogProbFn,
    num_steps: int,
) -> tuple[State, Info]:
    """Make steps by the Metropolis rule, with the random numbers of single ones.

    Args:
        generator: Source of randomness, on the device of the state.
        state: Current state of C chains.
        draw_offset: Draws what a step would add, `(C, B, D)`, from a symmetric density
            that does not depend on the state.
        log_prob_fn: Log-density, nats. It may have `num_cheap_rows`, up to which a call
            takes hardly longer than for a few; without it nothing is looked ahead at.
        num_steps: Number of steps, at least 1.

    Returns:
        The state after the last step, and the report of all of them.
    """
    cheap = getattr(log_prob_fn, "num_cheap_rows", 0)
    ahead = max(1, (cheap // state.log_prob.numel()).bit_length() - 1)
    states, rates = [], []
    for start in range(0, num_steps, ahead):
        offsets, uniforms = [], []
        for _ in range(min(ahead, num_steps - start)):
            offsets.append(draw_offset())
            uniforms.append(draw_uniform(generator, state))
        nodes = _look_ahead(state, offsets, log_prob_fn)
        place = torch.zeros_like(state.log_prob, dtype=torch.long)
        for index, uniform in enumerate(uniforms):
            there = place + 2**index
            state, info = decide(uniform, state, _stand(nodes, there))
            place = torch.where(info.accepted, there, place)
            states.append(state)
            rates.append(info.acceptance_rate)
    path = State(*(torch.stack(field) for field in zip(*states, strict=True)))
    rate = torch.stack(rates).mean(dim=0)
    return state, info._replace(acceptance_rate=rate, path=path)


def _look_ahead(
    state: State, offsets: Sequence[Tensor], log_prob_fn: LogProbFn
) -> State:
    """All that some steps can lead to, `(2^k, C, B, D)`; bit j: step j was taken."""
    position = state.position.unsqueeze(0)
    for offset in offsets:
        position = torch.cat((position, position + offset))
    log_prob = log_prob_fn(position[1:].flatten(0, 1))
    here = state.log_prob.unsqueeze(0)
    return State(position, torch.cat((here, log_prob.view(-1, *here.shape[1:]))))


def _stand(nodes: State, place: Tensor) -> State:
    row = place.unsqueeze(0)
    width = nodes.position.shape[-1]
    rows = row.unsqueeze(-1).expand(*row.shape, width)
    return State(nodes.position.gather(0, rows)[0], nodes.log_prob.gather(0, row)[0])
