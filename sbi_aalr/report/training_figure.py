"""The loss over training: does it still fall at the end?"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sbi_aalr.diagnostics.plot_style import BLUE, INK, RED, make_figure, tidy_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Losses of single batches jump; the eye needs their mean.
_MAX_POINTS = 400
# Fewer than these are marked.
_FEW_POINTS = 30


def has_losses(training: Mapping[str, Sequence[float]]) -> bool:
    """Whether there is a curve to draw."""
    return any(len(training.get(name, ())) > 1 for name in _LABELS)


_LABELS = {
    "training_loss": ("training", BLUE),
    "validation_loss": ("validation, held out", RED),
}


def plot_training(training: Mapping[str, Sequence[float]]) -> "Figure":
    """Draw the losses of a trainer's `summary`, averaged where they are many.

    Args:
        training: `training_loss`, by step or epoch, and `validation_loss`, if there,
            by epoch.
    """
    longest = max(len(training.get(name, ())) for name in _LABELS)
    figure = make_figure(7.5, 3.4)
    axes = figure.subplots()
    tidy_axes(axes)
    for name, (label, color) in _LABELS.items():
        losses = np.asarray(training.get(name, ()), dtype=float)
        if len(losses) < 2:
            continue
        parts = np.array_split(losses, min(len(losses), _MAX_POINTS))
        # An epoch is as many steps as there are for each.
        ends = np.cumsum([len(part) for part in parts]) * longest / len(losses)
        means = [float(part.mean()) for part in parts]
        marker = "o" if len(means) < _FEW_POINTS else ""
        axes.plot(
            ends, means, marker=marker, color=color, linewidth=1.4, ms=3, label=label
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    low, high = axes.get_ylim()
    axes.yaxis.set_minor_formatter("{x:g}" if high < 20 * low else "")
    axes.tick_params(which="minor", labelsize=8)
    axes.set_xlabel("step or epoch", color=INK)
    axes.set_ylabel("loss, nats", color=INK)
    axes.legend(frameon=False, fontsize=8)
    return figure
