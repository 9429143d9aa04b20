"""Area under the ROC curve where one class has weights, with its standard error.

References:
    DeLong, DeLong & Clarke-Pearson (1988), Biometrics 44(3), for the variance; with
    weights it is the linearised variance of a ratio of means.
"""

from typing import NamedTuple

import numpy as np

from sbi_aalr.diagnostics.draws import Array


class AUC(NamedTuple):
    """An area under the ROC curve.

    Attributes:
        value: The area; 0.5 if scores do not tell the classes apart.
        standard_error: Its standard error, for scores that were not fitted to these
            rows.
    """

    value: float
    standard_error: float


def weighted_auc(positive: Array, negative: Array, weights: Array) -> AUC:
    """Estimate the probability that a positive scores above a weighted negative.

    Args:
        positive: Scores of the positive class, shape `(N,)`.
        negative: Scores of the negative class, shape `(M,)`.
        weights: Weights of the negatives, shape `(M,)`, on any scale.

    Returns:
        The area and its standard error.

    Example:
        >>> import numpy as np
        >>> weighted_auc(np.array([2.0, 3.0]), np.array([1.0, 4.0]), np.ones(2)).value
        0.5
    """
    share = weights / weights.sum()
    beaten = _share_below(positive, negative, share)
    ones = np.full(len(positive), 1 / len(positive))
    beating = 1 - _share_below(negative, positive, ones)
    value = float(beaten.mean())
    variance = beaten.var(ddof=1) / len(positive)
    variance += float(np.sum(share**2 * (beating - value) ** 2))
    return AUC(value, float(np.sqrt(variance)))


def weighted_roc(
    positive: Array, negative: Array, weights: Array, false_positive_rate: Array
) -> Array:
    """Interpolate the ROC curve.

    Args:
        positive: Scores of the positive class, shape `(N,)`.
        negative: Scores of the negative class, shape `(M,)`.
        weights: Weights of the negatives, shape `(M,)`.
        false_positive_rate: Where to evaluate it, rising from 0 to 1.

    Returns:
        True positive rates, of the same shape.
    """
    from sklearn.metrics import roc_curve

    scores = np.concatenate((positive, negative))
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    all_weights = np.concatenate((np.ones(len(positive)), weights))
    false, true, _ = roc_curve(labels, scores, sample_weight=all_weights)
    return np.interp(false_positive_rate, false, true)


def _share_below(scores: Array, others: Array, share: Array) -> Array:
    """Return for each score the share of the others below it, ties counted half."""
    order = np.argsort(others, kind="stable")
    below = np.concatenate(([0.0], np.cumsum(share[order])))
    left = np.searchsorted(others[order], scores, side="left")
    right = np.searchsorted(others[order], scores, side="right")
    return (below[left] + below[right]) / 2
