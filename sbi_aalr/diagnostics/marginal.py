"""Draws from the marginal p(x), weighted by a ratio.

However many are simulated, only so many are kept as a classifier needs, and only a
block of them is in memory at a time.
"""

import functools
import math
import operator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.diagnostics.log_ratio import LogRatio, evaluate_log_ratio
from sbi_aalr.mcmc.weights import LogMean, sum_weights
from sbi_aalr.types import Simulator

# More rows than these cost the classifier time and gain it little.
MAX_ROWS = 5_000
# Data of so many simulations are in memory at a time.
_BLOCK_ROWS = 20_000


class Marginal(NamedTuple):
    """Rows from the marginal p(x) with weights that make them look like p(x|theta).

    Attributes:
        x: The rows that count, at most some 5,000, on the CPU, `(N, *event_shape)`.
        log_weights: Their weights, nats, float64, shape `(N,)`.
        effective_sample_size: Of all weights, those of rows not kept included.
    """

    x: Tensor
    log_weights: Tensor
    effective_sample_size: float


def draw_marginal(
    log_ratio: LogRatio,
    simulator: Simulator,
    prior: Distribution,
    row: Tensor,
    num_simulations: int,
) -> Marginal:
    """Simulate and weight in blocks, and keep the rows that count.

    Args:
        log_ratio: A ratio estimator or any callable (theta, x) -> `(N,)`, nats.
        simulator: Batched simulator, guarded.
        prior: The prior.
        row: The parameters, shape `(1, D)`.
        num_simulations: Draws from the marginal.

    Raises:
        ValueError: If all weights are zero.
    """
    kept: list[tuple[Tensor, Tensor]] = []
    sums: list[LogMean] = []
    for start in range(0, num_simulations, _BLOCK_ROWS):
        theta = prior.sample((min(_BLOCK_ROWS, num_simulations - start),))
        x = simulator(theta)
        log_weights = evaluate_log_ratio(log_ratio, row.to(theta).expand_as(theta), x)
        sums.append(sum_weights(log_weights))
        kept.append((x.cpu(), log_weights))
        kept = [thin(*(torch.cat(parts) for parts in zip(*kept, strict=True)))]
    weights = functools.reduce(operator.add, sums)
    if torch.isneginf(weights.log_sum):
        raise ValueError(
            "`log_ratio` must be above minus infinity somewhere, got zero weights for "
            f"all {num_simulations} simulations at theta = {row[0].tolist()}."
        )
    return Marginal(*kept[0], float(weights.effective_size))


def thin(x: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Keep about 5,000 rows at most, by a chance that grows with their weight.

    A row that is kept with probability w/c < 1 counts as c, which changes no mean, also
    if it is done again and again. No row comes twice: a classifier would recognise it
    from one fold in another.
    """
    log_limit = log_weights.logsumexp(0) - math.log(MAX_ROWS)
    if torch.isneginf(log_limit):
        return x[:0], log_weights[:0]
    keep = torch.rand_like(log_weights).log() < log_weights - log_limit
    return x[keep], log_weights[keep].clamp(min=log_limit)
