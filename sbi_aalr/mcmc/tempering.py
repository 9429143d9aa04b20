"""Carry a population of chains from the prior to the posterior by tempering.

Between the distribution q that starts were drawn from and the target pi lies the path
q^(1-t) pi^t. The inverse temperature t of each observation rises as fast as half of its
chains can follow; chains are then resampled by what the rise changed, and moved by a
kernel. Modes keep their shares on the way, and no chain is left behind where the
posterior has no mass. Each resampling ends some lines of descent: chains that all
descend from a few starts can only be where these few led, and so ancestors are counted.

References:
    Del Moral, Doucet & Jasra (2006), JRSS B 68(3), for the sampler; Jasra et al. (2011)
    for a choice of t by the effective sample size.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc.ahead import advance
from sbi_aalr.mcmc.kernel import Kernel, State
from sbi_aalr.mcmc.kernels import differential_evolution
from sbi_aalr.mcmc.run import block_size
from sbi_aalr.mcmc.weights import effective_size
from sbi_aalr.types import LogProbFn

_STEPS_PER_RISE = 10
_NUM_BISECTIONS = 22
_SURVIVING_SHARE = 0.5
# Finite, so that an inverse temperature that does not rise gives weight one.
_NOTHING = -1e30


class Annealed(NamedTuple):
    """A population at the end of the path.

    Attributes:
        position: Close to draws from the target, shape `(C, B, D)`.
        ancestor_share: Starts that the chains of each observation descend from, for
            each chain, between 0 and 1, shape `(B,)`.
    """

    position: Tensor
    ancestor_share: Tensor


def anneal(
    generator: Generator,
    starts: Tensor,
    inverse_temperature: Tensor,
    log_prob_fn: LogProbFn,
    log_base_fn: LogProbFn,
    *,
    max_steps: int,
    kernel: Kernel = differential_evolution.KERNEL,
    ancestor: Tensor | None = None,
    on_step: Callable[[int], object] | None = None,
) -> Annealed:
    """Move starts along the path from `inverse_temperature` to 1.

    Args:
        generator: Source of randomness, on the device of the starts.
        starts: Drawn at `inverse_temperature`, shape `(C, B, D)`; at least 4 chains.
        inverse_temperature: Place on the path where each observation begins, shape
            `(B,)`.
        log_prob_fn: Log-density of the target, nats.
        log_base_fn: Log-density of the beginning of the path, nats.
        max_steps: Most steps to take; the last of them jumps to 1 if need be.
        kernel: What moves the chains.
        ancestor: Number of what each start descends from, long, shape `(C, B)`; None
            if every start is its own.
        on_step: Called with the number of steps made, for a progress bar.

    Returns:
        The population at 1, and on how few ancestors it has collapsed.
    """
    position = starts
    if ancestor is None:
        ancestor = torch.arange(len(starts), device=starts.device)
        ancestor = ancestor.unsqueeze(1).expand(starts.shape[:2])
    parameters, block = kernel.build(generator, position), block_size(kernel)
    for used in range(_STEPS_PER_RISE, max_steps + 1, _STEPS_PER_RISE):
        if bool((inverse_temperature >= 1).all()):
            break
        log_prob, log_base = log_prob_fn(position), log_base_fn(position)
        log_ratio = (log_prob - log_base).nan_to_num(_NOTHING, _NOTHING, _NOTHING)
        last = used + _STEPS_PER_RISE > max_steps
        risen = (
            torch.ones_like(inverse_temperature)
            if last
            else raise_inverse_temperature(log_ratio, inverse_temperature)
        )
        chosen = resample_chains(generator, (risen - inverse_temperature) * log_ratio)
        inverse_temperature = risen
        position = position.gather(0, chosen.unsqueeze(-1).expand_as(position))
        ancestor = ancestor.gather(0, chosen)
        tempered = temper(log_prob_fn, log_base_fn, inverse_temperature)
        state = State(
            position,
            (1 - inverse_temperature) * log_base.gather(0, chosen)
            + inverse_temperature * log_prob.gather(0, chosen),
        )
        if kernel.look_ahead is not None:
            # What jumps must know where the chains are now.
            parameters = kernel.build(generator, position)
        for _ in range(0, _STEPS_PER_RISE, block):
            state, info = advance(
                generator,
                state,
                tempered,
                kernel=kernel,
                parameters=parameters,
                num_steps=block,
            )
            parameters = kernel.tune(parameters, info)
        position = state.position
        if on_step is not None:
            on_step(_STEPS_PER_RISE)
    return Annealed(position, _count_distinct(ancestor) / len(ancestor))


def raise_inverse_temperature(log_ratio: Tensor, inverse_temperature: Tensor) -> Tensor:
    """Find the inverse temperature at which half of the chains survive, at most 1.

    Args:
        log_ratio: Log-density of the target less that of the base, `(C, B)`, nats.
        inverse_temperature: The one so far, shape `(B,)`.

    Returns:
        The next one, shape `(B,)`.

    Example:
        >>> raise_inverse_temperature(torch.zeros(10, 1), torch.zeros(1))
        tensor([1.])
    """
    return find_inverse_temperature(
        log_ratio, inverse_temperature, _SURVIVING_SHARE * log_ratio.shape[0]
    )


def find_inverse_temperature(
    log_weight: Tensor, inverse_temperature: Tensor, min_size: float
) -> Tensor:
    """Find the largest inverse temperature that leaves an effective size.

    Args:
        log_weight: Log-weights per unit of it, shape `(C, B)`, nats.
        inverse_temperature: The one to rise from, shape `(B,)`.
        min_size: Effective number of rows that must be left.

    Returns:
        The one found by bisection, between the one given and 1, shape `(B,)`.

    Example:
        >>> find_inverse_temperature(torch.zeros(10, 1), torch.zeros(1), min_size=10)
        tensor([1.])
    """
    low, high = inverse_temperature, torch.ones_like(inverse_temperature)
    enough = effective_size((high - inverse_temperature) * log_weight) >= min_size
    low = torch.where(enough, high, low)
    for _ in range(_NUM_BISECTIONS):
        middle = (low + high) / 2
        enough = effective_size((middle - inverse_temperature) * log_weight) >= min_size
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    return low


def resample_chains(
    generator: Generator, log_weight: Tensor, count: int | None = None
) -> Tensor:
    """Choose chains in proportion to their weights, systematically.

    Args:
        generator: Source of randomness.
        log_weight: Shape `(C, B)`, nats.
        count: Chains to choose, `C'`; by default as many as there are.

    Returns:
        Index of the chain that each chain becomes, long, shape `(C', B)`.
    """
    chains, observations = log_weight.shape
    edge = log_weight.softmax(dim=0).cumsum(dim=0).T.contiguous()
    offset = torch.rand(
        (observations, 1),
        generator=generator,
        device=log_weight.device,
        dtype=log_weight.dtype,
    )
    count = chains if count is None else count
    comb = (torch.arange(count, device=log_weight.device) + offset) / count
    return torch.searchsorted(edge, comb).clamp(max=chains - 1).T


def temper(
    log_prob_fn: LogProbFn, log_base_fn: LogProbFn, inverse_temperature: Tensor
) -> LogProbFn:
    """The log-density at a place on the path, up to a constant, nats.

    Args:
        log_prob_fn: Log-density of the target.
        log_base_fn: Log-density of the beginning of the path.
        inverse_temperature: Place on the path, shape `(B,)`.
    """

    def log_prob(position: Tensor) -> Tensor:
        cold, hot = log_prob_fn(position), log_base_fn(position)
        return (1 - inverse_temperature) * hot + inverse_temperature * cold

    return log_prob


def _count_distinct(rows: Tensor) -> Tensor:
    """Number of different values in each column, `(C, B)` -> `(B,)`."""
    ordered = rows.sort(dim=0).values
    return 1 + (ordered[1:] != ordered[:-1]).sum(dim=0)
