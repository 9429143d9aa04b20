"""Are ranks uniform? Their distribution less the uniform one, and how far it may stray.

The difference of the two distribution functions is flat for uniform ranks, and shows
more than a histogram does.

References:
    Säilynoja, Bürkner & Vehtari (2022), Statistics and Computing 32,
    arXiv:2103.10522, for ECDF differences with simultaneous bands. The bands here are
    Kolmogorov's, of constant width.
"""

import numpy as np

from sbi_aalr.diagnostics.draws import Array

# Where differences are evaluated.
GRID = np.linspace(0, 1, 101)
_FALSE_ALARM = 0.05


def subtract_uniform(ranks: Array) -> Array:
    """Return the share of ranks up to each of 101 levels, less the level itself.

    Args:
        ranks: Ranks scaled to lie between 0 and 1, shape `(N,)`.

    Returns:
        Differences at the levels `GRID`, shape `(101,)`.
    """
    return np.searchsorted(np.sort(ranks), GRID, side="right") / len(ranks) - GRID


def find_band(
    count: int, num_curves: int = 1, false_alarm_rate: float = _FALSE_ALARM
) -> float:
    """Return the half-width that no curve leaves if ranks are uniform.

    Args:
        count: Number of ranks that a curve is made of.
        num_curves: Number of curves, by Bonferroni's inequality.
        false_alarm_rate: Probability with which one of them leaves it all the same.
    """
    from scipy.stats import kstwo

    return float(kstwo.isf(false_alarm_rate / num_curves, count))
