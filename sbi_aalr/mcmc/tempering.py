"""Carry a population of chains from the prior to the posterior by tempering.

Between the distribution q that starts were drawn from and the target pi lies the path
q^(1-t) pi^t. The temperature t of each observation rises as fast as half of its chains
can follow; chains are then resampled by what the rise changed, and moved by
differential evolution. Modes keep their shares on the way, and no chain is left behind
where the posterior has no mass.

References:
    Del Moral, Doucet & Jasra (2006), JRSS B 68(3), for the sampler; Jasra et al. (2011)
    for adaptive temperatures.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc.kernel import State, step
from sbi_aalr.mcmc.kernels import differential_evolution
from sbi_aalr.types import LogProbFn

_KERNEL = differential_evolution.KERNEL
_STEPS_PER_TEMPERATURE = 10
_NUM_BISECTIONS = 22
_SURVIVING_SHARE = 0.5
# Finite, so that a temperature that does not rise gives weight one.
_NOTHING = -1e30


def anneal(
    generator: Generator,
    starts: Tensor,
    temperature: Tensor,
    log_prob_fn: LogProbFn,
    log_base_fn: LogProbFn,
    *,
    max_steps: int,
    on_step: Callable[[int], object] | None = None,
) -> Tensor:
    """Move starts along the path from `temperature` to 1.

    Args:
        generator: Source of randomness, on the device of the starts.
        starts: Drawn at `temperature`, shape `(C, B, D)`; at least 4 chains.
        temperature: Place on the path where each observation begins, shape `(B,)`.
        log_prob_fn: Log-density of the target, nats.
        log_base_fn: Log-density of the beginning of the path, nats.
        max_steps: Most steps to take; the last of them jumps to 1 if need be.
        on_step: Called with the number of steps made, for a progress bar.

    Returns:
        Positions, shape `(C, B, D)`, close to draws from the target.
    """
    position = starts
    parameters = _KERNEL.build(generator, position)
    for used in range(_STEPS_PER_TEMPERATURE, max_steps + 1, _STEPS_PER_TEMPERATURE):
        if bool((temperature >= 1).all()):
            break
        log_prob, log_base = log_prob_fn(position), log_base_fn(position)
        log_ratio = (log_prob - log_base).nan_to_num(_NOTHING, _NOTHING, _NOTHING)
        last = used + _STEPS_PER_TEMPERATURE > max_steps
        risen = (
            torch.ones_like(temperature)
            if last
            else raise_temperature(log_ratio, temperature)
        )
        chosen = resample(generator, (risen - temperature) * log_ratio)
        temperature = risen
        position = position.gather(0, chosen.unsqueeze(-1).expand_as(position))
        tempered = _temper(log_prob_fn, log_base_fn, temperature)
        state = State(
            position,
            (1 - temperature) * log_base.gather(0, chosen)
            + temperature * log_prob.gather(0, chosen),
        )
        for _ in range(_STEPS_PER_TEMPERATURE):
            state, info = step(
                generator, state, tempered, kernel=_KERNEL, parameters=parameters
            )
            parameters = _KERNEL.tune(parameters, info)
        position = state.position
        if on_step is not None:
            on_step(_STEPS_PER_TEMPERATURE)
    return position


def raise_temperature(log_ratio: Tensor, temperature: Tensor) -> Tensor:
    """Find the temperature at which half of the chains survive, at most 1.

    Args:
        log_ratio: Log-density of the target less that of the base, `(C, B)`, nats.
        temperature: Temperature so far, shape `(B,)`.

    Returns:
        The next temperature, shape `(B,)`.

    Example:
        >>> raise_temperature(torch.zeros(10, 1), torch.zeros(1))
        tensor([1.])
    """
    return find_temperature(
        log_ratio, temperature, _SURVIVING_SHARE * log_ratio.shape[0]
    )


def find_temperature(
    log_weight: Tensor, temperature: Tensor, min_size: float
) -> Tensor:
    """Find the largest temperature that leaves an effective size, by bisection.

    Args:
        log_weight: Log-weights per unit of temperature, shape `(C, B)`, nats.
        temperature: Temperature to rise from, shape `(B,)`.
        min_size: Effective number of rows that must be left.

    Returns:
        Temperature between the one given and 1, shape `(B,)`.

    Example:
        >>> find_temperature(torch.zeros(10, 1), torch.zeros(1), min_size=10)
        tensor([1.])
    """
    low, high = temperature, torch.ones_like(temperature)
    enough = effective_size((high - temperature) * log_weight) >= min_size
    low = torch.where(enough, high, low)
    for _ in range(_NUM_BISECTIONS):
        middle = (low + high) / 2
        enough = effective_size((middle - temperature) * log_weight) >= min_size
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    return low


def effective_size(log_weight: Tensor) -> Tensor:
    """Effective number of weighted chains, `(C, B)` -> `(B,)`.

    Example:
        >>> effective_size(torch.zeros(5, 1))
        tensor([5.])
    """
    weight = (log_weight - log_weight.amax(dim=0)).exp().nan_to_num()
    return weight.sum(dim=0).square() / weight.square().sum(dim=0)


def resample(generator: Generator, log_weight: Tensor) -> Tensor:
    """Choose chains in proportion to their weights, systematically.

    Args:
        generator: Source of randomness.
        log_weight: Shape `(C, B)`, nats.

    Returns:
        Index of the chain that each chain becomes, long, shape `(C, B)`.
    """
    chains, observations = log_weight.shape
    edge = log_weight.softmax(dim=0).cumsum(dim=0).T.contiguous()
    offset = torch.rand(
        (observations, 1), generator=generator, device=log_weight.device
    )
    comb = (torch.arange(chains, device=log_weight.device) + offset) / chains
    return torch.searchsorted(edge, comb).clamp(max=chains - 1).T


def _temper(
    log_prob_fn: LogProbFn, log_base_fn: LogProbFn, temperature: Tensor
) -> LogProbFn:
    def log_prob(position: Tensor) -> Tensor:
        cold, hot = log_prob_fn(position), log_base_fn(position)
        return (1 - temperature) * hot + temperature * cold

    return log_prob
