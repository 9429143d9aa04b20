"""AALR beside sbi's other methods: the same tasks, budgets, seeds and metrics for all.

`compare` runs everything and writes a table; `METHODS` and `TASKS` say what there is.
"""

from sbi_aalr.comparison.compare import compare
from sbi_aalr.comparison.figures import plot_metric, plot_wall_time
from sbi_aalr.comparison.methods import METHODS, Method
from sbi_aalr.comparison.metrics import mmd, two_sample_scores
from sbi_aalr.comparison.rows import METRICS, read_table
from sbi_aalr.comparison.summary import summarise
from sbi_aalr.comparison.tasks import TASKS, Task

__all__ = [
    "METHODS",
    "METRICS",
    "TASKS",
    "Method",
    "Task",
    "compare",
    "mmd",
    "plot_metric",
    "plot_wall_time",
    "read_table",
    "summarise",
    "two_sample_scores",
]
