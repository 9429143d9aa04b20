"""The figure of a test of calibration: coverage, and ranks of each parameter."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sbi_aalr.diagnostics.draws import Array
from sbi_aalr.diagnostics.plot_style import (
    BLUE,
    GREY,
    INK,
    LIGHT_GREY,
    make_axes,
    typeset,
)
from sbi_aalr.diagnostics.rank_ecdf import GRID, subtract_uniform

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# More parameters than these are drawn pale, without a legend.
_MAX_LABELS = 8


def plot_coverage(
    coverage: tuple[Array, Array],
    ranks: Mapping[str, Array],
    *,
    band: float,
    level: float,
) -> "Figure":
    """Draw coverage against level, and the ranks of each parameter beside it.

    Both have the band that the test has: it fails where a curve leaves it.

    Args:
        coverage: Credible levels, and the share of truths inside, shape `(L,)` each.
        ranks: Of the truth among draws, by name of the parameter, shape `(B,)` each.
        band: Half the width of the band.
        level: Probability with which no curve of a calibrated posterior leaves it.
    """
    figure, (left, right) = make_axes(8, 4.0, columns=2)
    words = f"where {100 * level:g} % of\ncalibrated posteriors\nstay throughout"
    _draw_coverage(left, coverage, band, words)
    _draw_ranks(right, ranks, band)
    return figure


def _draw_coverage(
    axes: "Axes", coverage: tuple[Array, Array], band: float, words: str
) -> None:
    levels, measured = coverage
    lower, upper = (levels - band).clip(0), (levels + band).clip(max=1)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="calibrated")
    axes.fill_between(
        levels, lower, upper, color=LIGHT_GREY, alpha=0.6, linewidth=0, label=words
    )
    axes.plot(levels, measured, color=BLUE, linewidth=1.8, label="measured")
    axes.set_xlabel("credible level", color=INK)
    axes.set_ylabel("share of truths inside", color=INK)
    axes.set_title("above: too wide; below: too narrow", fontsize=9, color=INK)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    axes.set_aspect("equal")


def _draw_ranks(axes: "Axes", ranks: Mapping[str, Array], band: float) -> None:
    axes.axhspan(-band, band, color=LIGHT_GREY, alpha=0.6, linewidth=0)
    styles = ("-", "--", ":", "-.")
    for column, (name, values) in enumerate(ranks.items()):
        axes.plot(
            GRID,
            subtract_uniform(values),
            linewidth=1.4,
            alpha=1.0 if len(ranks) <= _MAX_LABELS else 0.4,
            color=f"C{column % 10}",
            linestyle=styles[column // 2 % len(styles)],
            label=typeset(name),
        )
    axes.set_xlim(0, 1)
    axes.set_xlabel("rank of the truth", color=INK)
    axes.set_ylabel("share below, less the uniform one", color=INK)
    axes.set_title("in the grey band if calibrated", fontsize=9, color=INK)
    if len(ranks) <= _MAX_LABELS:
        axes.legend(frameon=False, fontsize=8, loc="best")
