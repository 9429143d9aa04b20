"""Which estimators can be taken apart into embeddings and a head."""

from sbi.neural_nets.ratio_estimators import RatioEstimator


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
