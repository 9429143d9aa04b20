"""Where chains start: prior draws resampled by their tempered posterior weights.

A resample by the full weights collapses on a handful of points when the data say much,
and then the modes come out in the wrong proportions. The weights are tempered just so
far that about as many candidates share the weight as there are chains; the starts are
then wider than the posterior, as R-hat needs them, and cover all of its modes.

References:
    Rubin (1988) for sampling-importance-resampling; Jasra et al. (2011) for choosing an
    inverse temperature by the effective sample size.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc.tempering import Annealed, anneal, find_inverse_temperature
from sbi_aalr.types import LogProbFn


def choose_starts(
    generator: Generator,
    log_prob_fn: LogProbFn,
    log_base_fn: LogProbFn,
    candidates: Tensor,
    log_weight: Tensor | None,
    shape: tuple[int, int],
    *,
    max_steps: int,
    on_step: Callable[[int], object] | None = None,
) -> Annealed:
    """Choose the starts of all chains among candidates that observations share.

    Candidates are resampled by weights that are tempered until enough of them share the
    weight, and then annealed to the posterior.

    Args:
        generator: Source of randomness.
        log_prob_fn: Log-density of all observations, nats.
        log_base_fn: Log-density of the candidates' distribution, nats.
        candidates: Draws, shape `(K, D)`.
        log_weight: Log-density of the target less that of the candidates' distribution,
            shape `(K, B)`, nats; None to take candidates as they come.
        shape: Number of starts and of observations, `(C, B)`.
        max_steps: Most steps of annealing.
        on_step: Called with the number of steps made, for a progress bar.

    Returns:
        Starts, shape `(C, B, D)`, and on how few candidates they have collapsed.
    """
    num_chains, num_observations = shape
    if log_weight is None:
        rows = num_chains * num_observations
        index = torch.arange(rows, device=candidates.device) % candidates.shape[0]
        return Annealed(
            candidates[index].unflatten(0, (num_chains, -1)),
            candidates.new_ones(num_observations),
        )
    inverse_temperature = choose_inverse_temperature(log_weight, num_chains)
    positions = resample_candidates(
        generator, candidates, log_weight, inverse_temperature, num_chains
    )
    return anneal(
        generator,
        positions,
        inverse_temperature,
        log_prob_fn,
        log_base_fn,
        max_steps=max_steps,
        on_step=on_step,
    )


def choose_inverse_temperature(log_weight: Tensor, num_chains: int) -> Tensor:
    """Find the largest exponent at which `num_chains` candidates share the weight.

    Args:
        log_weight: Shape `(K, B)`, nats; NaN counts as no weight.
        num_chains: Effective number of candidates to keep.

    Returns:
        Exponent of the weights, between 0 and 1, shape `(B,)`.

    Example:
        >>> choose_inverse_temperature(torch.zeros(100, 1), num_chains=10)
        tensor([1.])
    """
    log_weight = log_weight.nan_to_num(-torch.inf, posinf=-torch.inf)
    log_weight = log_weight - log_weight.amax(dim=0)
    return find_inverse_temperature(
        log_weight, torch.zeros_like(log_weight[0]), num_chains
    )


def resample_candidates(
    generator: Generator,
    candidates: Tensor,
    log_weight: Tensor,
    inverse_temperature: Tensor,
    num_chains: int,
) -> Tensor:
    """Choose starts among candidates that all observations share.

    Args:
        generator: Source of randomness, on the device of the candidates.
        candidates: Prior draws, shape `(K, D)`.
        log_weight: Log-ratio of each candidate for each observation, shape `(K, B)`,
            nats; NaN counts as no weight.
        inverse_temperature: Exponent of the weights, shape `(B,)`.
        num_chains: Starts to choose for each observation, `C`.

    Returns:
        Starts, shape `(C, B, D)`, all different where `K >= C` candidates have weight.

    Raises:
        ValueError: If an observation gives no candidate a finite weight.
    """
    return candidates[
        _draw_indices(generator, log_weight, inverse_temperature, num_chains)
    ]


def resample_own_candidates(
    generator: Generator, candidates: Tensor, log_weight: Tensor, num_chains: int
) -> Tensor:
    """Choose starts among candidates that each observation has for itself.

    Args:
        generator: Source of randomness, on the device of the candidates.
        candidates: Shape `(K, B, D)`.
        log_weight: Log-density of the target less that of what the candidates were
            drawn from, shape `(K, B)`, nats; NaN counts as no weight.
        num_chains: Starts to choose for each observation, `C`.

    Returns:
        Starts, shape `(C, B, D)`; some stand twice where few have weight.
    """
    log_weight = log_weight.nan_to_num(-torch.inf, posinf=-torch.inf)
    weight = (log_weight - log_weight.amax(dim=0)).nan_to_num(-torch.inf).exp()
    weight = weight + torch.finfo(weight.dtype).tiny
    index = torch.multinomial(weight.T, num_chains, True, generator=generator).T
    return candidates.gather(0, index.unsqueeze(-1).expand(-1, -1, candidates.shape[2]))


def _draw_indices(
    generator: Generator,
    log_weight: Tensor,
    inverse_temperature: Tensor,
    num_chains: int,
) -> Tensor:
    """Draw by tempered weights, `(C, B)`; again and again where few have weight."""
    log_weight = torch.nan_to_num(
        log_weight, nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf
    )
    top = log_weight.max(dim=0).values
    if torch.isinf(top).any():
        observation = int(torch.isinf(top).nonzero()[0])
        raise ValueError(
            f"None of {log_weight.shape[0]} prior draws has a finite log-density for "
            f"observation {observation}. Check `x` and what is sampled, or raise "
            "`num_candidates` where the posterior is so narrow."
        )
    log_weight = log_weight - top
    # The largest of weight-shifted Gumbel noise is a draw; the C largest are a draw
    # without replacement.
    noise = torch.rand(
        log_weight.shape,
        generator=generator,
        device=log_weight.device,
        dtype=log_weight.dtype,
    ).clamp(min=1e-30)
    score = inverse_temperature * log_weight - (-noise.log()).log()
    score = torch.where(torch.isinf(log_weight), -torch.inf, score)
    index = score.topk(min(num_chains, len(score)), dim=0).indices
    # The order that comes out is by score, and some chains are taken as the first few.
    shuffle = torch.rand(
        num_chains, generator=generator, device=index.device, dtype=score.dtype
    )
    num_usable = torch.isfinite(score).sum(dim=0).clamp(max=len(index))
    return index.gather(0, shuffle.argsort().unsqueeze(1) % num_usable)
