"""The corner plot: what is drawn, and what it refuses."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from known_draws import draw_independent
from matplotlib.colors import to_hex

from sbi_aalr.diagnostics import plot_corner, to_datatree
from sbi_aalr.diagnostics.plot_style import BLUE, LIGHT_GREY


def get_legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_plot_corner_has_a_labelled_lower_triangle_and_a_legend():
    plt.close("all")
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
    exact, drawn = figure.axes[0].patches
    assert to_hex(drawn.get_edgecolor(), keep_alpha=False).upper() == BLUE
    assert to_hex(exact.get_facecolor(), keep_alpha=False).upper() == LIGHT_GREY
    for patch in (exact, drawn):
        heights, edges, _ = patch.get_data()
        assert (heights * np.diff(edges)).sum() == pytest.approx(1)
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
    # The radii that hold 95 % and 68 % of a standard normal in the plane.
    for vertices, share in ((outer, 0.95), (inner, 0.68)):
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
    for axes in (figure.axes[index] for index in (0, 2, 5)):
        heights, edges, _ = axes.patches[-1].get_data()
        (full,) = heights.nonzero()[0]
        assert edges[full] <= 1 <= edges[full + 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"truth": [0.0]}, r"`truth` must have shape \(2,\).*got \(1,\)"),
        ({"reference": torch.ones(9, 3)}, r"`reference` must have shape \(N, 2\)"),
        ({"reference": torch.ones(0, 2)}, r"with a row at least, got \(0, 2\)"),
        ({"reference": [[1.0], [1.0, 2.0]]}, "`reference` must have rows of one len"),
        ({"parameter_names": 3}, "`parameter_names` must be a list of strings, got 3"),
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


def test_plot_corner_titles_have_the_median_and_its_errors():
    theta = torch.linspace(0, 1, 1_001)[:, None].expand(-1, 2)
    figure = plot_corner(theta, parameter_names=["a", "a long name"])
    assert figure.axes[0].get_title() == "a = $0.50^{+0.34}_{-0.34}$"
    assert figure.axes[2].get_title() == "a long name\n$0.50^{+0.34}_{-0.34}$"
    bare = plot_corner(theta, titles=False)
    assert {axes.get_title() for axes in bare.axes} == {""}


def test_plot_corner_lays_posteriors_over_each_other():
    several = {"first": draw_independent(300, 2), "second": draw_independent(4, 90, 2)}
    figure = plot_corner(several, truth=[0.0, 0.0], levels=[0.5, 0.9, 0.99])
    assert get_legend(figure) == ["first", "second", "truth"]
    assert figure.legends[0].get_title().get_text() == "contours: 50 %, 90 % and 99 %"
    colors = {to_hex(patch.get_edgecolor()) for patch in figure.axes[0].patches}
    assert len(colors) == 2
    assert {axes.get_title() for axes in figure.axes} == {""}


@pytest.mark.parametrize(
    ("samples", "levels", "message"),
    [
        ({}, [0.5], "got an empty dict"),
        ({"a": torch.ones(9, 2), "b": torch.ones(9, 3)}, [0.5], "in 'b', 3"),
        (torch.ones(9, 2), [68], "`levels` must lie strictly between 0 and 1, got 68"),
        (torch.ones(9, 2), [], "`levels` must have a share at least"),
    ],
)
def test_plot_corner_refuses_overlays_and_levels_that_cannot_be(
    samples, levels, message
):
    with pytest.raises(ValueError, match=message):
        plot_corner(samples, levels=levels)
