"""The figures: what is on them, what they refuse, and that they do not pile up."""

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from sbi_aalr.diagnostics import plot_corner, plot_trace_rank, to_datatree
from sbi_aalr.diagnostics.trace_rank_plot import _compare_ranks, _find_band


def draw_independent(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def get_legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_plot_corner_has_a_labelled_lower_triangle_and_a_legend():
    tree = to_datatree(draw_independent(4, 100, 3), parameter_names=["a", "b", "c"])
    figure = plot_corner(
        tree,
        truth=[0.0, 1.0, 2.0],
        reference=draw_independent(300, 3, seed=1),
        label="AALR",
    )
    assert len(figure.axes) == 6
    assert [axes.get_xlabel() for axes in figure.axes[3:]] == ["a", "b", "c"]
    assert [figure.axes[index].get_ylabel() for index in (1, 3)] == ["b", "c"]
    assert get_legend(figure) == ["AALR", "exact posterior", "truth"]
    assert plt.get_fignums() == []


def test_plot_corner_marks_truth_and_keeps_it_in_view():
    figure = plot_corner(draw_independent(500, 2), truth=[9.0, -9.0])
    marginal, pair, _ = figure.axes
    assert marginal.get_xlim()[1] > 9
    assert pair.get_ylim()[0] < -9
    marks = [line for line in pair.lines if line.get_marker() == "s"]
    assert [(*line.get_xdata(), *line.get_ydata()) for line in marks] == [(9.0, -9.0)]


def test_plot_corner_contours_enclose_the_stated_shares():
    theta = draw_independent(20_000, 2)
    figure = plot_corner(theta)
    contours = figure.axes[1].collections[-1]
    outer, inner = (path.vertices for path in contours.get_paths())
    # The radii that hold 90 % and 50 % of a standard normal in the plane.
    for vertices, share in ((outer, 0.9), (inner, 0.5)):
        radius = np.linalg.norm(vertices, axis=1).mean()
        assert radius == pytest.approx(np.sqrt(-2 * np.log(1 - share)), rel=0.03)


@pytest.mark.parametrize("shape", [(50, 2), (5, 10, 2), (5, 10, 1, 2)])
def test_plot_corner_takes_every_shape_of_draws(shape):
    figure = plot_corner(draw_independent(*shape))
    labels = [axes.get_xlabel() for axes in figure.axes[1:]]
    assert labels == [r"$\theta_{1}$", r"$\theta_{2}$"]


def test_plot_corner_selects_an_observation():
    theta = draw_independent(4, 50, 3, 1) + 100 * torch.arange(3.0)[:, None]
    low, high = plot_corner(to_datatree(theta), observation=2).axes[0].get_xlim()
    assert 190 < low < 200 < high < 210
    with pytest.raises(ValueError, match=r"an index from 0 to 2, got None.*choose one"):
        plot_corner(theta)
    with pytest.raises(ValueError, match=r"an index from 0 to 2, got 3"):
        plot_corner(theta, observation=3)


@pytest.mark.parametrize("num_draws", [1, 400])
def test_plot_corner_draws_what_does_not_vary(num_draws, tmp_path):
    figure = plot_corner(torch.ones(num_draws, 3), reference=draw_independent(50, 3))
    figure.savefig(tmp_path / "constant.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"truth": [0.0]}, r"`truth` must have shape \(2,\).*got \(1,\)"),
        ({"reference": torch.ones(9, 3)}, r"`reference` must have shape \(N, 2\)"),
        ({"reference": torch.ones(9)}, r"`reference` must have shape \(N, 2\)"),
        ({"samples": torch.full((9, 2), torch.nan)}, "`samples` must be finite"),
        ({"truth": [0.0, float("inf")]}, "`truth` must be finite"),
        ({"samples": torch.ones(9)}, r"must have shape \(chains, draws"),
        ({"parameter_names": ["a"]}, "must be 2 names, one a parameter, got 1"),
    ],
)
def test_plot_corner_refuses_what_does_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        plot_corner(**{"samples": torch.ones(9, 2), **arguments})


def test_plot_trace_rank_has_two_panels_a_parameter_and_figures():
    tree = to_datatree(
        draw_independent(4, 200, 2, seed=1), parameter_names=["rate", "size"]
    )
    figure = plot_trace_rank(tree)
    assert [axes.get_ylabel() for axes in figure.axes] == ["rate", "", "size", ""]
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert labels == ["", "", "draw", "rank among the draws of all chains"]
    assert figure.axes[0].get_title(loc="right").startswith("R-hat 1.0")
    assert figure.axes[1].get_title(loc="right") == "0 of 4 chains outside"
    assert [len(axes.lines) for axes in figure.axes[:2]] == [4, 4]
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


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 2), (20, 2, 1), (9, 100, 1, 1)])
def test_plot_trace_rank_draws_few_draws_and_constants(shape, tmp_path):
    plot_trace_rank(draw_independent(*shape)).savefig(tmp_path / "varied.png")
    plot_trace_rank(torch.ones(shape)).savefig(tmp_path / "constant.png")


def test_plot_trace_rank_selects_an_observation():
    theta = draw_independent(4, 50, 3, 1) + 100 * torch.arange(3.0)[:, None]
    figure = plot_trace_rank(theta, observation=1)
    assert np.mean(figure.axes[0].lines[0].get_ydata()) == pytest.approx(100, abs=1)
    with pytest.raises(ValueError, match="an index from 0 to 2, got None"):
        plot_trace_rank(theta)


def test_plot_trace_rank_refuses_nan():
    with pytest.raises(ValueError, match="`draws` must be finite"):
        plot_trace_rank(torch.full((4, 50, 1), torch.nan))


def test_rank_differences_by_hand():
    # Chain 0 holds the lower half of all draws, chain 1 the upper.
    column = np.array([[1.0, 2.0], [3.0, 4.0]])
    differences = _compare_ranks(column)
    np.testing.assert_allclose(differences[:, 50], [0.5, -0.5])
    np.testing.assert_allclose(differences[:, [0, -1]], 0)


def test_rank_band_holds_chains_that_agree_and_widens_with_autocorrelation():
    generator = np.random.default_rng(0)
    num_out = 0
    for _ in range(100):
        column = generator.normal(size=(10, 100))
        num_out += np.abs(_compare_ranks(column)).max() > _find_band(column)
    # At most 5 % may leave, plus 3 standard errors of 100 trials.
    assert num_out <= 11
    slow = generator.normal(size=(10, 100)).cumsum(axis=1)
    assert _find_band(slow) > 2 * _find_band(generator.normal(size=(10, 100)))


def test_diagnostics_import_without_plotting_libraries():
    code = (
        "import sys, sbi_aalr.diagnostics; "
        "heavy = {'matplotlib', 'arviz_plots', 'arviz_stats', 'sbi', 'scipy'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
