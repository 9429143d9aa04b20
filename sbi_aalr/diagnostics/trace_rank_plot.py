"""Traces and rank plots: do the chains stay put, and do they agree?

Both panels stay readable for hundreds of chains. Ranks are drawn as each chain's
empirical distribution (ECDF) of pooled ranks minus the uniform one, which is flat for
chains that agree, and chains that do not are named.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from sbi_aalr.diagnostics.convergence import MIN_DRAWS, measure_convergence
from sbi_aalr.diagnostics.draws import Array, DrawsLike, read_draws
from sbi_aalr.diagnostics.plot_style import (
    ACCENTS,
    BLUE,
    INK,
    LIGHT_GREY,
    make_figure,
    tidy_axes,
    typeset,
)
from sbi_aalr.diagnostics.rank_ecdf import GRID, find_band, subtract_uniform

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# More lines than this are summarised by quantiles over chains.
_MAX_LINES = 8
_AXES = {"chain_axis": 0, "draw_axis": 1}
_TITLE: dict[str, Any] = {"fontsize": 8, "color": INK, "loc": "right"}


def plot_trace_rank(
    draws: DrawsLike,
    *,
    parameter_names: Sequence[str] | None = None,
    observation: int | None = None,
) -> "Figure":
    """Draw, for each parameter, the chains over time and how their ranks compare.

    Left: the draws in order, for more than 8 chains the density over all of them, which
    is the same from left to right once chains are warm. Right: the share of a chain's
    draws up to each rank, less the share it would have if all chains agreed. If they
    do, all chains stay in the grey band with a probability of at least 95 % for each
    parameter; the band allows for autocorrelation within chains, so slow chains need
    R-hat and ESS, in the titles, to be judged. The five chains furthest outside are
    drawn in colour in both panels.

    Args:
        draws: A `Chains`, a tensor or array of shape `(C, S, D)` or `(C, S, B, D)`, or
            a DataTree made by `to_datatree`.
        parameter_names: One name a parameter, by default those of the DataTree, else
            `theta_1` to `theta_D`. Text between dollar signs is set as mathematics.
        observation: Which observation to draw, where there are several.

    Returns:
        A matplotlib figure with two axes a parameter, trace before ranks. Save it with
        its `savefig`; pyplot does not hold on to it.

    Raises:
        TypeError: If draws are of another type.
        ValueError: If shapes or names do not fit, draws are NaN or infinite, or
            `observation` is missing or out of range.

    Example:
        >>> import torch
        >>> figure = plot_trace_rank(torch.randn(4, 100, 2))
        >>> len(figure.axes)
        4
    """
    read = read_draws(draws, parameter_names=parameter_names)
    theta = read.for_observation(observation).astype(np.float64)
    if not np.isfinite(theta).all():
        raise ValueError("`draws` must be finite, got NaN or infinity.")
    num_chains, _, num_parameters = theta.shape
    columns = list(np.moveaxis(theta, -1, 0))
    differences = np.stack([_compare_ranks(column) for column in columns])
    bands = np.array([_find_band(column) for column in columns])
    outside = np.abs(differences).max(axis=-1) / bands[:, None]
    accents = _choose_accents(outside.max(axis=0))
    if not isinstance(draws, xr.DataTree):
        convergence = measure_convergence(theta)
    else:
        one = draws.isel(observation=observation or 0) if read.batched else draws
        convergence = measure_convergence(one)
    r_hat = convergence["r_hat"].values
    ess = np.minimum(convergence["ess_bulk"].values, convergence["ess_tail"].values)

    figure = make_figure(10, 0.9 + 1.6 * num_parameters)
    grid = figure.subplots(num_parameters, 2, squeeze=False, width_ratios=(3, 2))
    for row, name in enumerate(read.parameter_names):
        trace, ranks = grid[row]
        tidy_axes(trace)
        tidy_axes(ranks)
        _draw_trace(trace, columns[row], accents)
        _draw_ranks(ranks, differences[row], bands[row], accents)
        trace.set_ylabel(typeset(name), color=INK)
        trace.set_title(f"R-hat {r_hat[row]:.3f}   ESS {ess[row]:,.0f}", **_TITLE)
        num_outside = int((outside[row] > 1).sum())
        agreement = f"{num_outside} of {num_chains} chains outside"
        ranks.set_title(agreement if num_chains > 1 else "only one chain", **_TITLE)
        if row < num_parameters - 1:
            trace.tick_params(labelbottom=False)
            ranks.tick_params(labelbottom=False)
    grid[-1, 0].set_xlabel("draw", color=INK)
    grid[-1, 1].set_xlabel("rank among the draws of all chains", color=INK)
    figure.align_ylabels(grid[:, 0])
    _draw_legend(figure, num_chains, accents)
    return figure


def _compare_ranks(column: Array) -> Array:
    """Compare each chain's ranks among all draws with uniform ones, `(C, grid)`."""
    from scipy.stats import rankdata

    ranks = ((rankdata(column) - 0.5) / column.size).reshape(column.shape)
    return np.stack([subtract_uniform(chain) for chain in ranks])


def _find_band(column: Array) -> float:
    """Allow for autocorrelation: a chain has as many ranks as effective draws."""
    import arviz_stats

    num_chains, num_draws = column.shape
    effective = float(num_draws)
    if num_draws >= MIN_DRAWS:
        with np.errstate(all="ignore"):
            within = [arviz_stats.ess(chain[None], **_AXES) for chain in column]
        effective = float(np.clip(np.nanmedian(within), 1, num_draws))
    return find_band(int(effective), num_chains)


def _choose_accents(outside: Array) -> dict[int, str]:
    worst_first = np.argsort(-outside)[: len(ACCENTS)]
    chains = sorted(int(chain) for chain in worst_first if outside[chain] > 1)
    return dict(zip(chains, ACCENTS, strict=False))


def _draw_trace(axes: "Axes", column: Array, accents: dict[int, str]) -> None:
    num_chains, num_draws = column.shape
    steps = np.arange(num_draws)
    if num_chains <= _MAX_LINES:
        axes.plot(steps, column.T, color=BLUE, linewidth=0.5, alpha=0.5)
    else:
        _draw_density(axes, column)
    for chain, color in accents.items():
        axes.plot(steps, column[chain], color=color, linewidth=0.7)
    axes.set_xlim(0, max(num_draws - 1, 1))
    axes.locator_params(axis="x", integer=True)
    axes.locator_params(axis="y", nbins=4)


def _draw_density(axes: "Axes", column: Array) -> None:
    from matplotlib.colors import LinearSegmentedColormap
    from scipy.ndimage import gaussian_filter

    num_draws = column.shape[1]
    low, high = float(column.min()), float(column.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts, *edges = np.histogram2d(
        np.broadcast_to(np.arange(num_draws), column.shape).ravel(),
        column.ravel().astype(float),
        bins=(min(num_draws, 80), 60),
        range=[(-0.5, num_draws - 0.5), (low, high)],
    )
    # Some bins hold a draw more than others, which would show as stripes.
    counts /= counts.sum(axis=1, keepdims=True)
    # From nothing to blue, so that it suits a dark page too.
    shades = LinearSegmentedColormap.from_list("shades", [f"{BLUE}00", BLUE])
    density = gaussian_filter(counts, sigma=1, mode="reflect").T
    # Scaled to the maximum, a few dark cells would leave all others pale.
    top = max(float(np.quantile(density, 0.99)), 1e-12)
    axes.pcolormesh(*edges, density, cmap=shades, vmin=0, vmax=top, rasterized=True)


def _draw_ranks(
    axes: "Axes", differences: Array, band: float, accents: dict[int, str]
) -> None:
    axes.axhspan(-band, band, color=LIGHT_GREY, alpha=0.6, linewidth=0)
    alpha = float(np.clip(10 / len(differences), 0.15, 0.7))
    axes.plot(GRID, differences.T, color=BLUE, linewidth=0.8, alpha=alpha)
    for chain, color in accents.items():
        axes.plot(GRID, differences[chain], color=color, linewidth=1.2)
    reach = 1.1 * max(band, float(np.abs(differences).max()))
    axes.set_xlim(0, 1)
    axes.set_ylim(-reach, reach)
    axes.locator_params(axis="y", nbins=4)


def _draw_legend(figure: "Figure", num_chains: int, accents: dict[int, str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if num_chains <= _MAX_LINES:
        handles: list[Any] = [Line2D([], [], color=BLUE, label="a chain")]
    else:
        text = "density of all chains"
        handles = [Patch(facecolor=BLUE, alpha=0.4, label=text)]
    text = "95 % band of chains that agree"
    handles.append(Patch(facecolor=LIGHT_GREY, label=text))
    for chain, color in accents.items():
        handles.append(Line2D([], [], color=color, label=f"chain {chain}"))
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=len(handles),
        frameon=False,
        fontsize=8,
    )
