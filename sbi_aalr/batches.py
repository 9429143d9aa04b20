"""Sample any number of observations, as many at a time as memory should hold."""

from collections.abc import Callable

import torch
from sbi.inference.potentials.base_potential import BasePotential
from sbi.sbi_types import TorchTransform
from torch import Generator, Tensor
from torch.distributions import Distribution
from tqdm.auto import tqdm

from sbi_aalr.mcmc import starts
from sbi_aalr.mcmc.annealing import anneal
from sbi_aalr.posterior_parameters import MHPosteriorParameters
from sbi_aalr.potential import log_prob_fn, prior_log_prob_fn
from sbi_aalr.sampling import (
    BatchLogProb,
    Figures,
    Result,
    concatenate,
    resolve_kernel,
    sample_until_converged,
)
from sbi_aalr.stream import seeded
from sbi_aalr.unconstrained import UnconstrainedTarget, constrain

_MAX_ROWS = {"cpu": 2**13}
_MAX_ROWS_ELSEWHERE = 2**20
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

    Returns:
        Warm-up, chains and figures of all observations, in the order of `x`.
    """
    generator = torch.Generator(x.device).manual_seed(seed)
    # Distributions draw from the global generators. The seed is another one: with the
    # same, the noise that chooses among candidates would repeat their own.
    with seeded(int(torch.randint(2**31, (), generator=generator, device=x.device))):
        candidates = proposal.sample((settings.num_candidates,))
    log_base_fn = prior_log_prob_fn(proposal)
    rows = settings.max_batch_size or _MAX_ROWS.get(x.device.type, _MAX_ROWS_ELSEWHERE)
    population = max(settings.num_chains or 0, _POPULATION)
    groups = x.split(max(1, rows // population))
    results = []
    with _Progress(len(x), len(groups), settings, num_draws, show_progress_bars) as bar:
        for group in groups:
            target = log_prob_fn(potential_fn, group)
            positions = choose_starts(
                generator,
                target,
                log_base_fn,
                candidates,
                settings,
                (population, len(group)),
                bar,
            )
            result = _sample_group(
                generator, target, positions, theta_transform, settings, num_draws, bar
            )
            bar.finish_group(int(result.figures.converged.sum()))
            results.append(result)
    warmups, chains, figures = zip(*results, strict=True)
    return Result(
        concatenate(warmups),
        concatenate(chains),
        Figures(*(torch.cat(figure) for figure in zip(*figures, strict=True))),
    )


def choose_starts(
    generator: Generator,
    target: BatchLogProb,
    log_base_fn: Callable[[Tensor], Tensor],
    candidates: Tensor,
    settings: MHPosteriorParameters,
    shape: tuple[int, int],
    on_step: Callable[[int], object],
) -> Tensor:
    """Choose the starts of all chains among candidates that observations share.

    Candidates are resampled by weights that are tempered until enough of them share the
    weight, and then annealed to the posterior, if there is a warm-up at all.

    Args:
        generator: Source of randomness.
        target: Log-density of all observations, nats.
        log_base_fn: Log-density of the candidates' distribution, nats.
        candidates: Draws, shape `(K, D)`.
        settings: Strategy and length of the warm-up.
        shape: Number of starts and of observations, `(C, B)`.
        on_step: Called after every step with zero converged observations.

    Returns:
        Starts, shape `(C, B, D)`.
    """
    num_chains, num_observations = shape
    if settings.init_strategy == "proposal":
        rows = num_chains * num_observations
        index = torch.arange(rows, device=candidates.device) % candidates.shape[0]
        return candidates[index].unflatten(0, (num_chains, -1))
    expanded = candidates.unsqueeze(1).expand(-1, num_observations, -1)
    log_weight = target(expanded) - log_base_fn(candidates).unsqueeze(1)
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
        max_steps=settings.warmup_steps // 2,
        on_step=lambda: on_step(0),
    )


def _sample_group(
    generator: Generator,
    target: BatchLogProb,
    positions: Tensor,
    theta_transform: TorchTransform,
    settings: MHPosteriorParameters,
    num_draws: int,
    on_step: Callable[[int], object],
) -> Result:
    unconstrained = resolve_kernel(settings.kernel).unconstrained
    if unconstrained:
        target = UnconstrainedTarget(target, theta_transform)
        positions = theta_transform(positions)
    result = sample_until_converged(
        generator, target, positions, settings, num_draws, on_step
    )
    if not unconstrained:
        return result
    return result._replace(
        warmup=constrain(result.warmup, theta_transform),
        chains=constrain(result.chains, theta_transform),
    )


class _Progress(tqdm):
    """A bar over steps that counts converged observations beside it."""

    def __init__(
        self,
        num_observations: int,
        num_groups: int,
        settings: MHPosteriorParameters,
        num_draws: int,
        show: bool,
    ) -> None:
        self._steps = settings.warmup_steps + num_draws * settings.thin
        self._left, self._converged = num_groups, 0
        self._num_observations = num_observations
        super().__init__(
            total=self._steps * num_groups,
            desc=f"Sampling {num_observations} observation"
            f"{'s' if num_observations > 1 else ''}",
            unit=" steps",
            unit_scale=True,
            disable=not show,
            mininterval=0.2,
        )

    def __call__(self, converged: int) -> None:
        """Count one step of the current group."""
        if self.disable:
            return
        if self.n >= self.total:
            self.total += self._steps
        done = f"{self._converged + converged}/{self._num_observations}"
        self.set_postfix(converged=done, refresh=False)
        self.update()

    def finish_group(self, converged: int) -> None:
        """Count a finished group, whose steps may have been more than expected."""
        self._left -= 1
        self._converged += converged
        self.total = self.n + self._steps * self._left
        self.set_postfix(converged=f"{self._converged}/{self._num_observations}")
