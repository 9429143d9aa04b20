"""Which estimators can be taken apart into embeddings and a head."""

from collections.abc import Callable

from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor


def is_plain(estimator: RatioEstimator) -> bool:
    """Whether its logit is `net(cat(embedded theta, embedded x))` and nothing else.

    Then the two embeddings can be computed apart, each as often as it is needed.
    """
    return all(
        getattr(type(estimator), name, None) is getattr(RatioEstimator, name)
        for name in ("forward", "unnormalized_log_ratio", "combine_theta_and_x")
    )


def is_separable(estimator: RatioEstimator) -> bool:
    """Whether one matrix product gives the logits of all pairs of theta and x.

    Then `estimator.net.all_pairs(embedded_theta, embedded_x)` is that product.
    """
    return is_plain(estimator) and hasattr(estimator.net, "all_pairs")


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
    if is_separable(estimator):
        embedded_x = estimator.embedding_net_x(x)
        return lambda theta: estimator.net.all_pairs(
            estimator.embedding_net_theta(theta), embedded_x
        )

    def evaluate(theta: Tensor) -> Tensor:
        rows = theta.repeat_interleave(len(x), dim=0)
        tiled = x.repeat(len(theta), *[1] * (x.ndim - 1))
        return estimator(rows, tiled).reshape(len(theta), len(x))

    return evaluate
