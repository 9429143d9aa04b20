"""The corner plot: every parameter, and every pair of them, in one figure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor

from sbi_aalr.checks import check_parameter_names
from sbi_aalr.diagnostics.draws import Array, DrawsLike, read_draws, to_array
from sbi_aalr.diagnostics.plot_style import (
    BLUE,
    GREY,
    INK,
    LIGHT_GREY,
    RED,
    make_figure,
    tidy_axes,
    typeset,
)
from sbi_aalr.mcmc.chains import Chains

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Contours enclose these shares of the draws; the outer one comes first as it is lower.
_MASSES = (0.9, 0.5)


def plot_corner(
    samples: DrawsLike,
    *,
    truth: Tensor | ArrayLike | None = None,
    reference: Tensor | ArrayLike | None = None,
    parameter_names: Sequence[str] | None = None,
    observation: int | None = None,
    label: str = "samples",
) -> "Figure":
    """Draw marginals and pairwise densities of a posterior.

    Contours enclose 50 % and 90 % of the draws, as estimated from a smoothed histogram.

    Args:
        samples: Draws, shape `(N, D)`, `(C, S, D)` or, with `observation`,
            `(C, S, B, D)`; a `Chains`; or a DataTree made by `to_datatree`.
        truth: True parameters, shape `(D,)`, prior units; marked by lines.
        reference: Draws to compare with, such as exact ones, shape `(N, D)`; drawn in
            grey behind the samples.
        parameter_names: One name a parameter, by default those of the DataTree, else
            `theta_1` to `theta_D`. Text between dollar signs is set as mathematics.
        observation: Which observation to draw, where there are several.
        label: What the legend calls the samples.

    Returns:
        A matplotlib figure with the `D * (D + 1) / 2` axes of the lower triangle, row
        by row. Save it with its `savefig`; pyplot does not hold on to it.

    Raises:
        TypeError: If samples are of another type.
        ValueError: If shapes or names do not fit, draws are NaN or infinite, or
            `observation` is missing or out of range.

    Example:
        >>> import torch
        >>> figure = plot_corner(torch.randn(500, 2), truth=[0.0, 0.0])
        >>> figure.savefig("corner.png")  # doctest: +SKIP
    """
    draws, names = _flatten(samples, parameter_names, observation)
    exact = None if reference is None else to_array("reference", reference)
    if exact is not None and (
        exact.ndim != 2 or exact.shape[1] != len(names) or exact.size == 0
    ):
        raise ValueError(
            f"`reference` must have shape (N, {len(names)}) with a row at least, got "
            f"{exact.shape}."
        )
    marks = None if truth is None else to_array("truth", truth)
    if marks is not None and marks.shape != (len(names),):
        raise ValueError(
            f"`truth` must have shape ({len(names)},), one value a parameter, got "
            f"{marks.shape}."
        )
    for name, rows in (("samples", draws), ("reference", exact), ("truth", marks)):
        if rows is not None and not np.isfinite(rows).all():
            raise ValueError(f"`{name}` must be finite, got NaN or infinity.")

    num_parameters = len(names)
    cell = min(1.9, 14 / num_parameters)
    side = max(3.2, cell * num_parameters + 0.4)
    figure = make_figure(side, side)
    grid = figure.add_gridspec(num_parameters, num_parameters)
    ranges = [_find_range(j, draws, exact) for j in range(num_parameters)]
    views = [_pad(ranges[j], marks, j) for j in range(num_parameters)]
    for row in range(num_parameters):
        for column in range(row + 1):
            axes = figure.add_subplot(grid[row, column])
            tidy_axes(axes)
            axes.set_xlim(*views[column])
            axes.locator_params(nbins=4, steps=[1, 2, 5, 10])
            if row == column:
                _draw_marginal(axes, column, draws, exact, marks, ranges)
            else:
                _draw_pair(axes, column, row, draws, exact, marks, ranges)
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
    _draw_legend(figure, label, exact is not None, marks)
    return figure


def _flatten(
    samples: DrawsLike, parameter_names: Sequence[str] | None, observation: int | None
) -> tuple[Array, list[str]]:
    if not isinstance(samples, Chains | xr.DataTree):
        array = to_array("samples", samples)
        if array.ndim == 2 and array.size:
            return array, check_parameter_names(parameter_names, array.shape[1])
    read = read_draws(samples, parameter_names=parameter_names, name="samples")
    theta = read.for_observation(observation)
    return theta.reshape(-1, theta.shape[-1]), read.parameter_names


def _find_range(
    column: int, draws: Array, reference: Array | None
) -> tuple[float, float]:
    parts = [draws[:, column]] + ([] if reference is None else [reference[:, column]])
    # The few draws far out would squeeze all others into a corner.
    bounds = np.array([np.quantile(part, [0.002, 0.998]) for part in parts])
    low, high = float(bounds[:, 0].min()), float(bounds[:, 1].max())
    if low < high:
        return low, high
    room = max(0.5, 0.1 * abs(low))
    return low - room, low + room


def _pad(
    bounds: tuple[float, float], truth: Array | None, column: int
) -> tuple[float, float]:
    low, high = bounds
    if truth is not None:
        low, high = min(low, float(truth[column])), max(high, float(truth[column]))
    room = 0.05 * (high - low)
    return low - room, high + room


def _draw_marginal(
    axes: "Axes",
    column: int,
    draws: Array,
    reference: Array | None,
    truth: Array | None,
    ranges: list[tuple[float, float]],
) -> None:
    if reference is not None:
        heights, edges = _bin(reference[:, column], ranges[column])
        axes.stairs(heights, edges, fill=True, facecolor=LIGHT_GREY, edgecolor=GREY)
    heights, edges = _bin(draws[:, column], ranges[column])
    axes.stairs(heights, edges, color=BLUE, linewidth=1.4)
    if truth is not None:
        axes.axvline(truth[column], color=RED, linewidth=1.2)
    axes.set_ylim(bottom=0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _bin(values: Array, bounds: tuple[float, float]) -> tuple[Array, Array]:
    return np.histogram(values, _count_bins(len(values)), range=bounds, density=True)


def _draw_pair(
    axes: "Axes",
    column: int,
    row: int,
    draws: Array,
    reference: Array | None,
    truth: Array | None,
    ranges: list[tuple[float, float]],
) -> None:
    window = (ranges[column], ranges[row])
    if reference is not None:
        x, y, density, levels = _estimate_density(reference[:, [column, row]], window)
        colors = [LIGHT_GREY, "#A6A6A6"]
        axes.contourf(x, y, density, [*levels, np.inf], colors=colors)
    x, y, density, levels = _estimate_density(draws[:, [column, row]], window)
    if reference is None:
        colors = ["#CFE3F1", "#8FBFDF"]
        axes.contourf(x, y, density, [*levels, np.inf], colors=colors)
    axes.contour(x, y, density, levels, colors=BLUE, linewidths=(0.9, 1.4))
    if truth is not None:
        axes.axvline(truth[column], color=RED, linewidth=0.8)
        axes.axhline(truth[row], color=RED, linewidth=0.8)
        axes.plot(truth[column], truth[row], "s", color=RED, markersize=4)


def _estimate_density(
    pairs: Array, window: tuple[tuple[float, float], tuple[float, float]]
) -> tuple[Array, Array, Array, list[float]]:
    """Return grid, smoothed histogram, and the heights that enclose `_MASSES`."""
    from scipy.ndimage import gaussian_filter

    bins = _count_bins(len(pairs))
    counts, x_edges, y_edges = np.histogram2d(
        pairs[:, 0], pairs[:, 1], bins=bins, range=np.array(window)
    )
    # Reflecting keeps the density up to where a bounded prior cuts it off.
    density = gaussian_filter(counts, sigma=1.2, mode="reflect").T
    ordered = np.sort(density.ravel())[::-1]
    mass = np.cumsum(ordered) / ordered.sum()
    outer, inner = (float(ordered[np.searchsorted(mass, m)]) for m in _MASSES)
    # Contours need rising levels, which draws in a single bin do not give.
    inner = max(inner, float(np.nextafter(outer, np.inf)))
    # From bin centres out to the edges, or contours would stop half a bin short.
    density = np.pad(density, 1, mode="edge")
    x, y = (_centre(edges) for edges in (x_edges, y_edges))
    return x, y, density, [outer, inner]


def _centre(edges: Array) -> Array:
    return np.array([edges[0], *((edges[1:] + edges[:-1]) / 2), edges[-1]])


def _count_bins(num_draws: int) -> int:
    return int(np.clip(2 * num_draws ** (1 / 3), 16, 60))


def _draw_legend(
    figure: "Figure", label: str, has_reference: bool, truth: Array | None
) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Line2D | Patch] = [
        Line2D([], [], color=BLUE, linewidth=1.4, label=label)
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
        title=None if single else "contours: 50 % and 90 %",
        title_fontsize=fontsize,
        alignment="left",
    )
