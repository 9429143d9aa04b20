"""Calibration over many observations: expected coverage and simulation-based ranks.

Parameters drawn from the prior must look like one more draw from the posterior of the
data simulated from them. Their ranks among posterior draws are then uniform: those of
each parameter (simulation-based calibration), and those of the density, which say how
often regions of highest density hold the truth (expected coverage).

sbi's `run_sbc` and `check_sbc` ask the same. On 100 observations of a Gaussian with 200
draws each, one thread, this took 0.6 s and they took 2.8 s, as they sample anew for the
density and train classifiers besides; p-values differed by up to 0.02, because there
ranks stay whole numbers. A posterior need not be one of sbi's here.

References:
    Talts, Betancourt, Simpson, Vehtari & Gelman (2018), arXiv:1804.06788; Hermans,
    Delaunoy, Rozet, Wehenkel & Louppe (2022), arXiv:2110.06581, for expected coverage.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks import (
    check_finite,
    check_fraction,
    check_inside,
    check_parameter_names,
    check_positive_int,
)
from sbi_aalr.diagnostics.coverage_plot import plot_coverage
from sbi_aalr.diagnostics.draws import Array
from sbi_aalr.diagnostics.inputs import check_rows
from sbi_aalr.diagnostics.rank_ecdf import find_band
from sbi_aalr.diagnostics.recovery import draw_recovery
from sbi_aalr.errors import FarObservationWarning
from sbi_aalr.seeding import seeded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEVELS = np.linspace(0.01, 0.99, 99)
_INTERVAL = 0.95
# With fewer, the coverage of a level is known to some ten per cent at best.
_MIN_OBSERVATIONS = 50
# Of the regions that the verdict tells of, and of the intervals of `plot_recovery`.
_TOLD, RECOVERY_LEVEL = 0.95, 0.68


class BatchedPosterior(Protocol):
    """What is asked of a posterior; those of sbi and of this package have it."""

    def sample_batched(self, sample_shape: Any, x: Tensor, **settings: Any) -> Tensor:
        """Draw `(*sample_shape, B, D)` given `x`, shape `(B, *event_shape)`."""
        ...

    def potential(self, theta: Tensor, x: Tensor) -> Tensor:
        """Evaluate the log-density `(N,)`, up to a constant, given one observation."""
        ...


@dataclass(frozen=True)
class ExpectedCoverage:
    """What `expected_coverage` found over `B` observations.

    Attributes:
        ranks: Rank of each true parameter among the posterior's draws, scaled to lie
            between 0 and 1, shape `(B, D)`; uniform if calibrated.
        density_ranks: Share of the draws with a higher density than the truth, shape
            `(B,)`; uniform if calibrated.
        levels: Credible levels, shape `(99,)`.
        coverage: Share of observations whose region of highest density of that level
            holds the truth, shape `(99,)`.
        lower: Lower end of the 95 % interval of the coverage, shape `(99,)`.
        upper: Upper end, shape `(99,)`.
        p_values: Of uniform ranks, one a parameter and last that of the density, shape
            `(D + 1,)`.
        parameter_names: One name a parameter.
        false_alarm_rate: Probability with which a calibrated posterior fails.
        truth: The true parameters, shape `(B, D)`, or None.
        quantiles: Median of the draws between the ends of their 68 % interval, in
            rising order, shape `(3, B, D)`, or None.
    """

    ranks: Array
    density_ranks: Array
    levels: Array
    coverage: Array
    lower: Array
    upper: Array
    p_values: Array
    parameter_names: tuple[str, ...]
    false_alarm_rate: float
    truth: Array | None = None
    quantiles: Array | None = None

    @property
    def passed(self) -> bool | None:
        """Whether all ranks look uniform; None below 50 observations."""
        if len(self.ranks) < _MIN_OBSERVATIONS:
            return None
        # Bonferroni's: one failure among D + 1 tests is a failure.
        return bool(self.p_values.min() >= self.false_alarm_rate / len(self.p_values))

    @property
    def verdict(self) -> str:
        """The outcome in words, with the coverage of the 95 % regions."""
        at = int(np.abs(self.levels - _TOLD).argmin())
        numbers = (
            f"regions of {100 * _TOLD:g} % hold the truth in {self.coverage[at]:.0%} "
            f"of {len(self.ranks)} observations (95 % interval {self.lower[at]:.0%} to "
            f"{self.upper[at]:.0%})"
        )
        if self.passed is None:
            return (
                f"Not judged: {len(self.ranks)} observations are fewer than "
                f"{_MIN_OBSERVATIONS}; {numbers}."
            )
        if self.passed:
            return f"No flaw found: {numbers}."
        worst = int(self.p_values.argmin())
        if worst < len(self.parameter_names):
            name = self.parameter_names[worst]
            return f"Not calibrated: ranks of `{name}` are not uniform; {numbers}."
        off = float((self.coverage - self.levels).mean())
        kind = "Over-confident" if off < 0 else "Under-confident"
        return f"{kind}: {numbers}."

    @property
    def band(self) -> float:
        """How far ranks may lie from uniform ones: beyond it, the test fails."""
        return find_band(len(self.ranks), len(self.p_values), self.false_alarm_rate)

    def plot(self) -> "Figure":
        """Draw coverage against level, and the ranks of each parameter beside it."""
        return plot_coverage(
            (self.levels, self.coverage),
            dict(zip(self.parameter_names, self.ranks.T, strict=True)),
            band=self.band,
            level=1 - self.false_alarm_rate,
        )

    def plot_recovery(self) -> "Figure":
        """Draw the estimates of all observations against the true parameters."""
        if self.truth is None or self.quantiles is None:
            raise ValueError(
                "`truth` and `quantiles` must be there to be drawn, got None. "
                "`expected_coverage` gives them."
            )
        return draw_recovery(
            self.quantiles, self.truth, self.parameter_names, RECOVERY_LEVEL
        )


def expected_coverage(
    posterior: BatchedPosterior,
    theta: Tensor,
    x: Tensor,
    *,
    num_samples: int = 200,
    parameter_names: Sequence[str] | None = None,
    false_alarm_rate: float = 0.01,
    seed: int | None = None,
    **settings: Any,
) -> ExpectedCoverage:
    """Test whether a posterior is calibrated on average over the prior.

    Uniformity is tested by Kolmogorov and Smirnov's statistic, on ranks with ties
    broken at random. Draws that are autocorrelated spread the ranks: take fewer than
    the effective sample size.

    Args:
        posterior: Has `sample_batched` and `potential`, as sbi's posteriors do.
        theta: Draws from the prior, shape `(B, D)`.
        x: Data simulated from each, shape `(B, *event_shape)`.
        num_samples: Posterior draws for each observation.
        parameter_names: One name a parameter; by default the posterior's, else
            `theta_1` to `theta_D`.
        false_alarm_rate: Probability with which a calibrated posterior fails.
        seed: Makes the test repeatable; the global generators are left untouched.
        **settings: Passed on to `sample_batched`, such as `max_rhat=1.05`.

    Returns:
        Ranks, coverage with intervals, and a verdict.

    Raises:
        TypeError: If the posterior lacks a method or an argument is of another type.
        ValueError: If shapes do not fit, a number is out of range, or theta lies
            outside the posterior's prior.

    References:
        Talts et al. (2018), arXiv:1804.06788; Hermans et al. (2022), arXiv:2110.06581.
    """
    for method in ("sample_batched", "potential"):
        if not callable(getattr(posterior, method, None)):
            raise TypeError(
                f"`posterior` must have a method `{method}`, got "
                f"{type(posterior).__name__}."
            )
    truth, rows = check_rows("theta", theta).float(), check_rows("x", x)
    if truth.ndim != 2 or len(truth) != len(rows):
        raise ValueError(
            "`theta` must have shape (B, D) with one row for each of x, got "
            f"{tuple(truth.shape)} and {tuple(rows.shape)}."
        )
    prior = getattr(getattr(posterior, "potential_fn", None), "prior", None)
    if isinstance(prior, Distribution):
        check_inside("theta", truth, prior)
    count = check_positive_int("num_samples", num_samples)
    if parameter_names is None:
        parameter_names = getattr(posterior, "parameter_names", None)
    names = check_parameter_names(parameter_names, truth.shape[1])
    false_alarm_rate = check_fraction("false_alarm_rate", false_alarm_rate)
    settings.setdefault("show_progress_bars", False)
    with seeded(seed), warnings.catch_warnings():
        # Some of many simulations lie far out where tails are heavy.
        warnings.simplefilter("ignore", FarObservationWarning)
        draws = posterior.sample_batched((count,), x=rows, **settings)
        if draws.shape != (count, *truth.shape):
            raise ValueError(
                "`posterior.sample_batched` must return draws of shape "
                f"{(count, *truth.shape)}, got {tuple(draws.shape)}."
            )
        check_finite("posterior.sample_batched", draws)
        truth = truth.to(draws)
        ranks = _rank(truth, draws)
        density_ranks = _rank_density(posterior, truth, draws, rows)
    everything = np.column_stack((ranks, density_ranks))
    inside = (density_ranks[:, None] <= _LEVELS).sum(axis=0)
    lower, upper = _find_interval(inside, len(rows))
    return ExpectedCoverage(
        ranks=ranks,
        density_ranks=density_ranks,
        levels=_LEVELS,
        coverage=inside / len(rows),
        lower=lower,
        upper=upper,
        p_values=_test_uniform(everything),
        parameter_names=tuple(names),
        false_alarm_rate=false_alarm_rate,
        truth=truth.cpu().numpy(),
        quantiles=_find_quantiles(draws),
    )


def _find_quantiles(draws: Tensor) -> Array:
    tail = (1 - RECOVERY_LEVEL) / 2
    values = draws.double().cpu().numpy()
    return np.quantile(values, [tail, 0.5, 1 - tail], axis=0)


def _rank(truth: Tensor, draws: Tensor) -> Array:
    """Share of draws `(S, ...)` below the truth, ties broken at random, in (0, 1)."""
    below = (draws < truth).sum(dim=0)
    ties = (draws == truth).sum(dim=0)
    place = below + torch.rand(below.shape, device=below.device) * (ties + 1)
    return (place.double() / (len(draws) + 1)).cpu().numpy()


def _rank_density(
    posterior: BatchedPosterior, truth: Tensor, draws: Tensor, x: Tensor
) -> Array:
    """Share of draws with a higher density than the truth, shape `(B,)`."""
    columns = []
    for observation, row in enumerate(x):
        theta = torch.cat((truth[observation, None], draws[:, observation]))
        with torch.no_grad():
            columns.append(posterior.potential(theta, x=row[None]))
    log_prob = torch.stack(columns, dim=1)
    return _rank(-log_prob[0], -log_prob[1:])


def _find_interval(inside: Array, count: int) -> tuple[Array, Array]:
    """Clopper and Pearson's interval of a proportion, at 95 %."""
    from scipy.stats import beta

    tail = (1 - _INTERVAL) / 2
    lower = np.where(inside > 0, beta.ppf(tail, inside, count - inside + 1), 0.0)
    upper = np.where(inside < count, beta.isf(tail, inside + 1, count - inside), 1.0)
    return lower, upper


def _test_uniform(ranks: Array) -> Array:
    from scipy.stats import kstest

    return np.array([kstest(column, "uniform").pvalue for column in ranks.T])
