"""What the figures of this package have in common: colours, and how they are made."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's palette, which colour-blind readers can tell apart.
BLUE = "#0072B2"
RED = "#D55E00"
ACCENTS = (RED, "#CC79A7", "#009E73", "#E69F00", "#56B4E9")
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
