"""Sample a batch of observations until each of them has converged.

After warm-up come rounds of draws: an observation is done when its R-hat and effective
sample sizes are good enough, and leaves the batch, so that the slow few do not hold up
the rest. Each round doubles the thinning: every other draw goes, and as many new ones
come, so that memory stays the same and draws are always evenly spaced.

Before a new round the kernel learns from the draws so far. Within a round it stays as
it is, and as rounds double in length, it changes ever more seldom: draws after a change
forget what it was learned from as they forget where warm-up ended. Where so few steps
are made that they do not, they have not converged, either.

References:
    Roberts & Rosenthal (2007), Journal of Applied Probability 44(2), for kernels that
    learn ever more seldom.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc import convergence
from sbi_aalr.mcmc.chains import Chains, concatenate
from sbi_aalr.mcmc.convergence import Convergence
from sbi_aalr.mcmc.kernel import State
from sbi_aalr.mcmc.run import run, warm_up
from sbi_aalr.mcmc.step import init
from sbi_aalr.mcmc.superchains import group_nearby
from sbi_aalr.mcmc.trees import concatenate as concatenate_trees
from sbi_aalr.mcmc.trees import select
from sbi_aalr.sampling.plan import Plan
from sbi_aalr.sampling.settings import Settings
from sbi_aalr.sampling.target import BatchLogProb

# Above this number of chains R-hat is nested: each is too short to have a sharp mean.
_MAX_PLAIN_CHAINS = 128
_NUM_SUPERCHAINS = 16


class Result(NamedTuple):
    """What sampling a group of observations gives.

    Attributes:
        warmup: Warm-up draws, thinned.
        chains: The draws.
        convergence: How far the chains have converged.
        ancestor_share: Draws that the starts of each observation descend from, for each
            start, between 0 and 1, shape `(B,)`; None where starts were given.
    """

    warmup: Chains
    chains: Chains
    convergence: Convergence
    ancestor_share: Tensor | None = None


class WarmedUp(NamedTuple):
    """Observations whose kernels have learned, ready to be drawn from.

    Attributes:
        state: Where the chains stand, shape `(C, B, D)`.
        parameters: The kernel's parameters, which a round of draws leaves as they are.
        warmup: Warm-up draws, thinned.
        superchain: Group of each chain for nested R-hat, shape `(C', B)`; None where
            chains are few.
    """

    state: State
    parameters: Any
    warmup: Chains
    superchain: Tensor | None


def warm_up_chains(
    generator: Generator,
    log_prob_fn: BatchLogProb,
    starts: Tensor,
    plan: Plan,
    on_step: Callable[[int], object] | None = None,
    population: int | None = None,
    block: int | None = None,
) -> WarmedUp:
    """Let a kernel learn from a population of chains, and keep the first of them.

    Args:
        generator: Source of randomness, on the device of the starts.
        log_prob_fn: Log-density of all observations, nats.
        starts: Where warm-up begins, shape `(P, B, D)`; the first `C` of these chains
            are drawn from.
        plan: Kernel and lengths.
        on_step: Called with the number of steps made.
        population: Chains in warm-up, the first of the starts; by default all.
        block: Most steps to make at once; None for as many as suit the kernel.

    Returns:
        State, parameters and warm-up draws of `C` chains.
    """
    num_chains = plan.num_chains
    state, parameters, warmup = warm_up(
        generator,
        init(starts[:population], log_prob_fn),
        log_prob_fn,
        kernel=plan.kernel,
        num_steps=plan.settings.warmup_steps,
        points=starts,
        thin=plan.thin,
        block=block,
        on_step=on_step,
    )
    superchain = None
    if num_chains > _MAX_PLAIN_CHAINS:
        superchain = group_nearby(starts[:num_chains], _NUM_SUPERCHAINS)
    return WarmedUp(
        State(*(field[:num_chains] for field in state)),
        parameters,
        warmup.first(num_chains),
        superchain,
    )


def merge(parts: Sequence[WarmedUp]) -> WarmedUp:
    """Put the observations of several groups side by side."""
    states, parameters, warmups, superchains = zip(*parts, strict=True)
    return WarmedUp(
        _concatenate_states(states),
        concatenate_trees(parameters),
        concatenate(warmups),
        None if superchains[0] is None else torch.cat(superchains, dim=1),
    )


def draw_until_converged(
    generator: Generator,
    log_prob_fn: BatchLogProb,
    warmed_up: WarmedUp,
    plan: Plan,
    *,
    max_observations: int | None = None,
    max_rows: int | None = None,
    on_step: Callable[[int], object] | None = None,
    on_done: Callable[[Convergence], object] | None = None,
) -> Result:
    """Run rounds of draws until every observation has converged.

    Args:
        generator: Source of randomness, on the device of the chains.
        log_prob_fn: Log-density of all observations, nats.
        warmed_up: Where chains stand and what their kernel has learned.
        plan: Kernel, lengths and limits.
        max_observations: Most observations to run side by side; None for all.
        max_rows: Most rows to evaluate at once; None for as many as are quick.
        on_step: Called with the number of steps made.
        on_done: Called with the convergence of observations that leave.

    Returns:
        Chains of `plan.num_draws` draws, with their warm-up and their convergence.
    """
    settings, num_draws = plan.settings, plan.num_draws
    state, parameters, warmup, superchain = warmed_up
    num_chains, num_observations = state.log_prob.shape
    active = torch.arange(num_observations, device=state.log_prob.device)
    chains, thin = None, plan.thin
    finished: list[tuple[Tensor, Chains, Convergence]] = []
    while True:
        new_draws = num_draws if chains is None else num_draws - chains.num_draws
        states, draws = [], []
        for index in torch.arange(len(active), device=active.device).split(
            max_observations or num_observations
        ):
            reached, drawn = run(
                generator,
                State(state.position[:, index], state.log_prob[:, index]),
                log_prob_fn.select(active[index]),
                kernel=plan.kernel,
                parameters=select(parameters, index),
                num_draws=new_draws,
                thin=thin,
                max_rows=max_rows,
                on_step=on_step,
            )
            states.append(reached)
            draws.append(drawn)
        state, drawn = _concatenate_states(states), concatenate(draws)
        chains = drawn if chains is None else chains.followed_by(drawn)
        # A single chain has no R-hat, however long it is.
        hopeless = num_chains < 2 and settings.max_rhat is not None
        out_of_steps = hopeless or 2 * num_draws * thin > settings.max_steps
        measured = measure(
            chains, superchain, settings, num_draws * thin, is_last=out_of_steps
        )
        done = measured.converged | out_of_steps | (not settings.has_limits)
        leaving, staying = done.nonzero()[:, 0], (~done).nonzero()[:, 0]
        left = select(measured, leaving)
        finished.append((active[leaving], chains.pick(leaving), left))
        if on_done is not None:
            on_done(left)
        if staying.numel() == 0:
            break
        active = active[staying]
        state = State(state.position[:, staying], state.log_prob[:, staying])
        parameters = select(parameters, staying)
        superchain = None if superchain is None else superchain[:, staying]
        chains = chains.pick(staying)
        draws_so_far = chains.theta.transpose(0, 1)
        parameters = plan.kernel.relearn(generator, parameters, draws_so_far)
        chains, thin = chains.thin_by_two(), 2 * thin
    order = torch.cat([index for index, _, _ in finished]).argsort()
    drawn = concatenate([part for _, part, _ in finished]).pick(order)
    measured = concatenate_trees([part for _, _, part in finished])
    return Result(warmup, drawn, select(measured, order))


def measure(
    chains: Chains,
    superchain: Tensor | None,
    settings: Settings,
    num_steps: int,
    is_last: bool = True,
) -> Convergence:
    """Measure convergence and compare it with the limits.

    Where R-hat says that an observation goes on, and this is not
    the last look, its effective sample sizes are not computed but NaN.
    """
    theta = chains.theta
    if superchain is None:
        r_hat = convergence.rhat(theta)
    else:
        usable = superchain.shape[0]
        r_hat = convergence.nested_rhat(theta[:usable], superchain)
    stuck = convergence.count_stuck_chains(theta)
    ess_bulk, ess_tail = (torch.full_like(r_hat, torch.nan) for _ in range(2))
    limits = settings.max_rhat, settings.min_ess
    # Where R-hat says that an observation goes on, its ESS need not be known.
    wanted = convergence.meets_limits(r_hat, ess_bulk, stuck, limits[0], None)
    wanted = wanted.all(dim=-1) | (is_last or not settings.has_limits)
    wanted = wanted.nonzero()[:, 0]
    if wanted.numel():
        draws = theta[:, :, wanted]
        ess_bulk[wanted] = convergence.ess_bulk(draws)
        ess_tail[wanted] = convergence.ess_tail(draws)
    ess = torch.minimum(ess_bulk, ess_tail)
    passed = convergence.meets_limits(r_hat, ess, stuck, *limits)
    steps = torch.full_like(r_hat[:, 0], num_steps, dtype=torch.long)
    acceptance_rate = chains.acceptance_rate.mean(dim=(0, 1))
    converged = passed.all(dim=-1)
    return Convergence(
        r_hat, ess_bulk, ess_tail, stuck, acceptance_rate, steps, converged
    )


def join(parts: Sequence[Result]) -> Result:
    """Put the results of several groups of observations side by side."""
    warmups, chains, convergences, shares = zip(*parts, strict=True)
    return Result(
        concatenate(warmups),
        concatenate(chains),
        concatenate_trees(convergences),
        None if shares[0] is None else torch.cat(shares),
    )


def reorder(result: Result, order: Tensor) -> Result:
    """Put observations into another order; `order` holds their present places."""
    share = result.ancestor_share
    return Result(
        result.warmup.pick(order),
        result.chains.pick(order),
        select(result.convergence, order),
        None if share is None else share[order],
    )


def _concatenate_states(states: Sequence[State]) -> State:
    return State(*(torch.cat(field, dim=1) for field in zip(*states, strict=True)))
