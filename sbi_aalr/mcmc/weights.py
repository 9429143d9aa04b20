"""Importance weights: how many draws they are worth, and the mean that they stand for.

References:
    Owen (2013), *Monte Carlo theory, methods and examples*, chapter 9.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


def effective_size(log_weight: Tensor) -> Tensor:
    """Effective number of weighted draws, (sum w)^2 / sum w^2.

    Args:
        log_weight: Shape `(N, ...)`, nats; NaN counts as no weight.

    Returns:
        Shape `(...)`, from 1 to N; 0 where no draw has weight.

    Example:
        >>> effective_size(torch.zeros(5, 1))
        tensor([5.])
    """
    log_weight = log_weight.masked_fill(log_weight.isnan(), -torch.inf)
    weight = (log_weight - log_weight.amax(dim=0)).exp().nan_to_num()
    size = weight.sum(dim=0).square() / weight.square().sum(dim=0)
    return size.nan_to_num()


class LogMean(NamedTuple):
    """The logarithm of a mean of weights, from their sums; blocks can be added.

    Attributes:
        log_sum: log of the sum of w, shape `(...)`, nats.
        log_square: log of the sum of w^2, shape `(...)`, nats.
        num_draws: Number of draws, those of no weight included.
    """

    log_sum: Tensor
    log_square: Tensor
    num_draws: int

    def __add__(self, other: "LogMean") -> "LogMean":  # type: ignore[override]
        """The sums over the draws of both."""
        return LogMean(
            torch.logaddexp(self.log_sum, other.log_sum),
            torch.logaddexp(self.log_square, other.log_square),
            self.num_draws + other.num_draws,
        )

    @property
    def value(self) -> Tensor:
        """Log of the mean weight, nats."""
        return self.log_sum - math.log(self.num_draws)

    @property
    def effective_size(self) -> Tensor:
        """Effective number of draws; 0 where no draw has weight."""
        return (2 * self.log_sum - self.log_square).exp().nan_to_num(0.0)

    @property
    def standard_error(self) -> Tensor:
        """Monte Carlo standard error of `value`, nats, by the delta method."""
        variance = (1 / self.effective_size - 1 / self.num_draws).clamp_min(0)
        return variance.sqrt()


def sum_weights(log_weight: Tensor) -> LogMean:
    """Sum weights over the first dimension, shape `(N, ...)`, nats.

    Example:
        >>> mean = sum_weights(torch.zeros(4)) + sum_weights(torch.zeros(6))
        >>> float(mean.value), float(mean.effective_size), mean.num_draws
        (0.0, 10.0, 10)
    """
    return LogMean(
        log_weight.logsumexp(0), (2 * log_weight).logsumexp(0), len(log_weight)
    )
