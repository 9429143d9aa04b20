"""What chains say about themselves, and what simulations say about the ratio.

ArviZ export, R-hat and ESS, tables and plots; the ratio ROC test, calibration and the
other checks that need a simulator. `Familiarity`, `measure_familiarity` and
`warn_if_far` are the earlier names of `Misspecification` and its functions.
"""

from sbi_aalr.diagnostics.balance import ClassifierBalance, classifier_balance
from sbi_aalr.diagnostics.convergence import measure_convergence, read_convergence
from sbi_aalr.diagnostics.convergence_warning import warn_if_not_converged
from sbi_aalr.diagnostics.corner_plot import plot_corner
from sbi_aalr.diagnostics.coverage import ExpectedCoverage, expected_coverage
from sbi_aalr.diagnostics.datatree import to_datatree, to_inference_data
from sbi_aalr.diagnostics.getdist_samples import to_getdist
from sbi_aalr.diagnostics.misspecification import (
    Misspecification,
    measure_misspecification,
    warn_if_misspecified,
)
from sbi_aalr.diagnostics.predictive import add_predictive
from sbi_aalr.diagnostics.predictive_check import PredictiveCheck, predictive_check
from sbi_aalr.diagnostics.ratio_normalisation import (
    RatioNormalisation,
    ratio_normalisation,
)
from sbi_aalr.diagnostics.ratio_roc import RatioROC, ratio_roc
from sbi_aalr.diagnostics.recovery import plot_recovery
from sbi_aalr.diagnostics.split_parameters import split_parameters
from sbi_aalr.diagnostics.table import summary
from sbi_aalr.diagnostics.trace_rank_plot import plot_trace_rank

# The names that these had before.
Familiarity = Misspecification
measure_familiarity = measure_misspecification
warn_if_far = warn_if_misspecified

__all__ = [
    "ClassifierBalance",
    "ExpectedCoverage",
    "Familiarity",
    "Misspecification",
    "PredictiveCheck",
    "RatioNormalisation",
    "RatioROC",
    "add_predictive",
    "classifier_balance",
    "expected_coverage",
    "measure_convergence",
    "measure_familiarity",
    "measure_misspecification",
    "plot_corner",
    "plot_recovery",
    "plot_trace_rank",
    "predictive_check",
    "ratio_normalisation",
    "ratio_roc",
    "read_convergence",
    "split_parameters",
    "summary",
    "to_datatree",
    "to_getdist",
    "to_inference_data",
    "warn_if_far",
    "warn_if_misspecified",
    "warn_if_not_converged",
]
