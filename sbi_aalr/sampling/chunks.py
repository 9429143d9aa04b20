"""Sample any number of observations, as many at a time as memory should hold.

Observations come in chunks. Within a chunk, small groups find their starts and let
their kernels learn, side by side; then all of the chunk are drawn from until each has
converged, so that the slow few of many groups run together. Chunks do not know of each
other, which is what lets a run that was killed go on where it stopped.
"""

from collections.abc import Sequence
from concurrent.futures import Executor, Future, as_completed
from functools import partial
from typing import NamedTuple, Protocol

import cloudpickle
import torch
from torch import Generator, Tensor
from torch.distributions.transforms import Transform

from sbi_aalr.mcmc.run import block_size
from sbi_aalr.networks.scale import spans_decades
from sbi_aalr.sampling.chunk_starts import find_starts
from sbi_aalr.sampling.guided import find_guided_starts
from sbi_aalr.sampling.guided_kernel import LEAST_SHARE, POPULATION, WARMUP_THIN, follow
from sbi_aalr.sampling.plan import Plan
from sbi_aalr.sampling.progress import Progress, count_finished
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
    executor: Executor | None = None,
) -> Result:
    """Sample every observation until it has converged.

    Args:
        target: What to sample.
        x: Observations with their trials, shape `(B, T, *event_shape)`.
        plan: Kernel, lengths and limits.
        seed: Seed of all randomness.
        show_progress_bars: Whether to show steps and converged observations.
        finished: Where chunks that are done are kept and found again.
        executor: Whose workers sample the chunks; None for this process.

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
        job = Job(target, space, candidates, plan, seed)
        result = job.sample(number, chunks[number], bar)
        if finished is not None:
            finished.write(number, result)
        return result

    with Progress(len(x), show_progress_bars) as bar:
        numbers = range(len(chunks))
        if executor is not None:
            job = Job(target, space, candidates, plan, seed)
            return join(_sample_elsewhere(executor, job, chunks, finished, bar))
        if x.device.type == "cpu" and target.is_thread_safe:
            return join(map_in_threads(sample, numbers, stop=bar.stop))
        return join([sample(number) for number in numbers])


class Job(NamedTuple):
    """What all chunks of a run have in common."""

    target: Target
    space: Target
    candidates: Tensor
    plan: Plan
    seed: int

    @torch.no_grad()
    def sample(self, number: int, x: Tensor, bar: Progress) -> Result:
        """Sample a chunk, whose draws do not depend on the others."""
        own = torch.Generator(x.device).manual_seed(self.seed + number + 1)
        space, candidates = self.space, self.candidates
        result = _sample_chunk(own, space, x, candidates, self.plan, bar)
        if space is not self.target:
            result = _constrain(result, self.target.theta_transform)
        return result


def _sample_elsewhere(
    executor: Executor,
    job: Job,
    chunks: Sequence[Tensor],
    finished: FinishedChunks | None,
    bar: Progress,
) -> list[Result]:
    """Sample chunks on an executor; each is kept as soon as it comes."""
    payload = cloudpickle.dumps(job)
    results: dict[int, Result] = {}
    futures: dict[Future[Result], int] = {}
    for number, x in enumerate(chunks):
        known = None if finished is None else finished.read(number, x.device)
        if known is not None:
            results[number] = known
            count_finished(bar, known.convergence)
        else:
            futures[executor.submit(_sample_there, payload, number, x)] = number
    try:
        for future in as_completed(futures):
            number = futures[future]
            results[number] = future.result()
            count_finished(bar, results[number].convergence)
            if finished is not None:
                finished.write(number, results[number])
    finally:
        for future in futures:
            future.cancel()
    return [results[number] for number in range(len(chunks))]


def _sample_there(payload: bytes, number: int, x: Tensor) -> Result:
    job: Job = cloudpickle.loads(payload)
    with Progress(len(x), False) as bar:
        return job.sample(number, x, bar)


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
    unconstrained = UnconstrainedTarget(log_prob_fn, target.theta_transform)
    population = max(plan.num_chains, _POPULATION)
    rows = settings.max_batch_size or _MAX_ROWS.get(x.device.type, _MAX_ROWS_ELSEWHERE)
    rows = max(1, rows // block_size(kernel))
    everyone = torch.arange(len(x), device=x.device)
    together = everyone.split(max(1, rows // population))
    weights = None
    if settings.init_strategy == "resample":
        log_prob = log_prob_fn.pair_with(candidates)
        weights = torch.cat([log_prob(index) for index in together], dim=1)
        weights = weights - target.log_proposal(candidates).unsqueeze(1)
    may_follow = plan.guided_thin and weights is not None and x.shape[1] == 1
    guide = target.guide if may_follow else None
    groups: list[_Group] = []

    def begin(
        index: Tensor,
        positions: Tensor,
        share: Tensor,
        plan: Plan,
        moved: int,
        block: int | None = None,
    ) -> None:
        group: BatchLogProb = log_prob_fn.select(index)
        if kernel.unconstrained:
            group, positions = unconstrained.select(index), transform(positions)
        own = warm_up_chains(generator, group, positions, plan, bar.step, moved, block)
        groups.append(_Group(index, plan, own, share))

    bar.begin("warm-up")
    left, served, found = everyone, everyone[:0], None
    if guide is not None and weights is not None:
        parts = [
            find_guided_starts(
                generator,
                guide,
                x[index, 0],
                log_prob_fn.select(index),
                target.log_proposal,
                candidates,
                weights[:, index],
            )
            for index in together
        ]
        share = torch.cat([part.effective_share for part in parts])
        is_served = share >= LEAST_SHARE
        left, served = everyone[~is_served], everyone[is_served]
        found = torch.cat([part.position for part in parts], dim=1)
    for index in left.split(max(1, rows // population)) if len(left) else ():
        positions, ancestor_share = find_starts(
            generator,
            log_prob_fn.select(index),
            target,
            candidates,
            None if weights is None else weights[:, index],
            (population, len(index)),
            max_steps=settings.warmup_steps // 2,
            on_step=bar.step,
        )
        begin(index, positions, ancestor_share, plan, population)
    usual = len(groups)
    if guide is not None and found is not None and len(served):
        if kernel.unconstrained:
            guide = guide.transformed(target.theta_transform)
        moved = max(plan.num_chains, POPULATION)
        rows_at_once = rows * block_size(kernel) // WARMUP_THIN
        for index in served.split(max(1, rows_at_once // moved)):
            followed = follow(plan, guide, x[index, 0])
            whole = torch.ones(len(index), device=x.device)
            begin(index, found[:, index], whole, followed, moved, WARMUP_THIN)
    bar.begin("draws")
    results = [
        draw_until_converged(
            generator,
            (unconstrained if kernel.unconstrained else log_prob_fn).select(
                torch.cat([group.observations for group in part])
            ),
            merge([group.warmed_up for group in part]),
            part[0].plan,
            max_observations=max(1, rows // plan.num_chains),
            on_step=bar.step,
            on_done=lambda convergence: count_finished(bar, convergence),
        )._replace(ancestor_share=torch.cat([group.share for group in part]))
        for part in (groups[:usual], groups[usual:])
        if part
    ]
    order = torch.cat([group.observations for group in groups])
    result = reorder(join(results), order.argsort())
    if not kernel.unconstrained:
        return result
    return _constrain(result, target.theta_transform)


class _Group(NamedTuple):
    """Observations that are warmed up side by side, and how."""

    observations: Tensor
    plan: Plan
    warmed_up: WarmedUp
    share: Tensor


def _constrain(result: Result, theta_transform: Transform) -> Result:
    return result._replace(
        warmup=constrain(result.warmup, theta_transform),
        chains=constrain(result.chains, theta_transform),
    )
