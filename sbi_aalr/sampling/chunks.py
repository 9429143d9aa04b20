"""Sample any number of observations, as many at a time as memory should hold.

Observations come in chunks. Within a chunk, small groups find their starts and let
their kernels learn, side by side; then all of the chunk are drawn from until each has
converged, so that the slow few of many groups run together. Chunks do not know of each
other, which is what lets a run that was killed go on where it stopped.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Generator, Tensor
from torch.distributions.transforms import Transform

from sbi_aalr.mcmc.convergence import Convergence
from sbi_aalr.mcmc.run import block_size
from sbi_aalr.mcmc.search import search
from sbi_aalr.mcmc.starts import choose_starts
from sbi_aalr.mcmc.tempering import Annealed
from sbi_aalr.networks.scale import spans_decades
from sbi_aalr.sampling.guided import POPULATION, find_guided_starts, shorten
from sbi_aalr.sampling.plan import Plan
from sbi_aalr.sampling.progress import Progress
from sbi_aalr.sampling.target import BatchLogProb, Target
from sbi_aalr.sampling.threads import map_in_threads
from sbi_aalr.sampling.unconstrained import (
    UnconstrainedTarget,
    constrain,
    to_unconstrained,
    unconstrain,
)
from sbi_aalr.sampling.until_converged import (
    Result,
    WarmedUp,
    draw_until_converged,
    join,
    merge,
    reorder,
    warm_up_chains,
)
from sbi_aalr.seeding import seeded

_MAX_ROWS = {"cpu": 2**13}
_MAX_ROWS_ELSEWHERE = 2**20
# Observations between two writes to disk; enough that the slow few are worth a batch.
_CHUNK = 128
# Extents of all candidates beyond which no mode is looked for.
_LOST_EXTENTS = 10
# Chains in warm-up, enough to find the modes and to fit their shapes.
_POPULATION = 100
# Annealing alone was measured to lose modes in more dimensions.
_MAX_ANNEALED_DIM = 12
# Ancestors for each chain; modes that were lost had fewer.
LEAST_ANCESTOR_SHARE = 0.04
# Where all are searched, kernels begin with what so many starts say of the shapes.
_SEARCHED = 1_000


class FinishedChunks(Protocol):
    """Where chunks that are done are kept and found again."""

    def read(self, number: int, device: torch.device) -> Result | None:
        """Return a chunk that is done, or None."""
        ...

    def write(self, number: int, result: Result) -> None:
        """Keep a chunk that is done."""
        ...


def sample_observations(
    target: Target,
    x: Tensor,
    plan: Plan,
    *,
    seed: int,
    show_progress_bars: bool,
    finished: FinishedChunks | None = None,
) -> Result:
    """Sample every observation until it has converged.

    Args:
        target: What to sample.
        x: Observations with their trials, shape `(B, T, *event_shape)`.
        plan: Kernel, lengths and limits.
        seed: Seed of all randomness.
        show_progress_bars: Whether to show steps and converged observations.
        finished: Where chunks that are done are kept and found again.

    Returns:
        Warm-up, chains and convergence of all observations, in the order of `x`.
    """
    # Distributions draw from the global generators. The seed is another one: with the
    # same, the noise that chooses among candidates would repeat their own.
    generator = torch.Generator(x.device).manual_seed(seed)
    with seeded(int(torch.randint(2**31, (), generator=generator, device=x.device))):
        candidates = target.proposal.sample((plan.settings.num_candidates,))
    # Steps of one size cannot explore parameters of many.
    space = unconstrain(target) if bool(spans_decades(candidates).any()) else target
    if space is not target:
        candidates = to_unconstrained(target.theta_transform, candidates)
    chunks = x.split(_CHUNK)

    def sample(number: int) -> Result:
        result = None if finished is None else finished.read(number, x.device)
        if result is not None:
            count_finished(bar, result.convergence)
            return result
        # Of its own, so that a chunk's draws do not depend on the others.
        own = torch.Generator(x.device).manual_seed(seed + number + 1)
        with torch.no_grad():
            result = _sample_chunk(own, space, chunks[number], candidates, plan, bar)
            if space is not target:
                result = _constrain(result, target.theta_transform)
        if finished is not None:
            finished.write(number, result)
        return result

    with Progress(len(x), show_progress_bars) as bar:
        numbers = range(len(chunks))
        if x.device.type == "cpu" and target.is_thread_safe:
            return join(map_in_threads(sample, numbers, stop=bar.stop))
        return join([sample(number) for number in numbers])


def _sample_chunk(
    generator: Generator,
    target: Target,
    x: Tensor,
    candidates: Tensor,
    plan: Plan,
    bar: Progress,
) -> Result:
    settings, kernel = plan.settings, plan.kernel
    transform = partial(to_unconstrained, target.theta_transform)
    log_prob_fn = target.log_prob_fn(x)
    weigh = None
    if settings.init_strategy == "resample":
        log_prob = log_prob_fn.pair_with(candidates)
        log_base = target.log_proposal(candidates)

        def weigh(index: Tensor) -> Tensor:
            return log_prob(index) - log_base.unsqueeze(1)

    unconstrained = UnconstrainedTarget(log_prob_fn, target.theta_transform)
    population = max(plan.num_chains, _POPULATION)
    rows = settings.max_batch_size or _MAX_ROWS.get(x.device.type, _MAX_ROWS_ELSEWHERE)
    rows = max(1, rows // block_size(kernel))
    guide = target.guide if weigh is not None and x.shape[1] == 1 else None
    warmed_up: list[WarmedUp] = []
    ancestor_shares: list[Tensor] = []
    order: list[Tensor] = []

    def begin(
        index: Tensor,
        positions: Tensor,
        ancestor_share: Tensor,
        plan: Plan,
        moved: int,
        block: int | None = None,
    ) -> None:
        group: BatchLogProb = log_prob_fn.select(index)
        if kernel.unconstrained:
            group, positions = unconstrained.select(index), transform(positions)
        own = warm_up_chains(generator, group, positions, plan, bar.step, moved, block)
        warmed_up.append(own)
        ancestor_shares.append(ancestor_share)
        order.append(index)

    bar.begin("warm-up")
    for index in torch.arange(len(x), device=x.device).split(
        max(1, rows // population)
    ):
        log_weight = None if weigh is None else weigh(index)
        if guide is not None and log_weight is not None:
            guided = find_guided_starts(
                generator,
                guide,
                x[index, 0],
                log_prob_fn.select(index),
                target.log_proposal,
                candidates,
                log_weight,
            )
            served = guided.is_served.nonzero()[:, 0]
            if len(served):
                short = shorten(plan)
                begin(
                    index[served],
                    guided.position[:, served],
                    torch.ones_like(guided.effective_share[served]),
                    short,
                    max(plan.num_chains, POPULATION),
                    short.thin,
                )
            left = (~guided.is_served).nonzero()[:, 0]
            index, log_weight = index[left], log_weight[:, left]
        if len(index):
            positions, ancestor_share = _find_starts(
                generator,
                log_prob_fn.select(index),
                target,
                candidates,
                log_weight,
                (population, len(index)),
                max_steps=settings.warmup_steps // 2,
                on_step=bar.step,
            )
            begin(index, positions, ancestor_share, plan, population)
    bar.begin("draws")
    everyone = torch.cat(order)
    result = draw_until_converged(
        generator,
        (unconstrained if kernel.unconstrained else log_prob_fn).select(everyone),
        merge(warmed_up),
        plan,
        max_observations=max(1, rows // plan.num_chains),
        on_step=bar.step,
        on_done=lambda convergence: count_finished(bar, convergence),
    )
    result = result._replace(ancestor_share=torch.cat(ancestor_shares))
    result = reorder(result, everyone.argsort())
    if not kernel.unconstrained:
        return result
    return _constrain(result, target.theta_transform)


def _constrain(result: Result, theta_transform: Transform) -> Result:
    return result._replace(
        warmup=constrain(result.warmup, theta_transform),
        chains=constrain(result.chains, theta_transform),
    )


def _find_starts(
    generator: Generator,
    log_prob_fn: BatchLogProb,
    target: Target,
    candidates: Tensor,
    log_weight: Tensor | None,
    shape: tuple[int, int],
    *,
    max_steps: int,
    on_step: Callable[[int], object],
) -> Annealed:
    """Anneal the starts of all observations, and search where that loses modes."""
    starts = choose_starts(
        generator,
        log_prob_fn,
        target.log_proposal,
        candidates,
        log_weight,
        shape,
        max_steps=max_steps,
        on_step=on_step,
    )
    if log_weight is None:
        return starts
    hard = starts.ancestor_share < LEAST_ANCESTOR_SHARE
    rows = torch.arange(shape[0], device=hard.device)
    if candidates.shape[-1] > _MAX_ANNEALED_DIM:
        hard = torch.ones_like(hard)
        rows = torch.arange(max(shape[0], _SEARCHED), device=hard.device)
    position, ancestor_share = starts.position[rows % shape[0]], starts.ancestor_share
    for observation in hard.nonzero()[:, 0]:
        found = search(
            generator,
            log_prob_fn.select(observation.unsqueeze(0)),
            target.log_proposal,
            candidates,
            log_weight[:, observation].unsqueeze(1),
            num_searches=int(hard.sum()),
            on_step=on_step,
        )
        # Down a target that rises for ever chains are lost; the warning stays then.
        if _is_lost(found.position, candidates):
            continue
        position[:, observation] = found.position[rows % len(found.position), 0]
        ancestor_share[observation] = found.ancestor_share[0]
    return Annealed(position, ancestor_share)


def _is_lost(position: Tensor, candidates: Tensor) -> bool:
    """Whether chains `(C, 1, D)` left the region of the candidates far behind."""
    low, high = candidates.amin(dim=0), candidates.amax(dim=0)
    room = _LOST_EXTENTS * (high - low)
    # Written so that NaN is lost.
    return not bool(((position > low - room) & (position < high + room)).all())


def count_finished(bar: Progress, convergence: Convergence) -> None:
    """Show observations as done, and how many of them have converged."""
    bar.finish(len(convergence.converged), int(convergence.converged.sum()))
