"""Sample any number of observations, as many at a time as memory should hold.

Observations come in chunks. Within a chunk, small groups find their starts and let
their kernels learn, side by side; then all of the chunk are drawn from until each has
converged, so that the slow few of many groups run together. Chunks do not know of each
other, which is what lets a run that was killed go on where it stopped.
"""

from typing import Protocol

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc.convergence import Convergence
from sbi_aalr.mcmc.run import block_size
from sbi_aalr.mcmc.starts import choose_starts
from sbi_aalr.sampling.plan import Plan
from sbi_aalr.sampling.progress import Progress
from sbi_aalr.sampling.target import BatchLogProb, Target
from sbi_aalr.sampling.threads import map_in_threads
from sbi_aalr.sampling.unconstrained import UnconstrainedTarget, constrain
from sbi_aalr.sampling.until_converged import (
    Result,
    WarmedUp,
    draw_until_converged,
    join,
    merge,
    warm_up_chains,
)
from sbi_aalr.seeding import seeded

_MAX_ROWS = {"cpu": 2**13}
_MAX_ROWS_ELSEWHERE = 2**20
# Observations between two writes to disk; enough that the slow few are worth a batch.
_CHUNK = 128
# Chains in warm-up, enough to find the modes and to fit their shapes.
_POPULATION = 100


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
    chunks = x.split(_CHUNK)

    def sample(number: int) -> Result:
        result = None if finished is None else finished.read(number, x.device)
        if result is not None:
            count_finished(bar, result.convergence)
            return result
        # Of its own, so that a chunk's draws do not depend on the others.
        own = torch.Generator(x.device).manual_seed(seed + number + 1)
        with torch.no_grad():
            result = _sample_chunk(own, target, chunks[number], candidates, plan, bar)
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
    settings, kernel, transform = plan.settings, plan.kernel, target.theta_transform
    log_prob_fn = target.log_prob_fn(x)
    weigh = None
    if settings.init_strategy == "resample":
        log_prob = log_prob_fn.pair_with(candidates)
        log_base = target.log_proposal(candidates)

        def weigh(index: Tensor) -> Tensor:
            return log_prob(index) - log_base.unsqueeze(1)

    unconstrained = UnconstrainedTarget(log_prob_fn, transform)
    population = max(plan.num_chains, _POPULATION)
    rows = settings.max_batch_size or _MAX_ROWS.get(x.device.type, _MAX_ROWS_ELSEWHERE)
    rows = max(1, rows // block_size(kernel))
    warmed_up: list[WarmedUp] = []
    bar.begin("warm-up")
    for index in torch.arange(len(x), device=x.device).split(
        max(1, rows // population)
    ):
        group: BatchLogProb = log_prob_fn.select(index)
        positions = choose_starts(
            generator,
            group,
            target.log_proposal,
            candidates,
            None if weigh is None else weigh(index),
            (population, len(index)),
            max_steps=settings.warmup_steps // 2,
            on_step=bar.step,
        )
        if kernel.unconstrained:
            group, positions = unconstrained.select(index), transform(positions)
        warmed_up.append(warm_up_chains(generator, group, positions, plan, bar.step))
    bar.begin("draws")
    result = draw_until_converged(
        generator,
        unconstrained if kernel.unconstrained else log_prob_fn,
        merge(warmed_up),
        plan,
        max_observations=max(1, rows // plan.num_chains),
        on_step=bar.step,
        on_done=lambda convergence: count_finished(bar, convergence),
    )
    if not kernel.unconstrained:
        return result
    return result._replace(
        warmup=constrain(result.warmup, transform),
        chains=constrain(result.chains, transform),
    )


def count_finished(bar: Progress, convergence: Convergence) -> None:
    """Show observations as done, and how many of them have converged."""
    bar.finish(len(convergence.converged), int(convergence.converged.sum()))
