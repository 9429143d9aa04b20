"""Means over observations and seeds."""

from typing import TYPE_CHECKING

from sbi_aalr.comparison.methods import METHODS
from sbi_aalr.comparison.rows import METRICS

if TYPE_CHECKING:
    import pandas as pd


def summarise(table: "pd.DataFrame") -> "pd.DataFrame":
    """Average the metrics over observations and seeds.

    Args:
        table: From `compare` or `read_table`.

    Returns:
        One row a (task, budget, method), methods in the order of `METHODS`. The columns
        have two levels: each metric with its `mean` and `std`, of the rows that have
        it; then `rows` and `errors` with their `count`.
    """
    known = {name: index for index, name in enumerate(METHODS)}
    order = sorted(
        table["method"].unique(), key=lambda name: known.get(name, len(known))
    )
    rank = {name: index for index, name in enumerate(order)}
    groups = table.groupby(["task", "budget", "method"])
    summary = groups[list(METRICS)].agg(["mean", "std"])
    summary[("rows", "count")] = groups.size()
    summary[("errors", "count")] = groups["error"].agg(
        lambda error: (error != "").sum()
    )
    return summary.sort_index(
        key=lambda level: level.map(rank) if level.name == "method" else level
    )
