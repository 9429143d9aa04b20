"""Figures of the checks that need a simulator: ROC curve, coverage, normalisation."""

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

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

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sbi_aalr.diagnostics.coverage import ExpectedCoverage
    from sbi_aalr.diagnostics.ratio_normalisation import RatioNormalisation

_Array: TypeAlias = np.ndarray[Any, Any]

_RANK_GRID = np.linspace(0, 1, 101)
# The band that 95 % of uniform samples stay in throughout.
_FALSE_ALARM = 0.05
_MAX_LABELS = 8
_MAX_TICKS = 20


def plot_roc(roc_curve: _Array, title: str) -> "Figure":
    """Draw a ROC curve, shape `(2, N)`, beside the diagonal."""
    figure, axes = _make_square()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="no flaw: AUC 0.5")
    axes.plot(*roc_curve, color=BLUE, linewidth=1.8, label="classifier")
    axes.fill_between(
        roc_curve[0], roc_curve[1], roc_curve[0], color=BLUE, alpha=0.15, linewidth=0
    )
    axes.set_xlabel("false positive rate", color=INK)
    axes.set_ylabel("true positive rate", color=INK)
    axes.set_title(title, fontsize=9, color=INK, wrap=True)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def plot_coverage(found: "ExpectedCoverage") -> "Figure":
    """Draw coverage against level, and the ranks of each parameter beside it."""
    from scipy.stats import kstwo

    figure = make_figure(9, 4.2)
    left, right = figure.subplots(1, 2)
    tidy_axes(left)
    tidy_axes(right)
    left.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="calibrated")
    left.fill_between(
        found.levels,
        found.lower,
        found.upper,
        color=BLUE,
        alpha=0.2,
        linewidth=0,
        label="95 % interval",
    )
    left.plot(found.levels, found.coverage, color=BLUE, linewidth=1.8, label="measured")
    left.set_xlabel("credible level", color=INK)
    left.set_ylabel("share of truths inside", color=INK)
    left.set_title("above: too wide; below: too narrow", fontsize=9, color=INK)
    left.legend(frameon=False, fontsize=8, loc="upper left")
    left.set_aspect("equal")

    count = len(found.ranks)
    band = float(kstwo.isf(_FALSE_ALARM, count))
    right.axhspan(-band, band, color=LIGHT_GREY, alpha=0.6, linewidth=0)
    names = found.parameter_names
    alpha = 1.0 if len(names) <= _MAX_LABELS else 0.4
    styles = ("-", "--", ":", "-.")
    for column, name in enumerate(names):
        share = np.searchsorted(np.sort(found.ranks[:, column]), _RANK_GRID, "right")
        right.plot(
            _RANK_GRID,
            share / count - _RANK_GRID,
            linewidth=1.4,
            alpha=alpha,
            color=f"C{column % 10}",
            linestyle=styles[column // 2 % len(styles)],
            label=typeset(name),
        )
    right.set_xlim(0, 1)
    right.set_xlabel("rank of the truth", color=INK)
    right.set_ylabel("share below, less the uniform one", color=INK)
    right.set_title("95 % band of calibrated ranks in grey", fontsize=9, color=INK)
    if len(names) <= _MAX_LABELS:
        right.legend(frameon=False, fontsize=8, loc="best")
    return figure


def plot_normalisation(found: "RatioNormalisation") -> "Figure":
    """Draw log E_prior[r] of each observation with its limits."""
    figure = make_figure(7, 3)
    axes = figure.subplots()
    tidy_axes(axes)
    axes.axhline(0, color=GREY, linewidth=1)
    order = np.arange(len(found.log_mean))
    passing = found.judged & ~found.failed
    for chosen, color, label in (
        (passing, BLUE, "passes"),
        (found.failed, RED, "fails"),
        (~found.judged, GREY, "not judged"),
    ):
        if chosen.any():
            axes.errorbar(
                order[chosen],
                found.log_mean[chosen],
                np.nan_to_num(found.limit * found.standard_error[chosen], posinf=0),
                fmt="o",
                markersize=3.5,
                linewidth=1,
                color=color,
                label=label,
            )
    axes.set_xlim(-0.5, len(order) - 0.5)
    axes.set_xticks(order[:: -(-len(order) // _MAX_TICKS)])
    axes.set_xlabel("observation", color=INK)
    axes.set_ylabel("log E[r], nats", color=INK)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _make_square() -> "tuple[Figure, Axes]":
    figure = make_figure(4.4, 4.6)
    axes = figure.subplots()
    tidy_axes(axes)
    axes.set_aspect("equal")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    return figure, axes
