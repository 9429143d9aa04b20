"""Sample any number of observations, as many at a time as memory should hold.

Observations come in chunks. Within a chunk, small groups find their starts and let
their kernels learn, side by side; then all of the chunk are drawn from until each has
converged, so that the slow few of many groups run together. Chunks do not know of each
other, which is what lets a run that was killed go on where it stopped.
"""

from concurrent.futures import Executor

import torch
from torch import Tensor

from sbi_aalr.networks.scale import spans_decades
from sbi_aalr.sampling.chunk import FinishedChunks, Job
from sbi_aalr.sampling.elsewhere import sample_elsewhere
from sbi_aalr.sampling.plan import Plan
from sbi_aalr.sampling.progress import Progress, count_finished
from sbi_aalr.sampling.target import Target
from sbi_aalr.sampling.threads import map_in_threads
from sbi_aalr.sampling.unconstrained import to_unconstrained, unconstrain
from sbi_aalr.sampling.until_converged import Result, join
from sbi_aalr.seeding import seeded

# Observations between two writes to disk; enough that the slow few are worth a batch.
# Of very many more, as the slow few fill a batch better then.
_CHUNK, _LARGE_CHUNK, _FEWEST_CHUNKS = 128, 512, 16


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
    space = target
    if not plan.kernel.needs_prior_units and bool(spans_decades(candidates).any()):
        # Steps of one size cannot explore parameters of many.
        space = unconstrain(target)
        candidates = to_unconstrained(target.theta_transform, candidates)
    size = max(_CHUNK, min(_LARGE_CHUNK, len(x) // _FEWEST_CHUNKS))
    chunks = x.split(size)

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
            return join(sample_elsewhere(executor, job, chunks, finished, bar))
        if x.device.type == "cpu" and target.is_thread_safe:
            return join(map_in_threads(sample, numbers, stop=bar.stop))
        return join([sample(number) for number in numbers])
