"""What the figures of this package have in common: colours, and how they are made."""

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sbi_aalr.diagnostics.draws import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's palette, which colour-blind readers can tell apart.
BLUE = "#0072B2"
RED = "#D55E00"
ACCENTS = (RED, "#CC79A7", "#009E73", "#E69F00", "#56B4E9")
# For posteriors laid over a blue one; the truth is red.
OVERLAYS = ("#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#5B3A8C")
INK = "#333333"
GREY = "#8A8A8A"
LIGHT_GREY = "#D9D9D9"


def make_figure(width: float, height: float) -> "Figure":
    """Return a figure, in inches, that notebooks show and pyplot does not hold on to.

    Going through pyplot is what tells a notebook how to show it; closing it there keeps
    many figures from piling up. It can be drawn on and saved as any other.
    """
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(width, height), dpi=100, layout="constrained")
    plt.close(figure)
    figure.set_facecolor("white")
    return figure


def make_axes(
    width: float, height: float, columns: int = 1
) -> "tuple[Figure, list[Axes]]":
    """Return a figure, in inches, with tidy axes side by side."""
    figure = make_figure(width, height)
    row = figure.subplots(1, columns, squeeze=False)[0]
    for axes in row:
        tidy_axes(axes)
    return figure, list(row)


def tidy_axes(axes: "Axes") -> None:
    """Take away the frame's upper and right side and quieten the rest."""
    axes.set_facecolor("white")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=8, length=3, color=GREY)


def typeset(name: str) -> str:
    r"""Return a name as a figure shows it: `theta_1` as the Greek letter, indexed.

    Example:
        >>> typeset("theta_1"), typeset("infection rate")
        ('$\\theta_{1}$', 'infection rate')
    """
    return re.sub(r"^theta_(\d+)$", r"$\\theta_{\1}$", name)


def show_levels(levels: Sequence[float]) -> str:
    """Name shares in per cent, the smallest first.

    Example:
        >>> show_levels([0.95, 0.68])
        '68 % and 95 %'
    """
    *before, last = (f"{100 * level:g} %" for level in sorted(levels))
    return f"{', '.join(before)} and {last}" if before else last


def show_estimate(name: str, values: Array, level: float) -> str:
    r"""Write a parameter's median with the distances to both ends of an interval.

    Args:
        name: Its name.
        values: Draws, shape `(N,)`.
        level: Probability of the equal-tailed interval.

    Example:
        >>> show_estimate("theta_1", np.linspace(0, 1, 101), 0.68)
        '$\\theta_{1}$ = $0.50^{+0.34}_{-0.34}$'
    """
    tail = (1 - level) / 2
    low, median, high = (float(v) for v in np.quantile(values, [tail, 0.5, 1 - tail]))
    below, above = median - low, high - median
    least = min((size for size in (below, above) if size > 0), default=1.0)
    # Two digits of the smaller error.
    power = math.floor(math.log10(least)) - 1
    scale = max(abs(median), above, below)
    if power <= -5 or scale >= 1e5:
        exponent = math.floor(math.log10(scale)) if scale > 0 else 0
        unit, decimals = 10.0**exponent, max(0, min(8, exponent - power))
        factor = rf" \times 10^{{{exponent}}}"
    else:
        unit, decimals, factor = 1.0, max(0, -power), ""
    numbers = [f"{value / unit:.{decimals}f}" for value in (median, above, below)]
    shown = f"${numbers[0]}^{{+{numbers[1]}}}_{{-{numbers[2]}}}{factor}$"
    shown_name = typeset(name)
    # Long names would run into the title beside.
    return f"{shown_name}\n{shown}" if len(name) > 9 else f"{shown_name} = {shown}"
