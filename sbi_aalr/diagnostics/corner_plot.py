"""The corner plot: every parameter, and every pair of them, in one figure."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from sbi_aalr.diagnostics.corner_inputs import (
    Posterior,
    check_levels,
    check_others,
    read_posteriors,
)
from sbi_aalr.diagnostics.draws import Array, DrawsLike
from sbi_aalr.diagnostics.plot_style import (
    GREY,
    INK,
    LIGHT_GREY,
    RED,
    make_figure,
    show_estimate,
    show_levels,
    tidy_axes,
    typeset,
)
from sbi_aalr.diagnostics.smooth_density import find_window, smooth_line, smooth_plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FILLS, _GREY_FILLS = ("#CFE3F1", "#8FBFDF"), (LIGHT_GREY, "#A6A6A6")
# Fainter where several lie over each other.
_ALPHAS = (0.18, 0.35)
_MOST_TITLED = 8


def plot_corner(
    samples: DrawsLike | Mapping[str, DrawsLike],
    *,
    truth: Tensor | ArrayLike | None = None,
    reference: Tensor | ArrayLike | None = None,
    parameter_names: Sequence[str] | None = None,
    observation: int | None = None,
    label: str = "samples",
    levels: Sequence[float] = (0.68, 0.95),
    titles: bool = True,
) -> "Figure":
    """Draw marginals and pairwise densities of one posterior, or of several.

    Contours enclose the shares in `levels` of the draws. Densities are kernel estimates
    whose width follows the effective number of draws, and whole up to the bounds.

    Args:
        samples: Draws, shape `(N, D)`, `(C, S, D)` or, with `observation`,
            `(C, S, B, D)`; a `Chains`; or a DataTree made by `to_datatree`. A dict of
            such, by what the legend calls them, lays posteriors over each other.
        truth: True parameters, shape `(D,)`, prior units; marked by lines.
        reference: Draws to compare with, such as exact ones, shape `(N, D)`; drawn in
            grey behind the samples.
        parameter_names: One name a parameter, by default those of the DataTree, else
            `theta_1` to `theta_D`. Text between dollar signs is set as mathematics.
        observation: Which observation to draw, where there are several.
        label: What the legend calls the samples, if they are no dict.
        levels: Shares of the draws inside of contours; any number of them.
        titles: Whether to write the median of a single posterior above each parameter,
            with the distance to both ends of the interval of the smallest level.

    Returns:
        A matplotlib figure with the `D * (D + 1) / 2` axes of the lower triangle, row
        by row. Save it with its `savefig`; pyplot does not hold on to it.

    Raises:
        TypeError: If samples are of another type.
        ValueError: If shapes or names do not fit, draws are NaN or infinite, levels lie
            outside 0 and 1, or `observation` is missing or out of range.

    Example:
        >>> import torch
        >>> figure = plot_corner(torch.randn(500, 2), truth=[0.0, 0.0])
        >>> figure.savefig("corner.png")  # doctest: +SKIP
    """
    shares = check_levels(levels)
    posteriors, names = read_posteriors(samples, parameter_names, observation, label)
    exact, marks = check_others(reference, truth, len(names))
    num_parameters = len(names)
    cell = min(1.9, 14 / num_parameters)
    side = max(3.2, cell * num_parameters + 0.4)
    figure = make_figure(side, side)
    grid = figure.add_gridspec(num_parameters, num_parameters)
    parts = [one.draws for one in posteriors] + ([] if exact is None else [exact])
    ranges = [find_window([p[:, j] for p in parts]) for j in range(num_parameters)]
    views = [_find_view(parts, marks, j) for j in range(num_parameters)]
    for row in range(num_parameters):
        for column in range(row + 1):
            axes = figure.add_subplot(grid[row, column])
            tidy_axes(axes)
            axes.set_xlim(*views[column])
            axes.locator_params(nbins=4, steps=[1, 2, 5, 10])
            if row == column:
                _draw_marginal(axes, column, posteriors, exact, marks, ranges)
                if titles and len(posteriors) == 1 and num_parameters <= _MOST_TITLED:
                    values = posteriors[0].draws[:, column]
                    title = show_estimate(names[column], values, min(shares))
                    axes.set_title(title, fontsize=9, color=INK)
            else:
                _draw_pair(
                    axes, (column, row), posteriors, exact, marks, ranges, shares
                )
                axes.set_ylim(*views[row])
            if row == num_parameters - 1:
                axes.set_xlabel(typeset(names[column]), color=INK)
            else:
                axes.tick_params(labelbottom=False)
            if column == 0 and row > 0:
                axes.set_ylabel(typeset(names[row]), color=INK)
            elif row != column:
                axes.tick_params(labelleft=False)
    figure.align_labels()
    _draw_legend(figure, posteriors, exact is not None, marks, shares)
    return figure


def _find_view(
    parts: Sequence[Array], truth: Array | None, column: int
) -> tuple[float, float]:
    """What of an axis is shown: all but the few draws that lie far out."""
    bounds = np.array([np.quantile(part[:, column], [0.002, 0.998]) for part in parts])
    low, high = float(bounds[:, 0].min()), float(bounds[:, 1].max())
    if not low < high:
        low, high = find_window([part[:, column] for part in parts])
    if truth is not None:
        low, high = min(low, float(truth[column])), max(high, float(truth[column]))
    room = 0.05 * (high - low)
    return low - room, high + room


def _draw_marginal(
    axes: "Axes",
    column: int,
    posteriors: list[Posterior],
    reference: Array | None,
    truth: Array | None,
    ranges: list[tuple[float, float]],
) -> None:
    if reference is not None:
        part = reference[:, column]
        heights, edges = smooth_line(part, ranges[column], len(part))
        axes.stairs(heights, edges, fill=True, facecolor=LIGHT_GREY, edgecolor=GREY)
    for one in posteriors:
        part = one.draws[:, column]
        heights, edges = smooth_line(part, ranges[column], one.num_effective)
        axes.stairs(heights, edges, edgecolor=one.color, linewidth=1.4)
    if truth is not None:
        axes.axvline(truth[column], color=RED, linewidth=1.2)
    axes.set_ylim(bottom=0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _draw_pair(
    axes: "Axes",
    pair: tuple[int, int],
    posteriors: list[Posterior],
    reference: Array | None,
    truth: Array | None,
    ranges: list[tuple[float, float]],
    shares: list[float],
) -> None:
    window, columns = (ranges[pair[0]], ranges[pair[1]]), list(pair)
    alone = len(posteriors) == 1 and reference is None
    if reference is not None:
        found = smooth_plane(reference[:, columns], window, len(reference), shares)
        fills = _spread(_GREY_FILLS, len(shares))
        axes.contourf(*found[:3], [*found.levels, np.inf], colors=fills)
    for one in posteriors:
        found = smooth_plane(one.draws[:, columns], window, one.num_effective, shares)
        heights = [*found.levels, np.inf]
        if alone:
            fills = _spread(_FILLS, len(shares))
            axes.contourf(*found[:3], heights, colors=fills)
        elif len(posteriors) > 1:
            for index, alpha in enumerate(_spread(_ALPHAS, len(shares))):
                band = heights[index : index + 2]
                axes.contourf(*found[:3], band, colors=[one.color], alpha=alpha)
        widths = _spread((0.9, 1.4), len(shares))
        axes.contour(*found[:3], found.levels, colors=one.color, linewidths=widths)
    if truth is not None:
        axes.axvline(truth[pair[0]], color=RED, linewidth=0.8)
        axes.axhline(truth[pair[1]], color=RED, linewidth=0.8)
        axes.plot(truth[pair[0]], truth[pair[1]], "s", color=RED, markersize=4)


def _spread(values: Sequence[object], count: int) -> list[object]:
    """As many values, from the first to the last."""
    last = len(values) - 1
    return [values[round(index * last / max(count - 1, 1))] for index in range(count)]


def _draw_legend(
    figure: "Figure",
    posteriors: list[Posterior],
    has_reference: bool,
    truth: Array | None,
    shares: list[float],
) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Line2D | Patch] = [
        Line2D([], [], color=one.color, linewidth=1.4, label=one.label)
        for one in posteriors
    ]
    if has_reference:
        handles.append(
            Patch(facecolor=LIGHT_GREY, edgecolor=GREY, label="exact posterior")
        )
    if truth is not None:
        handles.append(
            Line2D([], [], color=RED, marker="s", markersize=4, label="truth")
        )
    single = len(figure.axes) == 1
    fontsize = 8 if len(figure.axes) < 6 else 10
    figure.legend(
        handles=handles,
        loc="outside upper center" if single else "upper right",
        frameon=False,
        fontsize=fontsize,
        title=None if single else f"contours: {show_levels(shares)}",
        title_fontsize=fontsize,
        alignment="left",
    )
