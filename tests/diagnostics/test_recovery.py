"""The plot of estimates against truths: what it draws, says and refuses."""

import numpy as np
import pytest
import torch

from sbi_aalr.diagnostics import plot_recovery, to_datatree
from sbi_aalr.seeding import seeded


def make(bias=0.0):
    with seeded(1):
        truth = torch.randn(60, 2)
        centre = truth + 0.5 * torch.randn(60, 2) + bias
        return centre + 0.5 * torch.randn(400, 60, 2), truth


def test_each_parameter_has_an_axis_with_medians_against_truths():
    draws, truth = make()
    figure = plot_recovery(draws, truth, parameter_names=["a", "b"])
    assert len(figure.axes) == 2
    assert [axes.get_xlabel() for axes in figure.axes] == ["true a", "true b"]
    for index, axes in enumerate(figure.axes):
        x, y = axes.lines[0].get_data()
        assert np.allclose(x, truth[:, index])
        assert np.allclose(y, np.median(draws[..., index], axis=0))
    share = float(figure.axes[0].get_title().split(", ")[1].split("%")[0]) / 100
    assert share == pytest.approx(0.68, abs=0.15)


def test_biased_estimates_are_seen_in_the_title():
    figure = plot_recovery(*make(bias=2.0))
    assert int(figure.axes[0].get_title().split(", ")[1].split("%")[0]) < 10


def test_trees_and_arrays_are_the_same():
    draws, truth = make()
    tree = to_datatree(draws.reshape(4, 100, 60, 2), parameter_names=["a", "b"])
    titles = [axes.get_title() for axes in plot_recovery(tree, truth).axes]
    assert titles == [axes.get_title() for axes in plot_recovery(draws, truth).axes]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"truth": torch.zeros(9, 2)}, r"`truth` must have shape \(60, 2\)"),
        ({"truth": torch.full((60, 2), torch.nan)}, "`truth` must be finite"),
        ({"level": 68}, "`level` must lie strictly between"),
        ({"parameter_names": ["a"]}, "must be 2 names"),
        ({"draws": torch.zeros(0, 60, 2)}, "`draws` must not be empty"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    draws, truth = make()
    with pytest.raises(ValueError, match=message):
        plot_recovery(**{"draws": draws, "truth": truth, **changes})
