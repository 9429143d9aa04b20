"""Figures of a table: what stands in them, and which are written."""

import numpy as np
import pytest
from comparison_table import make_table
from matplotlib.colors import to_hex
from matplotlib.image import imread

from sbi_aalr.comparison import plot_metric, plot_wall_time
from sbi_aalr.comparison.figures import save_figures


@pytest.fixture(scope="module")
def table():
    return make_table()


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
