"""Traces and ranks: what is drawn, who is accused, and what is refused."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from known_draws import draw_independent

from sbi_aalr.diagnostics import measure_convergence, plot_trace_rank, to_datatree


def get_legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_plot_trace_rank_has_two_panels_a_parameter_and_numbers():
    plt.close("all")
    theta = draw_independent(4, 200, 2, seed=1)
    figure = plot_trace_rank(to_datatree(theta, parameter_names=["rate", "size"]))
    assert [axes.get_ylabel() for axes in figure.axes] == ["rate", "", "size", ""]
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert labels == ["", "", "draw", "rank among the draws of all chains"]
    found = measure_convergence(theta)
    ess = np.minimum(found["ess_bulk"], found["ess_tail"])
    for row in range(2):
        title = f"R-hat {found['r_hat'][row]:.3f}   ESS {ess[row]:,.0f}"
        assert figure.axes[2 * row].get_title(loc="right") == title
        drawn = [line.get_ydata() for line in figure.axes[2 * row].lines]
        np.testing.assert_array_equal(drawn, theta[:, :, row].numpy())
    assert figure.axes[1].get_title(loc="right") == "0 of 4 chains outside"
    assert plt.get_fignums() == []


def test_plot_trace_rank_names_the_chain_that_disagrees_among_many():
    theta = draw_independent(100, 50, 2)
    theta[7, :, 1] = 2.5
    figure = plot_trace_rank(theta)
    assert get_legend(figure)[-1] == "chain 7"
    titles = [axes.get_title(loc="right") for axes in figure.axes]
    assert titles[1] == "0 of 100 chains outside"
    assert titles[3] == "1 of 100 chains outside"
    # Many chains are a density with the accented chain on top.
    assert len(figure.axes[2].lines) == 1
    np.testing.assert_array_equal(figure.axes[2].lines[0].get_ydata(), [2.5] * 50)
    # In one colour in both panels.
    assert figure.axes[3].lines[-1].get_color() == figure.axes[2].lines[0].get_color()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 2), (20, 2, 1), (9, 100, 1, 1)])
def test_plot_trace_rank_draws_few_draws_and_constants(shape, tmp_path):
    for theta in (draw_independent(*shape), torch.ones(shape)):
        figure = plot_trace_rank(theta)
        figure.savefig(tmp_path / "few.png")
        column = theta.reshape(*shape[:2], -1)[:, :, 0].numpy()
        trace = figure.axes[0]
        if len(column) <= 8:
            drawn = [line.get_ydata() for line in trace.lines]
            np.testing.assert_array_equal(drawn[: len(column)], column)
            continue
        # The darkest cell of a density is at a height where there are draws.
        (mesh,) = trace.collections
        density, corners = mesh.get_array(), mesh.get_coordinates()
        row, at = np.unravel_index(density.argmax(), density.shape)
        low, high = corners[row, at, 1], corners[row + 1, at, 1]
        assert column.min() <= high and low <= column.max()
        assert density.shape[1] == min(column.shape[1], 80)


def test_plot_trace_rank_selects_an_observation():
    theta = draw_independent(4, 50, 3, 1) + 100 * torch.arange(3.0)[:, None]
    figure = plot_trace_rank(theta, observation=1)
    assert np.mean(figure.axes[0].lines[0].get_ydata()) == pytest.approx(100, abs=1)
    with pytest.raises(ValueError, match="an index from 0 to 2, got None"):
        plot_trace_rank(theta)


def test_plot_trace_rank_refuses_nan():
    with pytest.raises(ValueError, match="`draws` must be finite"):
        plot_trace_rank(torch.full((4, 50, 1), torch.nan))


def draw_rank_lines(theta):
    """Differences of ranks as drawn, `(C, 101)`, and half the width of their band."""
    axes = plot_trace_rank(theta).axes[1]
    lines = [line.get_ydata() for line in axes.lines[: len(theta)]]
    return np.stack(lines), axes.patches[0].get_height() / 2


def test_plot_trace_rank_draws_differences_of_ranks():
    # Chain 0 holds the lower half of all draws, chain 1 the upper.
    lines, _ = draw_rank_lines(torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]]))
    np.testing.assert_allclose(lines[:, 50], [0.5, -0.5])
    np.testing.assert_allclose(lines[:, [0, -1]], 0)


def test_plot_trace_rank_band_holds_chains_that_agree_and_widens_with_autocorrelation():
    theta = draw_independent(10, 100, 1)
    lines, band = draw_rank_lines(theta)
    assert np.abs(lines).max() < band
    _, wide = draw_rank_lines(theta.cumsum(dim=1))
    assert wide > 2 * band
