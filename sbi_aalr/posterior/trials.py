"""Warn of many i.i.d. trials, over which the errors of a ratio add up."""

import warnings
from typing import Any

from sbi_aalr.errors import TrialsWarning
from sbi_aalr.posterior.inputs import find_estimator

# Of a Gaussian, 50,000 simulations gave a ratio that was good for as many; over 200 the
# posterior came out three standard deviations off, with an R-hat of 1.002.
_MOST_TRIALS = 20


def warn_about_trials(potential_fn: Any, num_trials: int, stacklevel: int = 3) -> None:
    """Warn if more log-ratios are summed than an estimator is usually good for.

    Args:
        potential_fn: The potential; without a ratio estimator nothing is estimated.
        num_trials: Number of trials, `T`.
        stacklevel: Frames from the warning to the line it points at.

    Warns:
        TrialsWarning: If there are more than 20. Its `value` is how many.
    """
    if num_trials <= _MOST_TRIALS or find_estimator(potential_fn) is None:
        return
    warnings.warn(
        TrialsWarning(
            f"`x` has {num_trials} i.i.d. trials, whose log-ratios are summed: their "
            "errors add up, and R-hat does not see it. Check the posterior on "
            "simulated sets of as many trials, or train on sets; the page on your own "
            "simulator shows both. If the rows are separate observations, use "
            "`sample_batched`.",
            num_trials,
        ),
        stacklevel=stacklevel,
    )
