"""Networks that do not mind the order of i.i.d. trials.

Trials are put in order, by their first numbers, before a network sees them. So it sees
order statistics, and any order of the same trials gives the same features to the bit.
"""

from collections.abc import Callable
from typing import TypeVar

from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn

from sbi_aalr.networks.digits import find_scales
from sbi_aalr.networks.scale import sort_trials

_Net = TypeVar("_Net", bound=nn.Module)


def build_without_order(
    build: Callable[[Tensor, Tensor], RatioEstimator], theta: Tensor, x: Tensor
) -> RatioEstimator:
    """Build an estimator that does not mind the order of trials.

    Args:
        build: Builds one of rows of theta and x.
        theta: Parameters, shape `(N, D)`.
        x: Data of T trials each, shape `(N, T, E)`.

    Returns:
        The estimator; one that knows nothing of sorting is built of the rows as they
        are.
    """
    estimator = build(theta, sort_trials(x))
    is_sorting = _sort_first(estimator.embedding_net_x)
    return estimator if is_sorting else build(theta, x)


def build_alike(
    build: Callable[[Tensor], _Net], x: Tensor, others: nn.ModuleList
) -> _Net:
    """Build a net of data that sorts their trials if others do.

    Args:
        build: Builds one of rows of x.
        x: Data, shape `(N, *event_shape)`.
        others: Nets of the same data.

    Returns:
        The net.
    """
    scales = [scale for other in others for scale in find_scales(other)]
    if all(scale.sorted is None for scale in scales):
        return build(x)
    net = build(sort_trials(x))
    _sort_first(net)
    return net


def _sort_first(net: nn.Module) -> bool:
    """Have a net of data sort trials before all else; False if it cannot."""
    # What scales the data first: not a scale that the user has somewhere inside.
    scales = find_scales(net)
    for scale in scales:
        scale.sort_rows()
    return bool(scales)
