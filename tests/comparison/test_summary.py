"""Means over observations and seeds."""

import numpy as np
import pytest
from comparison_table import make_table

from sbi_aalr.comparison import summarise


def test_summary_is_mean_and_spread_in_the_methods_order():
    table = make_table()
    table.loc[0, ["c2st", "error"]] = np.nan, "RuntimeError: no"
    summary = summarise(table)
    cell = summary.loc["slcp", 10_000, "aalr"]
    values = 0.7 - 0.1 + 0.01 * np.arange(1, 5)
    assert cell["c2st", "mean"] == pytest.approx(values.mean())
    assert cell["c2st", "std"] == pytest.approx(values.std(ddof=1))
    order = list(summary.loc["slcp", 1_000].index)
    assert order == ["aalr", "npe", "snpe", "mine"]
    spoiled = summary.loc["slcp", 1_000, "npe"]
    assert (spoiled["rows", "count"], spoiled["errors", "count"]) == (4, 1)
    assert spoiled["c2st", "mean"] == pytest.approx(0.89 + 0.03)
