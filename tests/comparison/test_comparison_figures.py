"""What is made of the table: means, figures and the command's output."""

import os

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.image import imread
from typer.testing import CliRunner

from sbi_aalr.cli.app import app
from sbi_aalr.comparison import METRICS, plot_metric, plot_wall_time, summarise
from sbi_aalr.comparison.figures import save_figures
from sbi_aalr.comparison.rows import COLUMNS, Key, write_row


@pytest.fixture(scope="module")
def table():
    """Four observations of two tasks, one of them without an exact posterior."""
    rows = []
    for task in ("slcp", "mg1"):
        for i, method in enumerate(("npe", "snpe", "aalr", "mine")):
            for budget in (1_000, 10_000):
                for observation in range(1, 5):
                    row = dict.fromkeys(METRICS, 1.0)
                    row |= {"task": task, "method": method, "budget": budget}
                    row |= {"observation": observation, "seed": 1, "error": ""}
                    row["c2st"] = 0.9 - 0.1 * i - budget / 1e5 + 0.01 * observation
                    row["train_seconds"] = budget / 100
                    if task == "mg1":
                        row["c2st"] = np.nan
                    rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_summary_is_mean_and_spread_in_the_methods_order(table):
    table = table.copy()
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


def test_metric_figure_has_a_line_a_method_with_means_and_errors(table):
    figure = plot_metric(table, "c2st")
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "slcp" and axes.get_ylabel() == "C2ST"
    lines = {bars.get_label(): bars.lines for bars in axes.containers}
    assert list(lines) == ["aalr", "npe", "snpe", "mine"]
    data, _, (bars,) = lines["aalr"]
    np.testing.assert_allclose(data.get_ydata(orig=False), [0.715, 0.625])
    low, high = bars.get_segments()[0][:, 1]
    values = 0.01 * np.arange(1, 5)
    assert high - low == pytest.approx(2 * values.std(ddof=1) / 2)
    np.testing.assert_allclose(
        data.get_xdata(orig=False) / [1_000, 10_000], 1, atol=0.2
    )
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(lines)
    # Rounds keep the colour of their method, and are dashed.
    npe, snpe = lines["npe"][0], lines["snpe"][0]
    assert to_hex(npe.get_color()) == to_hex(snpe.get_color())
    assert (npe.get_linestyle(), snpe.get_linestyle()) == ("-", "--")
    colors = {to_hex(lines[name][0].get_color()) for name in ("aalr", "npe", "mine")}
    assert len(colors) == 3
    assert len(plot_metric(table, "coverage").axes) == 2


def test_wall_time_figure_places_points_at_their_seconds(table):
    (axes,) = plot_wall_time(table).axes
    aalr = next(line for line in axes.lines if line.get_label() == "aalr")
    line = next(
        line
        for line in axes.lines
        if line.get_color() == aalr.get_color() and len(line.get_xdata()) == 2
    )
    np.testing.assert_allclose(line.get_xdata(orig=False), [11.0, 101.0])
    np.testing.assert_allclose(line.get_ydata(orig=False), [0.715, 0.625])


def test_files_are_those_with_something_in_them(table, tmp_path):
    files = save_figures(table[table["task"] == "mg1"], tmp_path)
    names = {path.name for path in files}
    assert names == {path.name for path in tmp_path.iterdir()}
    assert "coverage.png" in names and not names & {"c2st.png", "wall_time.png"}
    picture = imread(tmp_path / "coverage.png")
    assert min(picture.shape[:2]) > 300 and picture[..., :3].std() > 0.05


def test_unknown_or_absent_metric_raises(table):
    with pytest.raises(ValueError, match="`metric` must be one of 'c2st'"):
        plot_metric(table, "accuracy")
    with pytest.raises(ValueError, match="`metric` must be in some row, got 'c2st'"):
        plot_wall_time(table[table["task"] == "mg1"])


def call(*arguments):
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
    return CliRunner().invoke(app, list(map(str, arguments)), env=environment)


def test_command_goes_on_and_shows_means_and_errors(tmp_path):
    """Everything but the table's end is there already, so that nothing is run."""
    out = tmp_path / "run"
    metrics = {"c2st": 0.61, "mmd": 0.02, "train_seconds": 1234.5, "max_rhat": 1.0042}
    for observation, extra in ((1, 0.0), (2, 0.02)):
        key = Key("two_moons", "npe", 1_000, observation, 7)
        write_row(out, key, {**metrics, "c2st": 0.61 + extra})
        key = key._replace(method="aalr")
        write_row(out, key, {}, "ValueError: no [brackets]")
    options = ("--tasks", "two_moons", "--methods", "aalr,npe", "--budgets", 1_000)
    options += ("--seeds", 7, "--observations", 2, "--out", out)
    result = call("compare", *options)
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "task budget method c2st mmd train seconds max rhat errors" in lines
    row = "two_moons 1,000 npe 0.620 ± 0.014 0.0200 ± 0.0000 1,234 ± 0"
    assert f"{row} 1.004 ± 0.000 0 of 2" in lines
    assert "two_moons 1,000 aalr 2 of 2" in lines
    assert lines[-1] == f"Wrote {out / 'table.csv'} and figures beside it"
    assert result.stderr.count("ValueError: no [brackets]") == 2
    assert (out / "c2st.png").exists()


@pytest.mark.parametrize(
    ("option", "value", "code", "message"),
    [
        ("--budgets", "1000,many", 2, "`budgets` must be whole numbers"),
        ("--seeds", "", 2, "`seeds` must be whole numbers"),
        ("--tasks", "moon", 1, "`tasks` must be one of 'slcp'"),
        ("--methods", "aalr,", 1, "`methods` must be one of 'aalr'"),
        ("--workers", 0, 1, "`workers` must be a positive int"),
    ],
)
def test_wrong_option_is_one_line(tmp_path, option, value, code, message):
    result = call("compare", "--out", tmp_path / "run", option, value)
    assert result.exit_code == code and result.stdout == ""
    assert result.stderr.startswith("Error: ") and message in result.stderr
    assert not (tmp_path / "run").exists()
