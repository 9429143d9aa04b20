"""What a report is made from: chains, checks, and how they came about."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from sbi_aalr.diagnostics import (
    ClassifierBalance,
    ExpectedCoverage,
    Misspecification,
    PredictiveCheck,
    RatioNormalisation,
    RatioROC,
)
from sbi_aalr.diagnostics.convergence import read_convergence
from sbi_aalr.diagnostics.draws import Array, read_draws
from sbi_aalr.diagnostics.prior_agreement import PriorAgreement
from sbi_aalr.mcmc.convergence import meets_limits

# One level for all intervals of a page, and a smaller one within.
CI_PROB, INNER_PROB = 0.95, 0.68

# Vehtari et al. (2021): what a run was held to counts only where that is stricter.
_MAX_RHAT = 1.01
_MIN_ESS = 400.0


@dataclass(frozen=True)
class Checks:
    """What simulations say of the ratio; None for the checks that were not run.

    Attributes:
        ratio_roc: The paper's test of the ratio.
        roc_theta: Where it was made, shape `(D,)`.
        normalisation: Whether the ratio's mean over the prior is one.
        balance: Whether the classifier is balanced.
        coverage: Calibration over many observations.
        familiarity: How far the observations are from simulations.
        agreement: Whether chains and weighted prior draws agree.
        predictive: Whether the posterior predicts the observations.
        num_trials: How many trials were sampled together.
    """

    ratio_roc: RatioROC | None = None
    roc_theta: Array | None = None
    normalisation: RatioNormalisation | None = None
    balance: ClassifierBalance | None = None
    coverage: ExpectedCoverage | None = None
    familiarity: Misspecification | None = None
    agreement: PriorAgreement | None = None
    predictive: PredictiveCheck | None = None
    num_trials: int = 1


@dataclass(frozen=True)
class ChainCheck:
    """R-hat and effective sample sizes of all observations, with their limits.

    Attributes:
        r_hat: Shape `(B, D)`.
        ess: The smaller of bulk and tail ESS, shape `(B, D)`.
        stuck_chains: Chains that never moved, shape `(B, D)`.
        max_rhat: Largest R-hat that passes.
        min_ess: Smallest effective sample size that passes.
        run_max_rhat: What the run was held to, where that was less strict; else None.
        run_min_ess: The same for the effective sample size.
    """

    r_hat: Array
    ess: Array
    stuck_chains: Array
    max_rhat: float
    min_ess: float
    run_max_rhat: float | None = None
    run_min_ess: float | None = None

    @property
    def converged(self) -> Array:
        """Which observations pass, bool, shape `(B,)`; NaN does not."""
        limits = self.max_rhat, self.min_ess
        passed = meets_limits(self.r_hat, self.ess, self.stuck_chains, *limits)
        return passed.all(axis=1)

    def order_by_trouble(self, far: Array | None) -> list[int]:
        """Return all observations, the one most in need of a look first."""
        worst = np.nan_to_num(self.r_hat.max(axis=1), nan=np.inf)
        least = np.nan_to_num(self.ess.min(axis=1), nan=0.0)
        faults = (~self.converged).astype(int)
        if far is not None:
            faults += far
        return [int(i) for i in np.lexsort((least, -worst, -faults))]


@dataclass(frozen=True)
class Evidence:
    """Everything that the page shows.

    Attributes:
        tree: Chains and data, from `to_datatree`, perhaps with predictive groups.
        title: Heading of the page; any text.
        truth: True parameters, shape `(D,)` or `(B, D)`.
        reference: Draws from the exact posterior of a single observation, `(N, D)`.
        training: Losses by name, as in a trainer's `summary`.
        facts: What was run: names and values, any text.
        commands: How to do it again: commands or code, any text.
        checks: The checks that were run.
        ci_prob: Probability of the intervals on the page.
    """

    tree: xr.DataTree
    title: str
    truth: Array | None = None
    reference: Array | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    commands: str = ""
    checks: Checks = Checks()
    ci_prob: float = CI_PROB

    @property
    def levels(self) -> tuple[float, float]:
        """Probabilities of the inner and of the outer intervals on the page."""
        inner = INNER_PROB if self.ci_prob > INNER_PROB else self.ci_prob / 2
        return inner, self.ci_prob

    @property
    def parameter_names(self) -> list[str]:
        """One name a parameter."""
        return read_draws(self.tree).parameter_names

    @property
    def num_observations(self) -> int:
        """How many observations the chains are for."""
        return int(read_draws(self.tree).theta.shape[2])

    def find_truth(self, observation: int) -> Array | None:
        """Return the true parameters of one observation, shape `(D,)`, if known."""
        if self.truth is None or self.truth.ndim == 1:
            return self.truth
        return np.asarray(self.truth[observation])

    def measure_convergence(self) -> ChainCheck:
        """Hold what was measured of the chains against limits.

        They are those of the run, or the usual ones where those are stricter: a run
        that was asked for little has not converged by that.
        """
        found = read_convergence(self.tree)
        if "observation" not in found.dims:
            found = found.expand_dims("observation")
        max_rhat = _read_limit(self.tree, "max_rhat", _MAX_RHAT)
        min_ess = _read_limit(self.tree, "min_ess", _MIN_ESS)
        return ChainCheck(
            r_hat=found["r_hat"].values,
            ess=np.minimum(found["ess_bulk"].values, found["ess_tail"].values),
            stuck_chains=found["stuck_chains"].values,
            max_rhat=min(max_rhat, _MAX_RHAT),
            min_ess=max(min_ess, _MIN_ESS),
            run_max_rhat=max_rhat if max_rhat > _MAX_RHAT else None,
            run_min_ess=min_ess if min_ess < _MIN_ESS else None,
        )


def _read_limit(tree: xr.DataTree, name: str, usual: float) -> float:
    """The limit that a run had; the usual one where it says none that could be one."""
    try:
        limit = float(tree.attrs.get(name, usual))
    except (TypeError, ValueError):
        return usual
    return limit if 0 < limit < float("inf") else usual
