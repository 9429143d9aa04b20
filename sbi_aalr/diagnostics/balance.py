r"""Is the classifier balanced?

For $d = r/(1 + r)$ with the exact ratio,
$E_{p(\theta,x)}[d] + E_{p(\theta)p(x)}[d] = 1$. Ratios that are wrong may satisfy it
too, so it can find a flaw but not show that there is none.

References:
    Delaunoy, Hermans, Rozet, Wehenkel & Louppe (2022), arXiv:2208.13624.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributions import Distribution

from sbi_aalr.checks import check_fraction, check_int_from, check_prior
from sbi_aalr.diagnostics.log_ratio import LogRatio, evaluate_log_ratio
from sbi_aalr.diagnostics.ratio_normalisation import find_limit
from sbi_aalr.seeding import seeded
from sbi_aalr.simulation.adapt import adapt


@dataclass(frozen=True)
class ClassifierBalance:
    """What `classifier_balance` found.

    Attributes:
        joint: Mean output of the classifier on joint pairs.
        marginal: Mean output on marginal pairs.
        standard_error: Monte Carlo standard error of their sum.
        limit: Standard errors from 1 beyond which the sum fails.
        false_alarm_rate: Probability with which a balanced classifier fails.
    """

    joint: float
    marginal: float
    standard_error: float
    limit: float
    false_alarm_rate: float

    @property
    def total(self) -> float:
        """The sum, 1 for a balanced classifier."""
        return self.joint + self.marginal

    @property
    def passed(self) -> bool:
        """Whether the sum is 1 within its error."""
        return abs(self.total - 1) <= self.limit * self.standard_error

    @property
    def verdict(self) -> str:
        """The outcome in words."""
        found = "Balanced" if self.passed else "Not balanced"
        return f"{found}: E[d] sums to {self.total:.4f} ± {self.standard_error:.4f}."


def classifier_balance(
    log_ratio: LogRatio,
    simulator: Callable[..., Any],
    prior: Distribution,
    *,
    num_simulations: int = 10_000,
    false_alarm_rate: float = 0.01,
    seed: int | None = None,
    exclude_invalid_x: bool = False,
) -> ClassifierBalance:
    r"""Test whether E_joint[d] + E_marginal[d] = 1, with d = r/(1 + r).

    A classifier that is not balanced is over- or under-confident somewhere; a balanced
    one may still be. Cheap, as it needs neither chains nor an effective sample size.

    Args:
        log_ratio: A ratio estimator or any callable (theta, x) -> `(N,)`, nats.
        simulator: Any simulator that sbi accepts.
        prior: The prior that the ratio was trained with.
        num_simulations: Fresh pairs of either kind, two at least, which tell the error.
        false_alarm_rate: Probability with which a balanced classifier fails.
        seed: Makes the test repeatable; the global generators are left untouched.
        exclude_invalid_x: Simulate again, at the same parameters, where the simulator
            gives NaN or infinity.

    Returns:
        Both means, the error of their sum, and a verdict.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If a number is out of range, the prior or the simulator cannot be
            used, or the ratio is NaN.

    References:
        Delaunoy et al. (2022), arXiv:2208.13624.
    """
    check_prior("prior", prior)
    num_simulations = check_int_from("num_simulations", num_simulations, 2)
    false_alarm_rate = check_fraction("false_alarm_rate", false_alarm_rate)
    batched = adapt(simulator, prior, exclude_invalid_x)
    with seeded(seed):
        theta = prior.sample((num_simulations,))
        theta_prime = prior.sample((num_simulations,))
        x = batched(theta)
    joint = torch.sigmoid(evaluate_log_ratio(log_ratio, theta, x))
    marginal = torch.sigmoid(evaluate_log_ratio(log_ratio, theta_prime, x))
    spread = float((joint + marginal).std(correction=0))
    return ClassifierBalance(
        joint=float(joint.mean()),
        marginal=float(marginal.mean()),
        standard_error=spread / math.sqrt(num_simulations),
        limit=find_limit(false_alarm_rate),
        false_alarm_rate=false_alarm_rate,
    )
