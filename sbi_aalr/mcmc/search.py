"""Search all of the prior for modes, where annealing alone could lose them.

Annealing by weights follows the mass. In many dimensions a mode that is narrower than
another, or nearer to the edge of the prior, has hardly any mass at high temperatures,
whatever it has in the end: all chains descend from starts in the other one. Here chains
first cool down without resampling. None is given up, and each ends in the mode in whose
basin it began, however unlikely that mode is. A mixture fitted to where they end is the
beginning of a second path: it knows the modes and their shapes, so that a short
annealing from its draws to the target sets nothing but their shares right.

References:
    Del Moral, Doucet & Jasra (2006), JRSS B 68(3), for annealing; Woodard, Schmidler &
    Huber (2009), Electronic Journal of Probability 14, for why tempering loses narrow
    modes; Cappe et al. (2008), arXiv:0710.4242, for draws from a fitted mixture.
"""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc import mixture_fit
from sbi_aalr.mcmc.kernel import State
from sbi_aalr.mcmc.kernels import differential_evolution, jump_walk
from sbi_aalr.mcmc.separate_modes import BARRIER, fill_mode, separate_modes
from sbi_aalr.mcmc.shapes import measure_distances, spread
from sbi_aalr.mcmc.starts import choose_inverse_temperature, resample_candidates
from sbi_aalr.mcmc.step import step
from sbi_aalr.mcmc.student_mixture import StudentMixture, log_density, sample
from sbi_aalr.mcmc.tempering import (
    Annealed,
    anneal,
    raise_inverse_temperature,
    resample_chains,
    temper,
)
from sbi_aalr.types import LogProbFn

# A mode is found if one chain begins in its basin: of 2,000, one does in 19 of 20 cases
# where the basin holds three draws in 2,000. As each costs time, observations that are
# many share as many chains as ten have.
_MIN_COOLED, _MAX_COOLED = 1_000, 2_000
_COOLED_TOGETHER = 20_000
# Chains of the population, up to as many as a mixture is fitted to.
_MIN_CHAINS = 1_000
_MAX_CHAINS = 3_000
_CANDIDATES_PER_CHAIN = 10
_NUM_DRAWS = 10_000
_STEPS_PER_RISE = 10
# A path that needs more than these is lost; it was never seen to take a fifth.
_MAX_STEPS = 1_000
# Where a density is flat, the first rise finds no least temperature.
_LEAST = 1e-9


def search(
    generator: Generator,
    log_prob_fn: LogProbFn,
    log_base_fn: LogProbFn,
    candidates: Tensor,
    log_weight: Tensor,
    *,
    num_searches: int = 1,
    on_step: Callable[[int], object] | None = None,
) -> Annealed:
    """Find the modes of one observation, and a population that has their shares.

    Args:
        generator: Source of randomness, on the device of the candidates.
        log_prob_fn: Log-density of the observation, nats.
        log_base_fn: Log-density of the candidates' distribution, nats.
        candidates: Draws, shape `(K, D)`.
        log_weight: Log-density of the target less that of the candidates' distribution,
            shape `(K, 1)`, nats.
        num_searches: How many observations are searched; the more, the fewer chains
            look for the modes of each.
        on_step: Called with the number of steps made, for a progress bar.

    Returns:
        A population in random order, shape `(C, 1, D)`, a chain for ten candidates, and
        on how few draws of the mixtures it has collapsed.

    Raises:
        ValueError: If no candidate has a finite weight.
    """
    num_chains = max(_MIN_CHAINS, len(candidates) // _CANDIDATES_PER_CHAIN)
    num_chains = min(num_chains, _MAX_CHAINS, len(candidates))
    num_cooled = max(_MIN_COOLED, _COOLED_TOGETHER // num_searches)
    num_cooled = max(min(num_cooled, _MAX_COOLED), num_chains)
    num_cooled = min(num_cooled, len(candidates))
    position = resample_candidates(
        generator, candidates, log_weight, torch.zeros_like(log_weight[0]), num_cooled
    )
    cooled = cool_down(generator, position, log_prob_fn, log_base_fn, on_step)
    mixtures = _fit_modes(generator, cooled, log_prob_fn)
    annealed = _anneal_draws(generator, mixtures, log_prob_fn, num_chains, on_step)
    # Of a small mode the first mixture knows little; its population knows more.
    mixtures.append(mixture_fit.pool(mixture_fit.fit(generator, annealed.position)))
    missed = find_missed(cooled, annealed.position, log_prob_fn)
    if bool(missed.any()):
        mixtures.append(mixture_fit.fit(generator, cooled[missed]).mixture)
    annealed = _anneal_draws(generator, mixtures, log_prob_fn, num_chains, on_step)
    # Resampling leaves chains ordered by their ancestors.
    order = torch.rand(num_chains, generator=generator, device=cooled.device)
    return annealed._replace(position=annealed.position[order.argsort()])


def _fit_modes(
    generator: Generator, cooled: Tensor, log_prob_fn: LogProbFn
) -> list[StudentMixture]:
    """Fit a mixture to each mode, however few chains have found it."""
    modes = separate_modes(cooled, log_prob_fn)
    if len(modes) > 1:
        width = spread(max(modes, key=len))
        modes = [fill_mode(generator, mode, width, log_prob_fn) for mode in modes]
    else:
        modes = [cooled]
    return [mixture_fit.pool(mixture_fit.fit(generator, mode)) for mode in modes]


def find_missed(cooled: Tensor, population: Tensor, log_prob_fn: LogProbFn) -> Tensor:
    """Tell which chains stand in a mode that a population is not in.

    Between such a chain and the nearest of the population the log-density falls far
    below both.

    Args:
        cooled: Chains of one observation, shape `(C, 1, D)`.
        population: Other chains of it, shape `(P, 1, D)`.
        log_prob_fn: Log-density of the target, nats.

    Returns:
        Bool, shape `(C,)`.
    """
    width = spread(torch.cat((cooled, population)))
    distance = measure_distances((cooled / width)[:, 0], (population / width)[:, 0])
    nearest = population[distance.argmin(dim=1)]
    ends = torch.minimum(log_prob_fn(cooled), log_prob_fn(nearest))
    return (log_prob_fn((cooled + nearest) / 2) < ends - BARRIER)[:, 0]


def _anneal_draws(
    generator: Generator,
    mixtures: list[StudentMixture],
    log_prob_fn: LogProbFn,
    num_chains: int,
    on_step: Callable[[int], object] | None,
) -> Annealed:
    """Anneal as many draws of each mixture to the target."""
    count = _NUM_DRAWS // len(mixtures)
    drawn = torch.cat([sample(generator, mixture, count) for mixture in mixtures])

    def log_base(position: Tensor) -> Tensor:
        parts = [log_density(mixture, position) for mixture in mixtures]
        return torch.stack(parts).logsumexp(dim=0) - math.log(len(parts))

    log_weight = log_prob_fn(drawn) - log_base(drawn)
    log_weight = log_weight.nan_to_num(-1e30, -1e30, -1e30)
    inverse_temperature = choose_inverse_temperature(log_weight, num_chains)
    # With repeats: in each mode the few draws that a poor fit of it has must count for
    # many.
    chosen = resample_chains(generator, inverse_temperature * log_weight, num_chains)
    return anneal(
        generator,
        drawn[chosen[:, 0]],
        inverse_temperature,
        log_prob_fn,
        log_base,
        max_steps=_MAX_STEPS,
        kernel=jump_walk.KERNEL,
        ancestor=chosen,
        on_step=on_step,
    )


def cool_down(
    generator: Generator,
    position: Tensor,
    log_prob_fn: LogProbFn,
    log_base_fn: LogProbFn,
    on_step: Callable[[int], object] | None = None,
) -> Tensor:
    """Move every chain down the path to the target, without a choice among them.

    The inverse temperature rises by factors that chains can follow: a Gaussian walk in
    D dimensions takes some D steps to shrink to another width.

    Args:
        generator: Source of randomness, on the device of the positions.
        position: Where chains begin, shape `(C, B, D)`; at least 4 chains.
        log_prob_fn: Log-density of the target, nats.
        log_base_fn: Log-density of the beginning of the path, nats.
        on_step: Called with the number of steps made, for a progress bar.

    Returns:
        Where they end, each in a mode of the target, shape `(C, B, D)`.
    """
    kernel = differential_evolution.KERNEL
    parameters = kernel.build(generator, position)
    log_ratio = log_prob_fn(position) - log_base_fn(position)
    inverse_temperature = raise_inverse_temperature(
        log_ratio.nan_to_num(-1e30, -1e30, -1e30), torch.zeros_like(log_ratio[0])
    ).clamp(min=_LEAST)
    factor = math.exp(_STEPS_PER_RISE / 5 / position.shape[-1])
    while True:
        tempered = temper(log_prob_fn, log_base_fn, inverse_temperature)
        state = State(position, tempered(position))
        for _ in range(_STEPS_PER_RISE):
            state, info = step(
                generator, state, tempered, kernel=kernel, parameters=parameters
            )
            parameters = kernel.tune(parameters, info)
        position = state.position
        if on_step is not None:
            on_step(_STEPS_PER_RISE)
        if bool((inverse_temperature >= 1).all()):
            return position
        inverse_temperature = (factor * inverse_temperature).clamp(max=1)
