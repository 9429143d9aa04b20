"""Means over observations and seeds."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sbi_aalr.comparison.methods import METHODS
from sbi_aalr.comparison.rows import METRICS, check_table
from sbi_aalr.comparison.tasks import TASKS

if TYPE_CHECKING:
    import pandas as pd


def summarise(table: "pd.DataFrame") -> "pd.DataFrame":
    """Average the metrics over observations and seeds.

    Args:
        table: From `compare` or `read_table`.

    Returns:
        One row a (task, budget, method), in the order of `TASKS` and `METHODS`. The
        columns have two levels: each metric with its `mean` and `std`, of the rows that
        have it; then `rows` and `errors` with their `count`.
    """
    import pandas as pd

    table = check_table("table", table)
    order = {"task": TASKS, "method": METHODS}
    ordered = {
        name: pd.Categorical(table[name], order_names(table[name], known))
        for name, known in order.items()
    }
    groups = table.assign(**ordered).groupby(
        ["task", "budget", "method"], observed=True
    )
    summary = groups[list(METRICS)].agg(["mean", "std"])
    summary[("rows", "count")] = groups.size()
    summary[("errors", "count")] = groups["error"].agg(
        lambda error: (error != "").sum()
    )
    return summary


def order_names(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Put each name once in the order of those known, others behind by alphabet."""
    found = set(names)
    first = [name for name in known if name in found]
    return first + sorted(found.difference(first))
