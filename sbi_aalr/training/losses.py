"""Losses on logits of pairs; the caller takes the mean over simulations.

The Bayes-optimal classifier of joint pairs (theta, x) against marginal pairs
(theta', x) has the logit log r(x|theta) = log p(x|theta) - log p(x). Losses are
computed on that logit with softplus: a sigmoid in float32 rounds to one above a logit
of about 17, after which confidently wrong pairs have no gradient left. Logits of
contrasts below -60 have none either: a term of e^-60 is nothing to a loss, and below
e^-87 numbers are subnormal, which slows training down several times.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus, threshold

from sbi_aalr.checks import check_type

# Lowest logit, in nats, with a gradient that counts.
_LOWEST = -60.0


def binary_cross_entropy(log_ratio_joint: Tensor, log_ratio_marginal: Tensor) -> Tensor:
    """Binary cross-entropy of Algorithm 1, per simulation.

    Args:
        log_ratio_joint: Logits of the pairs (theta, x), label 1, shape `(N,)`, nats.
        log_ratio_marginal: Logits of the pairs (theta', x), label 0, shape `(N,)`, or
            `(N, K)` for K contrasts of each x, over which the mean is taken.

    Returns:
        Mean of the two labels' losses, shape `(N,)`, nats; log 2 where all are 0.

    Raises:
        ValueError: If the two do not have the same rows.

    References:
        Hermans et al. (2020), arXiv:1903.04057, Algorithm 1.

    Example:
        >>> import torch
        >>> binary_cross_entropy(torch.zeros(1), torch.zeros(1))
        tensor([0.6931])
    """
    marginal = _check_contrasts(log_ratio_joint, log_ratio_marginal)
    return (softplus(-log_ratio_joint) + _softplus(marginal).mean(dim=1)) / 2


def info_nce(log_ratio_joint: Tensor, log_ratio_marginal: Tensor) -> Tensor:
    r"""Loss of finding the theta that made x among K contrasts, per simulation.

    With logits f it is $-f(\theta, x) + \log[e^{f(\theta, x)} + \sum_k e^{f(\theta'_k,
    x)}]$. Its optimum is the log-ratio up to a function of x. Its gradient goes to the
    contrasts that are hard to tell from theta, that is to the shape of the posterior.

    Args:
        log_ratio_joint: Logits of the pairs (theta, x), shape `(N,)`, nats.
        log_ratio_marginal: Logits of the pairs (theta', x), shape `(N,)` or `(N, K)`.

    Returns:
        Losses, shape `(N,)`, nats; log(K + 1) where all logits are equal.

    Raises:
        ValueError: If the two do not have the same rows.

    References:
        van den Oord et al. (2018), arXiv:1807.03748; Durkan et al. (2020),
        arXiv:2002.03712, for its use in ratio estimation.

    Example:
        >>> import torch
        >>> info_nce(torch.zeros(1), torch.zeros(1, 3))
        tensor([1.3863])
    """
    marginal = _check_contrasts(log_ratio_joint, log_ratio_marginal)
    return torch.logaddexp(log_ratio_joint, _logsumexp(marginal, 1)) - log_ratio_joint


def imbalance(log_ratio_joint: Tensor, log_ratio_marginal: Tensor) -> Tensor:
    r"""How far a classifier is from being balanced, for a whole batch.

    A classifier d is balanced if the means of d over joint and over marginal pairs add
    up to one, as they do for the optimal one. Adding a multiple of the squared
    violation to the loss makes posteriors wider rather than too narrow.

    Args:
        log_ratio_joint: Logits of the pairs (theta, x), shape `(N,)`, nats.
        log_ratio_marginal: Logits of the pairs (theta', x), shape `(N,)` or `(N, K)`.

    Returns:
        $(E[d(\theta, x)] + E[d(\theta', x)] - 1)^2$, shape `()`.

    Raises:
        ValueError: If the two do not have the same rows.

    References:
        Delaunoy et al. (2022), arXiv:2208.13624, where its weight is 100.

    Example:
        >>> import torch
        >>> imbalance(torch.zeros(2), torch.full((2,), -100.0))
        tensor(0.2500)
    """
    marginal = _check_contrasts(log_ratio_joint, log_ratio_marginal)
    share = _raise(marginal).sigmoid().mean()
    return (log_ratio_joint.sigmoid().mean() + share - 1).square()


def all_pairs_cross_entropy(log_ratio: Tensor) -> Tensor:
    """`binary_cross_entropy` with every other theta of the batch as a contrast.

    Args:
        log_ratio: Logits of all pairs, shape `(N, N)`: row i is theta i, column j is x
            j, so that the diagonal holds the joint pairs.

    Returns:
        Losses, shape `(N,)`, nats.

    Raises:
        ValueError: If it is no square matrix of two rows or more.

    Example:
        >>> import torch
        >>> all_pairs_cross_entropy(torch.zeros(2, 2))
        tensor([0.6931, 0.6931])
    """
    joint = _check_square(log_ratio).diagonal()
    # The diagonal is taken out of the sum: a pair contrasted with itself would leak.
    marginal = _softplus(log_ratio).sum(dim=0) - _softplus(joint)
    return (softplus(-joint) + marginal / (len(log_ratio) - 1)) / 2


def all_pairs_info_nce(log_ratio: Tensor) -> Tensor:
    """`info_nce` with every other theta of the batch as a contrast, both ways.

    The theta that made x is to be found among the batch's, and the x that theta made
    among the batch's. The second way leaves a function of theta open where the first
    leaves one of x; together they leave a constant.

    Args:
        log_ratio: Logits of all pairs, shape `(N, N)`, as in
            `all_pairs_cross_entropy`.

    Returns:
        Sum of the two ways' losses, shape `(N,)`, nats; 2 log N where all logits are
        equal.

    Raises:
        ValueError: If it is no square matrix of two rows or more.

    Example:
        >>> import torch
        >>> all_pairs_info_nce(torch.zeros(2, 2))
        tensor([1.3863, 1.3863])
    """
    joint = _check_square(log_ratio).diagonal()
    return _logsumexp(log_ratio, 0) + _logsumexp(log_ratio, 1) - 2 * joint


def all_pairs_imbalance(log_ratio: Tensor) -> Tensor:
    """`imbalance` with every other theta of the batch as a contrast.

    Args:
        log_ratio: Logits of all pairs, shape `(N, N)`, as in
            `all_pairs_cross_entropy`.

    Returns:
        The squared violation, shape `()`.

    Raises:
        ValueError: If it is no square matrix of two rows or more.

    Example:
        >>> import torch
        >>> all_pairs_imbalance(torch.zeros(2, 2))
        tensor(0.)
    """
    shares = _raise(_check_square(log_ratio)).sigmoid()
    joint = shares.diagonal()
    rows = len(log_ratio)
    marginal = (shares.sum() - joint.sum()) / (rows * (rows - 1))
    return (joint.mean() + marginal - 1).square()


def _raise(log_ratio: Tensor) -> Tensor:
    """Raise logits to the lowest one; quicker than `clamp`, whose gradient is slow."""
    return threshold(log_ratio, _LOWEST, _LOWEST)


def _softplus(log_ratio: Tensor) -> Tensor:
    return softplus(_raise(log_ratio))


def _logsumexp(log_ratio: Tensor, dim: int) -> Tensor:
    largest = log_ratio.detach().amax(dim, keepdim=True)
    terms = _raise(log_ratio - largest).exp()
    return terms.sum(dim).log() + largest.squeeze(dim)


def _check_square(log_ratio: Tensor) -> Tensor:
    """Return the logits of all pairs, or raise if they have no diagonal."""
    check_type("log_ratio", log_ratio, Tensor, "a torch tensor")
    rows = len(log_ratio) if log_ratio.ndim else 0
    if log_ratio.shape != (rows, rows) or rows < 2:
        raise ValueError(
            "`log_ratio` must be the square matrix of all pairs of at least 2 rows, "
            f"got shape {tuple(log_ratio.shape)}."
        )
    return log_ratio


def _check_contrasts(log_ratio_joint: Tensor, log_ratio_marginal: Tensor) -> Tensor:
    """Return the marginal logits as `(N, K)`, or raise."""
    check_type("log_ratio_joint", log_ratio_joint, Tensor, "a torch tensor")
    check_type("log_ratio_marginal", log_ratio_marginal, Tensor, "a torch tensor")
    marginal = log_ratio_marginal
    marginal = marginal.unsqueeze(1) if marginal.ndim == 1 else marginal
    if marginal.ndim != 2 or log_ratio_joint.shape != marginal.shape[:1]:
        raise ValueError(
            "`log_ratio_joint` and `log_ratio_marginal` must have one entry for each "
            f"simulation, got shapes {tuple(log_ratio_joint.shape)} and "
            f"{tuple(log_ratio_marginal.shape)}."
        )
    return marginal
