"""The loss over training: does it still fall at the end?"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sbi_aalr.diagnostics.plot_style import BLUE, GREY, INK, RED, make_figure, tidy_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Losses of single batches jump; the eye needs their mean.
_MAX_POINTS = 400
# A loss that rises by more than this share of what it had fallen is over-fitted.
_RISE, _FALL = 0.1, 0.02
# Fewer than these are marked, and too few to judge.
_FEW_POINTS = 30


def has_losses(training: Mapping[str, Sequence[float]]) -> bool:
    """Whether there is a curve to draw."""
    return any(len(training.get(name, ())) > 1 for name in _LABELS)


def find_kept(training: Mapping[str, Sequence[float]]) -> int | None:
    """The pass with the least held-out loss, from 1 on, whose weights were kept."""
    held_out = np.asarray(training.get("validation_loss", ()), dtype=float)
    if len(held_out) < 2 or not np.isfinite(held_out).any():
        return None
    return int(np.nanargmin(held_out)) + 1


def describe_training(training: Mapping[str, Sequence[float]]) -> str:
    """Say in words what the curves mean for the user."""
    kept = find_kept(training)
    if kept is None:
        losses = np.asarray(training.get("training_loss", ()), dtype=float)
        if len(losses) < _FEW_POINTS:
            return f"{len(losses)} losses are too few to tell whether it is level."
        late, last = (part.mean() for part in np.array_split(losses, 10)[-2:])
        return (
            "It still falls at the end: more simulations, or more time, would help."
            if last < late - _FALL * np.ptp(losses)
            else "It is level at the end. A loss on fresh simulations cannot over-fit."
        )
    held_out = np.asarray(training["validation_loss"], dtype=float)
    least, fallen = held_out[kept - 1], held_out[0] - np.nanmin(held_out)
    which = f"pass {kept} of {len(held_out)}"
    if held_out[-1] > least + _RISE * max(fallen, 1e-12) and kept < len(held_out):
        return (
            f"The held-out loss rises after {which}, whose weights were kept: from "
            "there on the network learns its simulations by heart. More simulations "
            "would help, more passes would not."
        )
    if kept == len(held_out) and held_out[-2] - held_out[-1] > _FALL * fallen:
        return (
            "The held-out loss still falls at the end: more passes, or more "
            "simulations, would help."
        )
    return f"The held-out loss is level; the weights are those of {which}."


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
    kept = find_kept(training)
    if kept is not None:
        place = kept * longest / len(training["validation_loss"])
        axes.vlines(
            place,
            0,
            1,
            color=GREY,
            linewidth=1,
            linestyle="--",
            label="kept",
            transform=axes.get_xaxis_transform(),
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
