"""Take a ratio estimator apart, to embed once what meets many.

The logit of a `RatioEstimator` is `net(cat(embedded theta, embedded x))`. So data that
never change are embedded once for many parameters, and the other way round. Where the
head is a product of the two embeddings, one matrix product gives the logits of all
pairs. An estimator with a forward of its own is evaluated as it is.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn


class Parts(NamedTuple):
    """The parts of a ratio estimator.

    Attributes:
        embed_theta: Parameters `(N, D)` -> embedded `(N, F)`.
        embed_x: Data `(N, *event_shape)` -> embedded `(N, G)`.
        combine: Embedded parameters and data, row by row -> log-ratios `(N,)`, nats.
        combine_all: Embedded parameters `(N, F)` and data `(M, G)` -> log-ratios of all
            pairs by one matrix product, `(N, M)`, nats; None where there is no such
            product.
    """

    embed_theta: Callable[[Tensor], Tensor]
    embed_x: Callable[[Tensor], Tensor]
    combine: Callable[[Tensor, Tensor], Tensor]
    combine_all: Callable[[Tensor, Tensor], Tensor] | None


def take_apart(estimator: RatioEstimator) -> Parts:
    """Return the parts of an estimator.

    Where it cannot be taken apart, nothing is embedded and `combine` is all of it.

    Args:
        estimator: Any ratio estimator.
    """
    if not is_plain(estimator):
        return Parts(_keep, _keep, estimator, None)
    return Parts(
        estimator.embedding_net_theta,
        estimator.embedding_net_x,
        partial(match, estimator.net),
        getattr(estimator.net, "all_pairs", None),
    )


def match(head: nn.Module, embedded_theta: Tensor, embedded_x: Tensor) -> Tensor:
    """Log-ratios row by row, `(N, F)` and `(N, G)` -> `(N,)`, nats.

    Heads that have `row_pairs` spare a copy of all embeddings.
    """
    kind: Any = type(head)
    if _has_row_pairs(kind):
        row_pairs: Any = head.row_pairs
        log_ratio: Tensor = row_pairs(embedded_theta, embedded_x)
        return log_ratio
    return head(torch.cat((embedded_theta, embedded_x), dim=-1)).squeeze(-1)


@cache
def _has_row_pairs(kind: Any) -> bool:
    """Whether it has `row_pairs`, not inherited beside a `forward` of its own."""
    for parent in kind.__mro__:
        if "row_pairs" in vars(parent):
            return True
        if "forward" in vars(parent):
            return False
    return False


def is_plain(estimator: RatioEstimator) -> bool:
    """Whether its logit is `net(cat(embedded theta, embedded x))` and nothing else."""
    return all(
        getattr(type(estimator), name, None) is getattr(RatioEstimator, name)
        for name in ("forward", "unnormalized_log_ratio", "combine_theta_and_x")
    )


def is_separable(estimator: RatioEstimator) -> bool:
    """Whether one matrix product gives the logits of all pairs of theta and x."""
    return take_apart(estimator).combine_all is not None


def fix_observations(
    estimator: RatioEstimator, x: Tensor
) -> Callable[[Tensor], Tensor]:
    """Embed observations once, for many parameters to come.

    Args:
        estimator: The ratio estimator.
        x: Observations, shape `(B, *event_shape)`.

    Returns:
        A function of theta `(N, D)` that gives log-ratios with all x, `(N, B)`, nats.
    """
    parts = take_apart(estimator)
    embedded_x = parts.embed_x(x)

    def evaluate(theta: Tensor) -> Tensor:
        embedded = parts.embed_theta(theta)
        if parts.combine_all is not None:
            return parts.combine_all(embedded, embedded_x)
        rows = embedded.repeat_interleave(len(x), dim=0)
        tiled = embedded_x.repeat(len(theta), *[1] * (embedded_x.ndim - 1))
        return parts.combine(rows, tiled).reshape(len(theta), len(x))

    return evaluate


def _keep(rows: Tensor) -> Tensor:
    return rows
