"""What chains say about themselves: ArviZ export, R-hat and ESS, tables and plots."""

from sbi_aalr.diagnostics.convergence import measure_convergence
from sbi_aalr.diagnostics.convergence_warning import warn_if_not_converged
from sbi_aalr.diagnostics.corner_plot import plot_corner
from sbi_aalr.diagnostics.datatree import to_datatree, to_inference_data
from sbi_aalr.diagnostics.table import summary
from sbi_aalr.diagnostics.trace_rank_plot import plot_trace_rank

__all__ = [
    "measure_convergence",
    "plot_corner",
    "plot_trace_rank",
    "summary",
    "to_datatree",
    "to_inference_data",
    "warn_if_not_converged",
]
