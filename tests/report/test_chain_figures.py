import numpy as np
import pytest

from sbi_aalr.report.chain_figures import plot_autocorrelation


def read_means(theta):
    """Mean autocorrelation as drawn, a row for each parameter."""
    names = [f"theta_{i}" for i in range(theta.shape[-1])]
    figure = plot_autocorrelation(theta, names)
    panels = figure.axes[: len(names)]
    return np.stack([axes.lines[-1].get_ydata() for axes in panels])


def test_autocorrelation_falls_as_the_process_says():
    rng = np.random.default_rng(0)
    shares = np.array([0.0, 0.8])
    theta = rng.normal(size=(8, 4_000, 2))
    for draw in range(1, theta.shape[1]):
        theta[:, draw] += shares * theta[:, draw - 1]
    expected = shares[:, None] ** np.arange(41)
    assert read_means(theta) == pytest.approx(expected, abs=0.05)


def test_autocorrelation_is_one_where_no_chain_moves():
    theta = np.full((3, 50, 1), 2.0)
    assert np.array_equal(read_means(theta), np.ones((1, 41)))
