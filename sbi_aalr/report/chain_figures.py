"""Figures of chains that the diagnostics do not have: growth of ESS, autocorrelation.

The growth comes from arviz-plots. Its autocorrelation draws one panel a chain, which is
no use for a hundred, so that one is ours: the mean over chains with their spread, from
the values of arviz-stats.
"""

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from sbi_aalr.diagnostics.draws import Array
from sbi_aalr.diagnostics.plot_style import (
    BLUE,
    GREY,
    INK,
    RED,
    make_figure,
    tidy_axes,
    typeset,
)
from sbi_aalr.report.evidence import CI_PROB, INNER_PROB

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_LAG = 40
_NUM_COLUMNS = 3
_MAX_BARS = 25


def plot_ess_growth(
    theta: Array, parameter_names: list[str], min_ess: float
) -> "Figure":
    """Draw bulk and tail ESS of the first draws against their number.

    Args:
        theta: Draws of one observation, shape `(C, S, D)`.
        parameter_names: One name a parameter.
        min_ess: The limit, drawn as a line.
    """
    import arviz_plots
    import matplotlib.pyplot as plt
    from arviz_base import from_dict
    from matplotlib.lines import Line2D

    columns = min(_NUM_COLUMNS, len(parameter_names))
    rows = -(-len(parameter_names) // columns)
    # Not by their names, in which a DataTree allows no slash.
    variables = {f"theta_{i}": theta[..., i] for i in range(len(parameter_names))}
    tree = from_dict({"posterior": variables}, check_conventions=False)
    panels = arviz_plots.PlotCollection.wrap(
        tree["posterior"].to_dataset(),
        cols=["__variable__"],
        col_wrap=columns,
        backend="matplotlib",
        figure_kwargs={
            "figsize": (3.2 * columns, 0.9 + 2 * rows),
            "layout": "constrained",
            "sharex": False,
        },
    )
    arviz_plots.plot_ess_evolution(
        tree,
        backend="matplotlib",
        min_ess=round(min_ess),
        plot_collection=panels,
        visuals={
            "ess_bulk": {"color": BLUE, "s": 10},
            "ess_bulk_line": {"color": BLUE},
            "ess_tail": {"color": RED, "s": 10},
            "ess_tail_line": {"color": RED},
        },
    )
    figure: Figure = panels.viz["figure"].item()
    plt.close(figure)
    for axes, name in zip(figure.axes, parameter_names, strict=False):
        tidy_axes(axes)
        axes.set_title(typeset(name), fontsize=10, color=INK)
        axes.set_xlabel("draws of all chains", color=INK, fontsize=10)
        axes.set_ylabel("")
        axes.locator_params(nbins=4)
    handles = [
        Line2D([], [], color=color, marker="o", markersize=3, label=label)
        for label, color in (("bulk ESS", BLUE), ("tail ESS", RED))
    ]
    figure.legend(
        handles=handles, loc="outside upper center", ncols=2, frameon=False, fontsize=8
    )
    return figure


def plot_autocorrelation(
    theta: Array, parameter_names: list[str], ci_prob: float = CI_PROB
) -> "Figure":
    """Draw the autocorrelation of each parameter: mean, and where most chains lie.

    It is 1 at all lags for a chain that does not move.

    Args:
        theta: Draws of one observation, shape `(C, S, D)`.
        parameter_names: One name a parameter.
        ci_prob: Share of the chains in the band.
    """
    from arviz_stats.base import array_stats

    columns = min(_NUM_COLUMNS, len(parameter_names))
    rows = -(-len(parameter_names) // columns)
    figure = make_figure(3.2 * columns, 0.6 + 2 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    lags = np.arange(min(_MAX_LAG, theta.shape[1] - 1) + 1)
    for axes, index in zip(grid.flat, range(len(parameter_names)), strict=False):
        tidy_axes(axes)
        correlation = array_stats.autocorr(theta[..., index])[:, : len(lags)]
        # Of a chain that does not move it is 0 / 0.
        correlation = np.nan_to_num(correlation, nan=1.0)
        ends = [(1 - ci_prob) / 2, (1 + ci_prob) / 2]
        low, high = np.quantile(correlation, ends, axis=0)
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.fill_between(lags, low, high, color=BLUE, alpha=0.2, linewidth=0)
        axes.plot(lags, correlation.mean(axis=0), color=BLUE, linewidth=1.6)
        axes.set_title(typeset(parameter_names[index]), fontsize=10, color=INK)
        axes.set_xlabel("lag, in kept draws", color=INK)
        axes.locator_params(axis="x", integer=True)
    for axes in list(grid.flat)[len(parameter_names) :]:
        axes.set_visible(False)
    return figure


def plot_predictions(
    tree: xr.DataTree,
    observation: int | None,
    levels: tuple[float, float] = (INNER_PROB, CI_PROB),
) -> "Figure":
    """Draw what was observed among what the posterior predicts, feature by feature.

    Args:
        tree: With `observed_data` and `posterior_predictive`.
        observation: Which one, where there are several.
        levels: Probabilities of the inner and of the outer intervals.
    """
    predicted = tree["posterior_predictive"].to_dataset()["x"]
    observed = tree["observed_data"].to_dataset()["x"]
    if observation is not None:
        predicted = predicted.isel(observation=observation)
        observed = observed.isel(observation=observation)
    values = read_features(predicted, 2)
    seen = read_features(observed, 0)
    figure = make_figure(max(5.0, min(8.0, 0.5 * seen.size + 2)), 3.2)
    axes = figure.subplots()
    tidy_axes(axes)
    place = np.arange(1, seen.size + 1)
    for level, width, alpha in zip(
        sorted(levels)[::-1], (2, 5), (0.45, 1), strict=True
    ):
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
        label = f"{100 * level:g} %"
        if seen.size > _MAX_BARS:
            # Bars so narrow would run into one another.
            axes.fill_between(
                place, low, high, color=BLUE, alpha=alpha / 2, linewidth=0, label=label
            )
        else:
            axes.vlines(
                place, low, high, color=BLUE, linewidth=width, alpha=alpha, label=label
            )
    size = 4 if seen.size <= _MAX_BARS else 2
    axes.plot(place, seen, "o", color=INK, markersize=size, label="observed")
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("feature", color=INK)
    axes.set_ylabel("value", color=INK)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="best")
    return figure


def read_features(x: xr.DataArray, num_sample_dims: int) -> Array:
    """Flatten data behind its first dimensions, these into one: `(N, E)` or `(E,)`."""
    values = np.asarray(x.values)
    flat = values.reshape(*values.shape[:num_sample_dims], -1)
    return flat.reshape(-1, flat.shape[-1]) if num_sample_dims else flat
