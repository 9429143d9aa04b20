"""Sample any number of observations, as many at a time as memory should hold."""

import torch
from sbi.inference.potentials.base_potential import BasePotential
from torch import Generator, Tensor
from torch.distributions import Distribution
from tqdm.auto import tqdm

from sbi_aalr.mcmc.starts import resample
from sbi_aalr.posterior_parameters import MHPosteriorParameters
from sbi_aalr.potential import log_prob_fn
from sbi_aalr.sampling import (
    BatchLogProb,
    Figures,
    Result,
    concatenate,
    sample_until_converged,
)

_MAX_ROWS = {"cpu": 2**15}
_MAX_ROWS_ELSEWHERE = 2**20


def sample_observations(
    potential_fn: BasePotential,
    proposal: Distribution,
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
        x: Observations with their trials, shape `(B, T, *event_shape)`.
        settings: Kernel, lengths and limits.
        num_draws: Draws to keep in each chain, `S`.
        seed: Seed of all randomness.
        show_progress_bars: Whether to show steps and converged observations.

    Returns:
        Warm-up, chains and figures of all observations, in the order of `x`.
    """
    generator = torch.Generator(x.device).manual_seed(seed)
    with torch.random.fork_rng():
        # Distributions draw from the global generator.
        torch.manual_seed(seed)
        candidates = proposal.sample((settings.num_candidates,))
    log_proposal = proposal.log_prob(candidates)
    rows = settings.max_batch_size or _MAX_ROWS.get(x.device.type, _MAX_ROWS_ELSEWHERE)
    groups = x.split(max(1, rows // settings.num_chains))
    steps = settings.warmup_steps + num_draws * settings.thin
    results, num_converged = [], 0
    with tqdm(
        total=steps * len(groups),
        desc=f"Sampling {x.shape[0]} observation{'s' if x.shape[0] > 1 else ''}",
        unit=" steps",
        unit_scale=True,
        disable=not show_progress_bars,
        mininterval=0.2,
    ) as bar:
        for number, group in enumerate(groups, start=1):

            def on_step(converged: int, before: int = num_converged) -> None:
                if bar.n >= bar.total:
                    bar.total += steps
                bar.set_postfix(
                    converged=f"{before + converged}/{len(x)}", refresh=False
                )
                bar.update()

            target = log_prob_fn(potential_fn, group)
            starts = choose_starts(
                generator, target, candidates, log_proposal, settings, len(group)
            )
            results.append(
                sample_until_converged(
                    generator, target, starts, settings, num_draws, on_step
                )
            )
            num_converged += int(results[-1].figures.converged.sum())
            bar.total = max(bar.n, bar.n + steps * (len(groups) - number))
            bar.set_postfix(converged=f"{num_converged}/{len(x)}")
    warmups, chains, figures = zip(*results, strict=True)
    return Result(
        concatenate(warmups),
        concatenate(chains),
        Figures(*(torch.cat(figure) for figure in zip(*figures, strict=True))),
    )


def choose_starts(
    generator: Generator,
    target: BatchLogProb,
    candidates: Tensor,
    log_proposal: Tensor,
    settings: MHPosteriorParameters,
    num_observations: int,
) -> Tensor:
    """Choose the starts of all chains among candidates that observations share.

    Args:
        generator: Source of randomness.
        target: Log-density of all observations, nats.
        candidates: Draws of the proposal, shape `(K, D)`.
        log_proposal: Log-density of the proposal there, shape `(K,)`, nats.
        settings: Number of chains and strategy.
        num_observations: `B`.

    Returns:
        Starts, shape `(C, B, D)`.
    """
    if settings.init_strategy == "proposal":
        rows = settings.num_chains * num_observations
        index = torch.arange(rows, device=candidates.device) % candidates.shape[0]
        return candidates[index].unflatten(0, (settings.num_chains, -1))
    expanded = candidates.unsqueeze(1).expand(-1, num_observations, -1)
    log_weight = target(expanded) - log_proposal.unsqueeze(1)
    return resample(generator, candidates, log_weight, settings.num_chains)
