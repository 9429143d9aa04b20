import math

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from sbi_aalr.cli.terminal import show_observations, show_problem, show_summary

COLUMNS = [
    *("truth", "mean", "sd", "eti94_lb", "eti94_ub"),
    *("ess_bulk", "ess_tail", "r_hat"),
]


def make_figures(r_hat, ess=1_000.0):
    r_hat = np.asarray(r_hat, dtype=float)
    pair = ("observation", "parameter")
    ones = np.ones(len(r_hat))
    return xr.Dataset(
        {
            "r_hat": (pair, r_hat[:, None]),
            "ess_bulk": (pair, np.full((len(r_hat), 1), ess)),
            "ess_tail": (pair, np.full((len(r_hat), 1), ess)),
            "acceptance_rate": ("observation", 0.25 * ones),
            "num_steps": ("observation", (1_000 * ones).astype(int)),
            "converged": ("observation", r_hat < 1.01),
        },
        {"observation": np.arange(len(r_hat))},
    )


def read_cells(text):
    return [line.split() for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("sds", "truths"),
    [
        ([0.5, 2.0], ["1.235", "1.235"]),
        ([2.0, 2.0], ["1.23", "1.23"]),
        ([1e-3, 20.0], ["1.23457", "1.2"]),
        ([0.0, math.nan], ["1.235", "1.235"]),
    ],
)
def test_summary_rounds_to_what_the_spread_supports(capsys, sds, truths):
    rows = [[1.234567, 0.0, sd, -1.0, 1.0, 4_321.9, 399.9, 1.01004] for sd in sds]
    show_summary(pd.DataFrame(rows, ["a", "b"], COLUMNS), "Title [bold]")
    title, header, _, *shown = read_cells(capsys.readouterr().out)
    assert title == ["Title", "[bold]"]
    assert " ".join(header) == (
        "parameter truth mean sd 94% interval ESS bulk ESS tail R-hat"
    )
    assert [row[1] for row in shown] == truths
    # Never rounded up to the limit of 400.
    assert shown[0][-3:] == ["4,321", "399", "1.0100"]


def test_summary_fits_into_80_columns(capsys):
    row = [-12.345, -12.345, 12.3, -12.345, -12.345, 10_000, 10_000, 1.0123]
    show_summary(pd.DataFrame([row], ["parameter_10"], COLUMNS), "Title")
    out = capsys.readouterr().out
    assert "…" not in out and max(map(len, out.splitlines())) <= 80


def test_few_observations_are_shown_in_order(capsys):
    show_observations(make_figures([1.001, 1.2, 1.003]), "Title")
    _, _, _, *shown = read_cells(capsys.readouterr().out)
    assert [row[:2] for row in shown] == [["0", "1.0010"], ["1", "1.2000"],
                                          ["2", "1.0030"]]  # fmt: skip
    assert shown[0][2:] == ["1,000", "25%", "1,000"]


def test_many_observations_are_shown_worst_first(capsys):
    r_hat = np.linspace(1, 1.1, 50)
    r_hat[7] = math.nan
    show_observations(make_figures(r_hat), "Title")
    title, _, _, *shown = read_cells(capsys.readouterr().out)
    assert " ".join(title) == "Title; the 20 with the largest R-hat"
    assert len(shown) == 20
    assert [row[0] for row in shown[:3]] == ["7", "49", "48"]


def test_problem_is_one_line_on_stderr_as_it_is(capsys):
    show_problem("Error", "`a[0]`  must be\n [red]small[/red] " + 100 * "x")
    captured = capsys.readouterr()
    assert captured.out == ""
    line = "Error: `a[0]` must be [red]small[/red] " + 100 * "x"
    assert captured.err == line + "\n"
