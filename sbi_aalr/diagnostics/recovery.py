"""Estimated against true parameters over a test set."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from sbi_aalr.checks import check_fraction, check_parameter_names
from sbi_aalr.diagnostics.draws import Array, DrawsLike, read_draws, to_array
from sbi_aalr.diagnostics.plot_style import (
    BLUE,
    GREY,
    INK,
    make_figure,
    tidy_axes,
    typeset,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NUM_COLUMNS = 3


def plot_recovery(
    draws: DrawsLike,
    truth: Tensor | ArrayLike,
    *,
    parameter_names: Sequence[str] | None = None,
    level: float = 0.68,
) -> "Figure":
    """Draw the posterior of each observation against the parameters that made it.

    Args:
        draws: As `sample_batched` returns them, shape `(N, B, D)`; with chains,
            `(C, S, B, D)`; or a DataTree made by `to_datatree`.
        truth: The parameters that the observations were simulated from, shape `(B, D)`.
        parameter_names: One name a parameter, by default those of the DataTree, else
            `theta_1` to `theta_D`.
        level: Probability of the equal-tailed interval that is drawn around each
            median.

    Returns:
        A matplotlib figure, an axis a parameter. Its title tells the correlation of
        medians and truths, and how many truths lie in their interval: about `level` of
        them, if the posterior is calibrated.

    Raises:
        TypeError: If draws or truths are of another type.
        ValueError: If shapes or names do not fit, or numbers are NaN or infinite.

    Example:
        >>> import torch
        >>> truth = torch.randn(50, 2)
        >>> draws = truth + 0.3 * torch.randn(50, 2) + 0.3 * torch.randn(400, 50, 2)
        >>> figure = plot_recovery(draws, truth)
    """
    level = check_fraction("level", level)
    theta, names = _read(draws, parameter_names)
    true_values = to_array("truth", truth)
    if true_values.shape != theta.shape[1:]:
        raise ValueError(
            f"`truth` must have shape {theta.shape[1:]}, a row an observation, got "
            f"{true_values.shape}."
        )
    for name, values in (("draws", theta), ("truth", true_values)):
        if not np.isfinite(values).all():
            raise ValueError(f"`{name}` must be finite, got NaN or infinity.")
    tail = (1 - level) / 2
    quantiles = np.quantile(theta, [tail, 0.5, 1 - tail], axis=0)
    return draw_recovery(quantiles, true_values, names, level)


def draw_recovery(
    quantiles: Array, truth: Array, names: Sequence[str], level: float
) -> "Figure":
    """Draw what `plot_recovery` draws, from quantiles.

    Args:
        quantiles: Lower end, median and upper end, shape `(3, B, D)`.
        truth: Shape `(B, D)`.
        names: One name a parameter.
        level: Probability between the ends.
    """
    columns = min(_NUM_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = make_figure(max(3.2 * columns, 4.2), 3.3 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for index, (axes, name) in enumerate(zip(grid.flat, names, strict=False)):
        low, median, high = quantiles[:, :, index]
        true_values = truth[:, index]
        tidy_axes(axes)
        axes.errorbar(
            true_values,
            median,
            (median - low, high - median),
            fmt="o",
            color=BLUE,
            ecolor=BLUE,
            markersize=3,
            linewidth=0.9,
            alpha=0.65,
        )
        ends = [
            min(true_values.min(), low.min()),
            max(true_values.max(), high.max()),
        ]
        axes.plot(ends, ends, color=GREY, linewidth=1, zorder=0)
        axes.set_xlabel(f"true {typeset(name)}", color=INK)
        axes.set_ylabel(f"median and {100 * level:g} %", color=INK)
        axes.locator_params(nbins=5)
        axes.set_title(_describe(low, median, high, true_values), fontsize=9, color=INK)
    for axes in list(grid.flat)[len(names) :]:
        axes.set_visible(False)
    return figure


def _describe(low: Array, median: Array, high: Array, truth: Array) -> str:
    inside = float(((low <= truth) & (truth <= high)).mean())
    text = f"{inside:.0%} inside"
    if median.std() > 0 and truth.std() > 0:
        text = f"r = {np.corrcoef(median, truth)[0, 1]:.2f}, {text}"
    return text


def _read(
    draws: DrawsLike, parameter_names: Sequence[str] | None
) -> tuple[Array, list[str]]:
    """Draws `(N, B, D)`, and one name a parameter."""
    if isinstance(draws, Tensor | np.ndarray) and draws.ndim == 3:
        theta = to_array("draws", draws)
        if theta.size == 0:
            raise ValueError(f"`draws` must not be empty, got shape {theta.shape}.")
        return theta, check_parameter_names(parameter_names, theta.shape[-1])
    read = read_draws(draws, parameter_names=parameter_names)
    return read.theta.reshape(-1, *read.theta.shape[2:]), read.parameter_names
