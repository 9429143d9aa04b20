r"""Does the estimated posterior integrate to one?

As $p(\theta|x) = p(\theta)\,r(x|\theta)$ is a density, the exact ratio has
$E_{p(\theta)}[r(x|\theta)] = 1$ for every observation. Prior draws estimate it, with an
error that they estimate as well.

References:
    Hermans, Begy & Louppe (2020), arXiv:1903.04057, for the ratio; Owen (2013), *Monte
    Carlo theory, methods and examples*, chapter 9, for the effective sample size.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks import (
    check_fraction,
    check_int_from,
    check_positive_float,
    check_prior,
)
from sbi_aalr.diagnostics.draws import Array
from sbi_aalr.diagnostics.inputs import check_rows
from sbi_aalr.diagnostics.log_ratio import LogRatio, fix_rows
from sbi_aalr.diagnostics.plot_style import BLUE, GREY, INK, RED, make_axes
from sbi_aalr.mcmc.weights import LogMean
from sbi_aalr.seeding import seeded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_TICKS = 20
_FALSE_ALARM_RATE = 0.01
_MIN_EFFECTIVE = 200


@dataclass(frozen=True)
class RatioNormalisation:
    """What `ratio_normalisation` found, for each of `B` observations.

    Attributes:
        log_mean: log E_prior[r(x|theta)], shape `(B,)`, nats; 0 for the exact ratio.
        standard_error: Its Monte Carlo standard error, shape `(B,)`, nats.
        effective_sample_size: Of the prior draws, weighted by the ratio, shape `(B,)`.
        min_effective_sample_size: Observations with a smaller one are not judged.
        limit: Standard errors beyond which an observation fails.
        false_alarm_rate: Probability with which an exact ratio fails for any of them.
    """

    log_mean: Array
    standard_error: Array
    effective_sample_size: Array
    min_effective_sample_size: float
    limit: float
    false_alarm_rate: float

    @property
    def judged(self) -> Array:
        """Which observations have enough effective draws, bool, shape `(B,)`."""
        return self.effective_sample_size >= self.min_effective_sample_size

    @property
    def failed(self) -> Array:
        """Which observations fail, bool, shape `(B,)`."""
        return self.judged & ~(
            np.abs(self.log_mean) <= self.limit * self.standard_error
        )

    @property
    def passed(self) -> bool | None:
        """Whether none fails of those judged; None if none could be judged."""
        return not self.failed.any() if self.judged.any() else None

    def plot(self) -> "Figure":
        """Draw log E_prior[r] of each observation with the limits it must be within."""
        if len(self.log_mean) == 1:
            return self._plot_single()
        figure, (axes,) = make_axes(7, 3)
        axes.axhline(0, color=GREY, linewidth=1)
        order = np.arange(len(self.log_mean))
        for chosen, color, label in (
            (self.judged & ~self.failed, BLUE, "passes"),
            (self.failed, RED, "fails"),
            (~self.judged, GREY, "not judged"),
        ):
            if chosen.any():
                reach = self.limit * self.standard_error[chosen]
                axes.errorbar(
                    order[chosen],
                    self.log_mean[chosen],
                    np.nan_to_num(reach, posinf=0),
                    fmt="o",
                    markersize=3.5,
                    linewidth=1,
                    color=color,
                    label=label,
                )
        axes.set_xlim(-0.5, len(order) - 0.5)
        axes.set_xticks(order[:: -(-len(order) // _MAX_TICKS)])
        axes.set_xlabel("observation", color=INK)
        axes.set_ylabel("log E[r], nats", color=INK)
        axes.legend(frameon=False, fontsize=8)
        return figure

    def _plot_single(self) -> "Figure":
        """Draw the mean of one observation, for which there is no axis of them."""
        figure, (axes,) = make_axes(6, 1.5)
        color = RED if self.failed[0] else BLUE if self.judged[0] else GREY
        reach = np.nan_to_num(self.limit * self.standard_error, posinf=0)
        axes.axvline(0, color=GREY, linewidth=1)
        axes.errorbar(self.log_mean, [0], xerr=reach, fmt="o", color=color, capsize=3)
        axes.set_ylim(-1, 1)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("log E[r], nats; 0 for the exact ratio", color=INK)
        return figure

    @property
    def verdict(self) -> str:
        """The outcome in words."""
        count = len(self.log_mean)
        if self.passed is None:
            return (
                "Not judged: the effective number of prior draws is at most "
                f"{self.effective_sample_size.max():.1f}, below "
                f"{self.min_effective_sample_size:g}. Raise `num_draws`, or "
                "`num_simulations` of a report."
            )
        judged = int(self.judged.sum())
        worst = self.log_mean[self.judged][np.abs(self.log_mean[self.judged]).argmax()]
        text = (
            f"{int(self.failed.sum())} of {judged} observations failed; the log E[r] "
            f"furthest from zero is {worst:+.3f} nats."
        )
        if self.failed.any():
            text += (
                " The chains do not depend on a factor of x alone, which a network "
                "that `NRE_B` fitted is free to have; any other ratio is off."
            )
        if judged < count:
            text += f" {count - judged} more were not judged: too few effective draws."
        return text


def ratio_normalisation(
    log_ratio: LogRatio,
    prior: Distribution,
    x: Tensor,
    *,
    num_draws: int = 100_000,
    false_alarm_rate: float = _FALSE_ALARM_RATE,
    min_effective_sample_size: float = _MIN_EFFECTIVE,
    seed: int | None = None,
) -> RatioNormalisation:
    r"""Test whether E_prior[r(x|theta)] = 1 for each observation.

    A ratio that is too sharp has a larger mean and one that is too flat a smaller one,
    by Jensen's inequality; a shifted one is off either way.

    Args:
        log_ratio: A ratio estimator or any callable (theta, x) -> `(N,)`, nats.
        prior: The prior that the ratio was trained with.
        x: Observations, shape `(B, *event_shape)`.
        num_draws: Prior draws, two at least, the same for all observations.
        false_alarm_rate: Probability with which an exact ratio fails for any of them.
        min_effective_sample_size: Observations for which fewer prior draws count, as
            weighted by the ratio, are not judged.
        seed: Makes the test repeatable; the global generators are left untouched.

    Returns:
        Means with their errors, and a verdict.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If a number is out of range, or x or the ratio is NaN.

    Example:
        >>> import torch
        >>> from torch.distributions import MultivariateNormal, Normal
        >>> prior = MultivariateNormal(torch.zeros(1), torch.eye(1))
        >>> def log_ratio(theta, x):  # of N(theta, 1) to N(0, 2), exact
        ...     marginal = Normal(0.0, 2**0.5)
        ...     return (Normal(theta, 1.0).log_prob(x) - marginal.log_prob(x))[:, 0]
        >>> ratio_normalisation(log_ratio, prior, torch.ones(1, 1), seed=1).passed
        True
    """
    check_prior("prior", prior)
    rows = check_rows("x", x)
    num_draws = check_int_from("num_draws", num_draws, 2)
    false_alarm_rate = check_fraction("false_alarm_rate", false_alarm_rate)
    minimum = check_positive_float(
        "min_effective_sample_size", min_effective_sample_size
    )
    with seeded(seed):
        theta = prior.sample((num_draws,))
    # Imported here because it loads sbi, which takes seconds.
    from sbi_aalr.sampling.normaliser import measure_log_mean

    mean = measure_log_mean(fix_rows(log_ratio, rows), theta, len(rows))
    return judge_means(mean, false_alarm_rate, minimum)


def judge_means(
    mean: LogMean,
    false_alarm_rate: float = _FALSE_ALARM_RATE,
    min_effective_sample_size: float = _MIN_EFFECTIVE,
) -> RatioNormalisation:
    """Say which means of a ratio over prior draws differ from one.

    Args:
        mean: Of each observation, shape `(B,)`, from the same prior draws.
        false_alarm_rate: Probability with which an exact ratio fails for any of them.
        min_effective_sample_size: With fewer effective draws nothing is judged.
    """
    return RatioNormalisation(
        log_mean=mean.value.numpy(),
        standard_error=mean.standard_error.numpy(),
        effective_sample_size=mean.effective_size.numpy(),
        min_effective_sample_size=min_effective_sample_size,
        # Bonferroni's, as the same prior draws serve all observations.
        limit=find_limit(false_alarm_rate / mean.value.numel()),
        false_alarm_rate=false_alarm_rate,
    )


def find_limit(false_alarm_rate: float) -> float:
    """Standard errors that a normal variable exceeds, either way, at this rate."""
    from scipy.stats import norm

    return float(norm.isf(false_alarm_rate / 2))
