"""Sample any number of observations, as many at a time as memory should hold.

Observations come in chunks. Within a chunk, small groups find their starts and let
their kernels learn, side by side; then all of the chunk are drawn from until each has
converged, so that the slow few of many groups run together. Chunks do not know of each
other, which is what lets a run that was killed go on where it stopped.
"""

import torch
from sbi.inference.potentials.base_potential import BasePotential
from sbi.inference.potentials.ratio_based_potential import RatioBasedPotential
from sbi.sbi_types import TorchTransform
from torch import Generator, Tensor
from torch.distributions import Distribution

from sbi_aalr.mcmc import starts
from sbi_aalr.mcmc.convergence import Convergence
from sbi_aalr.mcmc.run import block_size
from sbi_aalr.mcmc.tempering import anneal
from sbi_aalr.persistence.finished_chunks import Checkpoint
from sbi_aalr.sampling.log_prior import prior_log_prob_fn
from sbi_aalr.sampling.parameters import MHPosteriorParameters
from sbi_aalr.sampling.progress import Progress
from sbi_aalr.sampling.target import log_prob_fn
from sbi_aalr.sampling.threads import map_in_threads
from sbi_aalr.sampling.unconstrained import UnconstrainedTarget, constrain
from sbi_aalr.sampling.until_converged import (
    BatchLogProb,
    Result,
    WarmedUp,
    draw_until_converged,
    join,
    merge,
    resolve_kernel,
    warm_up_chains,
)
from sbi_aalr.seeding import seeded
from sbi_aalr.types import LogProbFn

_MAX_ROWS = {"cpu": 2**13}
_MAX_ROWS_ELSEWHERE = 2**20
# Observations between two writes to disk; enough that the slow few are worth a batch.
_CHUNK = 128
# Chains in warm-up, enough to find the modes and to fit their shapes.
_POPULATION = 100


def sample_observations(
    potential_fn: BasePotential,
    proposal: Distribution,
    theta_transform: TorchTransform,
    x: Tensor,
    settings: MHPosteriorParameters,
    *,
    num_draws: int,
    seed: int,
    show_progress_bars: bool,
    checkpoint: Checkpoint | None = None,
) -> Result:
    """Sample every observation until it has converged.

    Args:
        potential_fn: The log-posterior, up to a constant.
        proposal: Where candidates for the starts come from.
        theta_transform: To unconstrained space, for kernels that need it.
        x: Observations with their trials, shape `(B, T, *event_shape)`.
        settings: Kernel, lengths and limits.
        num_draws: Draws to keep in each chain, `S`.
        seed: Seed of all randomness.
        show_progress_bars: Whether to show steps and converged observations.
        checkpoint: Where chunks that are done are kept and found again.

    Returns:
        Warm-up, chains and figures of all observations, in the order of `x`.
    """
    # Distributions draw from the global generators. The seed is another one: with the
    # same, the noise that chooses among candidates would repeat their own.
    generator = torch.Generator(x.device).manual_seed(seed)
    with seeded(int(torch.randint(2**31, (), generator=generator, device=x.device))):
        candidates = proposal.sample((settings.num_candidates,))
    chunks = x.split(_CHUNK)

    def sample(number: int) -> Result:
        result = None if checkpoint is None else checkpoint.read(number, x.device)
        if result is not None:
            count_finished(bar, result.figures)
            return result
        # Of its own, so that a chunk's draws do not depend on the others.
        own = torch.Generator(x.device).manual_seed(seed + number + 1)
        with torch.no_grad():
            result = _sample_chunk(
                own,
                potential_fn,
                proposal,
                theta_transform,
                chunks[number],
                candidates,
                settings,
                num_draws,
                bar,
            )
        if checkpoint is not None:
            checkpoint.write(number, result)
        return result

    with Progress(len(x), show_progress_bars) as bar:
        numbers = range(len(chunks))
        if x.device.type == "cpu" and isinstance(potential_fn, RatioBasedPotential):
            return join(map_in_threads(sample, numbers, stop=bar.stop))
        return join([sample(number) for number in numbers])


def _sample_chunk(
    generator: Generator,
    potential_fn: BasePotential,
    proposal: Distribution,
    theta_transform: TorchTransform,
    x: Tensor,
    candidates: Tensor,
    settings: MHPosteriorParameters,
    num_draws: int,
    bar: Progress,
) -> Result:
    kernel = resolve_kernel(settings.kernel)
    log_base_fn = prior_log_prob_fn(proposal)
    target = log_prob_fn(potential_fn, x)
    weigh = None
    if settings.init_strategy == "resample":
        log_prob, log_base = target.pair_with(candidates), log_base_fn(candidates)

        def weigh(index: Tensor) -> Tensor:
            return log_prob(index) - log_base.unsqueeze(1)

    unconstrained = UnconstrainedTarget(target, theta_transform)
    population = max(settings.num_chains or 0, _POPULATION)
    rows = settings.max_batch_size or _MAX_ROWS.get(x.device.type, _MAX_ROWS_ELSEWHERE)
    rows = max(1, rows // block_size(kernel))
    warmed_up: list[WarmedUp] = []
    bar.begin("warm-up")
    for index in torch.arange(len(x), device=x.device).split(
        max(1, rows // population)
    ):
        group: BatchLogProb = target.select(index)
        positions = choose_starts(
            generator,
            group,
            log_base_fn,
            candidates,
            None if weigh is None else weigh(index),
            (population, len(index)),
            max_steps=settings.warmup_steps // 2,
            bar=bar,
        )
        if kernel.unconstrained:
            group, positions = unconstrained.select(index), theta_transform(positions)
        warmed_up.append(
            warm_up_chains(generator, group, positions, settings, kernel, bar.step)
        )
    bar.begin("draws")
    result = draw_until_converged(
        generator,
        unconstrained if kernel.unconstrained else target,
        merge(warmed_up),
        settings,
        kernel,
        num_draws,
        max_observations=max(1, rows // (settings.num_chains or population)),
        on_step=bar.step,
        on_done=lambda figures: count_finished(bar, figures),
    )
    if not kernel.unconstrained:
        return result
    return result._replace(
        warmup=constrain(result.warmup, theta_transform),
        chains=constrain(result.chains, theta_transform),
    )


def choose_starts(
    generator: Generator,
    target: BatchLogProb,
    log_base_fn: LogProbFn,
    candidates: Tensor,
    log_weight: Tensor | None,
    shape: tuple[int, int],
    *,
    max_steps: int,
    bar: Progress | None = None,
) -> Tensor:
    """Choose the starts of all chains among candidates that observations share.

    Candidates are resampled by weights that are tempered until enough of them share the
    weight, and then annealed to the posterior.

    Args:
        generator: Source of randomness.
        target: Log-density of all observations, nats.
        log_base_fn: Log-density of the candidates' distribution, nats.
        candidates: Draws, shape `(K, D)`.
        log_weight: Log-density of the target less that of the candidates' distribution,
            shape `(K, B)`, nats; None to take candidates as they come.
        shape: Number of starts and of observations, `(C, B)`.
        max_steps: Most steps of annealing.
        bar: Where steps are shown.

    Returns:
        Starts, shape `(C, B, D)`.
    """
    num_chains, num_observations = shape
    if log_weight is None:
        rows = num_chains * num_observations
        index = torch.arange(rows, device=candidates.device) % candidates.shape[0]
        return candidates[index].unflatten(0, (num_chains, -1))
    temperature = starts.choose_temperature(log_weight, num_chains)
    positions = starts.resample(
        generator, candidates, log_weight, temperature, num_chains
    )
    return anneal(
        generator,
        positions,
        temperature,
        target,
        log_base_fn,
        max_steps=max_steps,
        on_step=bar and bar.step,
    )


def count_finished(bar: Progress, figures: Convergence) -> None:
    """Show observations with these figures as done."""
    bar.finish(len(figures.converged), int(figures.converged.sum()))
