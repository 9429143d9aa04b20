r"""The paper's test of the ratio itself, which needs a simulator but no likelihood.

As $p(x|\theta) = p(x)\,r(x|\theta)$, data from the marginal $p(x)$ with the estimated
ratio for weights must look like data simulated at $\theta$. A classifier is trained to
tell them apart; where it succeeds, the ratio is wrong. Where it fails, no flaw was
found, which is not the same as there being none.

References:
    Hermans, Begy & Louppe (2020), arXiv:1903.04057, section on diagnostics; Nadeau &
    Bengio (2003), Machine Learning 52, for the error of a cross-validated score.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks import (
    check_fraction,
    check_positive_float,
    check_positive_int,
    check_prior,
)
from sbi_aalr.diagnostics.draws import Array
from sbi_aalr.diagnostics.inputs import check_theta_row
from sbi_aalr.diagnostics.log_ratio import LogRatio
from sbi_aalr.diagnostics.marginal import MAX_ROWS, draw_marginal
from sbi_aalr.diagnostics.plot_style import BLUE, GREY, INK, make_axes
from sbi_aalr.diagnostics.weighted_auc import AUC, weighted_auc, weighted_roc
from sbi_aalr.seeding import seeded
from sbi_aalr.simulation.adapt import adapt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NUM_FOLDS = 5
_GRID = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class RatioROC:
    """What `ratio_roc` found.

    Attributes:
        auc: Area under the ROC curve, mean over the folds; 0.5 if no flaw was found.
        auc_standard_error: Its standard error.
        roc_curve: False and true positive rates, shape `(2, 101)`, mean over the folds.
        effective_sample_size: Of the weights, (sum w)^2 / sum w^2.
        min_effective_sample_size: Below this nothing is judged.
        p_value: Probability of an AUC at least as large if the ratio is exact.
        false_alarm_rate: Probability with which an exact ratio fails.
    """

    auc: float
    auc_standard_error: float
    roc_curve: Array
    effective_sample_size: float
    min_effective_sample_size: float
    p_value: float
    false_alarm_rate: float

    @property
    def passed(self) -> bool | None:
        """Whether no flaw was found; None if too few weights count to judge."""
        if not self.effective_sample_size >= self.min_effective_sample_size:
            return None
        return self.p_value >= self.false_alarm_rate

    @property
    def verdict(self) -> str:
        """The outcome in words."""
        if self.passed is None:
            return (
                "Not judged: the weights have an effective sample size of "
                f"{self.effective_sample_size:.1f}, below "
                f"{self.min_effective_sample_size:g}. Raise `num_simulations`."
            )
        found = "No flaw found" if self.passed else "The ratio is wrong here"
        return f"{found}: AUC {self.auc:.3f} ± {self.auc_standard_error:.3f}."

    def plot(self) -> "Figure":
        """Draw the ROC curve beside the diagonal of a classifier that knows nothing."""
        figure, (axes,) = make_axes(4.4, 4.6)
        false, true = self.roc_curve
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="no flaw: AUC 0.5")
        axes.plot(false, true, color=BLUE, linewidth=1.8, label="classifier")
        axes.fill_between(false, true, false, color=BLUE, alpha=0.15, linewidth=0)
        axes.set(aspect="equal", xlim=(0, 1), ylim=(0, 1))
        axes.set_xlabel("false positive rate", color=INK)
        axes.set_ylabel("true positive rate", color=INK)
        words = self.verdict.replace("`", "")
        axes.set_title(words, fontsize=9, color=INK, wrap=True)
        axes.legend(frameon=False, fontsize=8, loc="lower right")
        return figure


def ratio_roc(
    log_ratio: LogRatio,
    simulator: Callable[..., Any],
    prior: Distribution,
    theta: Tensor,
    *,
    num_simulations: int = 100_000,
    classifier: Any = None,
    false_alarm_rate: float = 0.01,
    min_effective_sample_size: float = 200,
    seed: int | None = None,
    exclude_invalid_x: bool = False,
) -> RatioROC:
    r"""Test a log-ratio at one set of parameters by a classifier.

    Data x ~ p(x) with weights r(x|theta) are told from data x ~ p(x|theta) by a
    classifier, cross-validated in five folds. A ratio that is too sharp, too flat or
    shifted gives an AUC above 0.5. A factor that depends on theta alone goes unseen, as
    weights have no scale; `ratio_normalisation` sees it.

    Args:
        log_ratio: A ratio estimator or any callable (theta, x) -> `(N,)`, nats.
        simulator: Any simulator that sbi accepts.
        prior: The prior that the ratio was trained with.
        theta: Where to test, shape `(D,)`, prior units.
        num_simulations: Draws from the marginal. Informative data need many: their
            effective number is printed in the result.
        classifier: Any scikit-learn classifier that takes weights; by default gradient
            boosted trees.
        false_alarm_rate: Probability with which an exact ratio fails.
        min_effective_sample_size: With a smaller one of the weights, nothing is judged.
        seed: Makes the test repeatable; the global generators are left untouched.
        exclude_invalid_x: Simulate again, at the same parameters, where the simulator
            gives NaN or infinity.

    Returns:
        AUC, its error, the ROC curve and a verdict.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If a number is out of range, shapes do not fit, theta lies outside
            the prior, the prior or the simulator cannot be used, the ratio is NaN or
            the weights are all zero.

    References:
        Hermans et al. (2020), arXiv:1903.04057.

    Example:
        >>> import torch
        >>> from torch.distributions import MultivariateNormal
        >>> prior = MultivariateNormal(torch.zeros(1), torch.eye(1))
        >>> def simulator(theta):
        ...     return theta + torch.randn_like(theta)
        >>> def log_ratio(theta, x):  # of N(theta, 1) to N(0, 2), exact
        ...     return (-((x - theta) ** 2) / 2 + x**2 / 4)[:, 0]
        >>> theta, few = torch.zeros(1), {"num_simulations": 4_000, "seed": 1}
        >>> ratio_roc(log_ratio, simulator, prior, theta, **few).passed
        True
    """
    check_prior("prior", prior)
    row = check_theta_row(theta, prior)
    num_simulations = check_positive_int("num_simulations", num_simulations)
    false_alarm_rate = check_fraction("false_alarm_rate", false_alarm_rate)
    minimum = check_positive_float(
        "min_effective_sample_size", min_effective_sample_size
    )
    batched = adapt(simulator, prior, exclude_invalid_x)
    with seeded(seed):
        marginal = draw_marginal(log_ratio, batched, prior, row, num_simulations)
        count = max(min(num_simulations, MAX_ROWS), 10 * _NUM_FOLDS)
        x_theta = batched(row.to(prior.sample((1,))).expand(count, -1))
        random_state = int(torch.randint(2**31, ()))
    auc, curve = _cross_validate(
        x_theta.flatten(1).cpu().double().numpy(),
        marginal.x.flatten(1).double().numpy(),
        (marginal.log_weights - marginal.log_weights.max()).exp().numpy(),
        classifier,
        random_state,
    )
    return RatioROC(
        auc=auc.value,
        auc_standard_error=auc.standard_error,
        roc_curve=curve,
        effective_sample_size=marginal.effective_sample_size,
        min_effective_sample_size=minimum,
        p_value=_find_p_value(auc),
        false_alarm_rate=false_alarm_rate,
    )


def _cross_validate(
    positive: Array,
    negative: Array,
    weights: Array,
    classifier: Any,
    random_state: int,
) -> tuple[AUC, Array]:
    from sklearn.base import clone
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold

    if classifier is None:
        classifier = HistGradientBoostingClassifier(
            max_iter=60, max_leaf_nodes=4, early_stopping=False, random_state=0
        )
    if len(negative) < 2 * _NUM_FOLDS:
        return AUC(float("nan"), float("nan")), np.stack((_GRID, _GRID))
    rows = np.concatenate((positive, negative))
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    all_weights = np.concatenate((np.ones(len(positive)), weights))
    folds = StratifiedKFold(_NUM_FOLDS, shuffle=True, random_state=random_state)
    areas, curves = [], []
    for train, test in folds.split(rows, labels):
        balanced = all_weights[train].copy()
        for label in (0, 1):
            balanced[labels[train] == label] /= balanced[labels[train] == label].mean()
        fitted = clone(classifier).fit(
            rows[train], labels[train], sample_weight=balanced
        )
        scores = fitted.predict_proba(rows[test])[:, 1]
        is_positive = labels[test] == 1
        parts = (scores[is_positive], scores[~is_positive])
        outside = all_weights[test][~is_positive]
        areas.append(weighted_auc(*parts, outside))
        curves.append(weighted_roc(*parts, outside, _GRID))
    # The folds' classifiers share rows of training, which makes their areas correlate:
    # Nadeau and Bengio's correction, the ratio of tested to trained rows, added to 1/K.
    variance = np.mean([area.standard_error**2 for area in areas])
    error = np.sqrt(variance * (1 / _NUM_FOLDS + 1 / (_NUM_FOLDS - 1)))
    mean = float(np.mean([area.value for area in areas]))
    return AUC(mean, float(error)), np.stack((_GRID, np.mean(curves, axis=0)))


def _find_p_value(auc: AUC) -> float:
    from scipy.stats import norm

    if auc.standard_error > 0:
        return float(norm.sf((auc.value - 0.5) / auc.standard_error))
    return 1.0 if auc.value <= 0.5 else 0.0
