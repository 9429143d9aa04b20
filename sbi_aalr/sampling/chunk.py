"""Sample a chunk of observations: starts, warm-up, draws until all have converged."""

from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor
from torch.distributions.transforms import Transform

from sbi_aalr.mcmc.run import block_size
from sbi_aalr.sampling.chunk_starts import find_starts
from sbi_aalr.sampling.guided import NUM_STARTS, find_guided_starts
from sbi_aalr.sampling.guided_kernel import (
    LEAST_SHARE,
    WARMUP_THIN,
    count_warmed_up,
    follow,
)
from sbi_aalr.sampling.plan import Plan
from sbi_aalr.sampling.progress import Progress, count_finished
from sbi_aalr.sampling.target import BatchLogProb, Target
from sbi_aalr.sampling.unconstrained import (
    UnconstrainedTarget,
    constrain,
    to_unconstrained,
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

_MAX_ROWS = {"cpu": 2**15}
_MAX_ROWS_ELSEWHERE = 2**20
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
    most = settings.max_batch_size or _MAX_ROWS.get(x.device.type, _MAX_ROWS_ELSEWHERE)
    rows = max(1, most // block_size(kernel))
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
                max(NUM_STARTS, plan.num_chains),
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
        moved = count_warmed_up(plan)
        for index in served.split(max(1, most // WARMUP_THIN // moved)):
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
            max_rows=settings.max_batch_size,
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
