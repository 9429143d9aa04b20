"""Networks that do not mind the order of i.i.d. trials.

Trials are put in order, by their first numbers, before a network sees them. So it sees
order statistics, and any order of the same trials gives the same features to the bit.
"""

from collections.abc import Callable

from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn

from sbi_aalr.networks.coordinates import XCoordinates
from sbi_aalr.networks.scale import Scale, sort_trials


def build_without_order(
    build: Callable[[Tensor, Tensor], RatioEstimator], theta: Tensor, x: Tensor
) -> RatioEstimator:
    """Build an estimator that does not mind the order of trials.

    Args:
        build: Builds one of rows of theta and x.
        theta: Parameters, shape `(N, D)`.
        x: Data of T trials each, shape `(N, T, E)`.

    Returns:
        The estimator.
    """
    estimator = build(theta, sort_trials(x))
    forget_order(estimator.embedding_net_x)
    return estimator


def forget_order(net: nn.Module) -> None:
    """Have a net of data `(N, T, E)` sort the trials before all else."""
    for module in net.modules():
        if isinstance(module, Scale) and module.location.ndim == 2:
            module.sort_rows()


def follow_order(net: nn.Module, other: nn.Module) -> None:
    """Have a net sort the trials if another does."""
    if any(map(_sorts, other.modules())):
        forget_order(net)


def _sorts(module: nn.Module) -> bool:
    if isinstance(module, XCoordinates):
        return module.is_exchangeable
    return isinstance(module, Scale) and module.sorted is not None
