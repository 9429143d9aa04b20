r"""Do the chains hold what prior draws, weighted by the ratio, hold?

Both are draws of the same posterior. Weighted prior draws know no modes and cannot get
stuck: where enough of them count, they show a mode that all chains have missed, which
R-hat cannot.

References:
    Owen (2013), *Monte Carlo theory, methods and examples*, chapter 9, for weights and
    their effective number.
"""

from dataclasses import dataclass

import numpy as np

from sbi_aalr.diagnostics.draws import Array

# Fewer weighted draws show no more than chains do.
_MIN_EFFECTIVE = 200.0


@dataclass(frozen=True)
class PriorAgreement:
    """How far the chains are from weighted prior draws, for each of `B` observations.

    Attributes:
        distance: Largest difference of the two distribution functions of each
            parameter, shape `(B, D)`.
        p_values: Of the distances, shape `(B, D)`; NaN where not judged.
        effective_sample_size: Of the prior draws, as weighted, shape `(B,)`.
        observations: Which observations were compared, shape `(B,)`.
        parameter_names: One name a parameter.
        false_alarm_rate: Probability with which chains that are right fail.
    """

    distance: Array
    p_values: Array
    effective_sample_size: Array
    observations: Array
    parameter_names: tuple[str, ...]
    false_alarm_rate: float

    @property
    def judged(self) -> Array:
        """Which observations have enough effective draws, bool, shape `(B,)`."""
        return self.effective_sample_size >= _MIN_EFFECTIVE

    @property
    def passed(self) -> bool | None:
        """Whether all of those judged agree; None if none could be judged."""
        if not self.judged.any():
            return None
        found = self.p_values[self.judged]
        return bool(found.min() >= self.false_alarm_rate / found.size)

    @property
    def verdict(self) -> str:
        """The outcome in words."""
        if self.passed is None:
            return (
                "Too few prior draws count for this posterior to look for modes that "
                "the chains have missed."
            )
        if self.passed:
            return "Prior draws, weighted by the ratio, show the same posterior."
        ordered = np.where(self.judged[:, None], self.p_values, np.inf)
        row, column = np.unravel_index(ordered.argmin(), ordered.shape)
        where = ""
        if len(self.observations) > 1:
            where = f" of observation {int(self.observations[row])}"
        return (
            f"Prior draws, weighted by the ratio, put {self.distance[row, column]:.0%} "
            f"of the posterior elsewhere in `{self.parameter_names[column]}`{where}: "
            "the chains have missed or over-counted a part of it. Raise "
            "`num_candidates`, and compare other seeds."
        )


def compare_with_prior(
    theta: Array,
    ess: Array,
    prior_theta: Array,
    log_weights: Array,
    *,
    observations: Array,
    parameter_names: list[str],
    false_alarm_rate: float = 1e-3,
) -> PriorAgreement:
    """Compare chains with weighted prior draws, parameter by parameter.

    By Kolmogorov and Smirnov's distance of two samples, for their effective sizes.

    Args:
        theta: Chains, shape `(N, B, D)`.
        ess: Effective sample size of each parameter, shape `(B, D)`.
        prior_theta: Draws of the prior, shape `(M, D)`.
        log_weights: Log-ratios of them, shape `(M, B)`, nats.
        observations: Which observations these are, shape `(B,)`.
        parameter_names: One name a parameter.
        false_alarm_rate: Probability with which chains that are right fail.
    """
    from scipy.stats import kstwobign

    count, width = ess.shape
    distance = np.zeros((count, width))
    p_values = np.full((count, width), np.nan)
    effective = np.zeros(count)
    for row in range(count):
        weights = np.exp(log_weights[:, row] - log_weights[:, row].max())
        weights /= weights.sum()
        effective[row] = 1 / (weights**2).sum()
        for column in range(width):
            gap = _find_gap(theta[:, row, column], prior_theta[:, column], weights)
            distance[row, column] = gap
            size = max(float(np.nan_to_num(ess[row, column])), 1.0)
            both = size * effective[row] / (size + effective[row])
            p_values[row, column] = kstwobign.sf(gap * np.sqrt(both))
    return PriorAgreement(
        distance,
        p_values,
        effective,
        observations,
        tuple(parameter_names),
        false_alarm_rate,
    )


def _find_gap(drawn: Array, prior: Array, weights: Array) -> float:
    """Largest difference of the distribution functions of draws and weighted draws."""
    order = np.argsort(prior)
    share = np.concatenate(([0.0], np.cumsum(weights[order])))
    places = np.sort(drawn)
    before = share[np.searchsorted(prior[order], places, side="right")]
    steps = np.arange(len(places) + 1) / len(places)
    return float(
        max(np.abs(steps[1:] - before).max(), np.abs(steps[:-1] - before).max())
    )
