"""Losses on logits, one value a pair; the caller takes the mean.

The Bayes-optimal classifier of joint pairs (theta, x) against marginal pairs
(theta', x) has the logit log r(x|theta) = log p(x|theta) - log p(x). Losses are
computed on that logit with softplus: a sigmoid in float32 rounds to one above a logit
of about 17, after which confidently wrong pairs have no gradient left.
"""

from torch import Tensor
from torch.nn.functional import softplus


def binary_cross_entropy(log_ratio_joint: Tensor, log_ratio_marginal: Tensor) -> Tensor:
    """Binary cross-entropy of Algorithm 1, per simulation.

    Args:
        log_ratio_joint: Logits of the pairs (theta, x), label 1, shape `(N,)`, nats.
        log_ratio_marginal: Logits of the pairs (theta', x), label 0, shape `(N,)`.

    Returns:
        Mean of the two pairs' losses, shape `(N,)`, nats; log 2 where both are 0.

    Raises:
        ValueError: If the two shapes differ.

    References:
        Hermans et al. (2020), arXiv:1903.04057, Algorithm 1.

    Example:
        >>> import torch
        >>> binary_cross_entropy(torch.zeros(1), torch.zeros(1))
        tensor([0.6931])
    """
    if log_ratio_joint.shape != log_ratio_marginal.shape:
        raise ValueError(
            "`log_ratio_joint` and `log_ratio_marginal` must have one entry for each "
            f"simulation, got shapes {tuple(log_ratio_joint.shape)} and "
            f"{tuple(log_ratio_marginal.shape)}."
        )
    return (softplus(-log_ratio_joint) + softplus(log_ratio_marginal)) / 2
