"""What a stack is made of: the loss of each member, and how much it counts."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sbi_aalr.diagnostics.plot_style import BLUE, GREY, INK, RED, make_figure, tidy_axes
from sbi_aalr.report.training_figure import describe_training, find_kept

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = {
    "posterior_mixture": "density of the parameters",
    "likelihood_mixture": "density of the data",
    "given_density": "the density that was given",
    "two_towers": "network",
}
_LOSSES = ("training_loss", "validation_loss")
_COLUMNS = 2


class StackMember(NamedTuple):
    """One estimator of a stack.

    Attributes:
        name: What it is, in words.
        weight: How much it counts; 0 if it was left out, None if nobody knows.
        losses: `training_loss` and `validation_loss`, by pass, nats; empty for a closed
            form.
    """

    name: str
    weight: float | None
    losses: dict[str, list[float]]


def summarise_stack(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """What to keep of a trainer's `summary`, to tell of its stack later.

    Args:
        summary: The summary, whose last recipe is looked at.

    Returns:
        `has_correction` and `structures`, as JSON can hold them; None without a stack.
    """
    recipes = summary.get("recipe") or [{}]
    last = recipes[-1]
    if not isinstance(last, Mapping) or last.get("classifier") != "stack":
        return None
    kept = ("structure", "weight", *_LOSSES)
    structures = [
        {name: one[name] for name in kept if name in one and _is_finite(one[name])}
        for one in last["structures"]
    ]
    return {"has_correction": bool(last["has_correction"]), "structures": structures}


def list_stacked(training: Mapping[str, Any]) -> list[StackMember]:
    """The members of a stack; none where there was only one estimator.

    Args:
        training: A trainer's `summary`, or a mapping with what `summarise_stack` made
            of it in `stack`.
    """
    stack = training.get("stack") or summarise_stack(training) or {"structures": []}
    members = []
    for one in stack["structures"]:
        losses = {name: list(one.get(name, ())) for name in _LOSSES}
        name = NAMES.get(one["structure"], one["structure"])
        members.append(StackMember(name, one.get("weight"), losses))
    count = {m.name: sum(o.name == m.name for o in members) for m in members}
    seen: dict[str, int] = {}
    for place, member in enumerate(members):
        if count[member.name] > 1:
            number = seen[member.name] = seen.get(member.name, 0) + 1
            members[place] = member._replace(name=f"{member.name} {number}")
    return members


def describe_stack(training: Mapping[str, Any]) -> str:
    """Say in words what was stacked, and what the curve of the chief member means."""
    members = list_stacked(training)
    stack = training.get("stack") or summarise_stack(training) or {}
    used = sorted((m for m in members if m.weight), key=lambda m: -(m.weight or 0))
    rest = [m.name for m in members if m.weight == 0]
    words = "Losses of each estimator that was trained, pass by pass; those of "
    words += "different kinds cannot be compared. "
    if used:
        shares = ", ".join(f"{m.name} ({m.weight:.2g})" for m in used)
        words += f"What is sampled is their stack, by held-out loss, of: {shares}"
        words += ", with a correction" if stack.get("has_correction") else ""
        words += f"; left out: {', '.join(rest)}. " if rest else ". "
    curved = [m for m in used or members if _has_curve(m)]
    if curved:
        words += f"Of the {curved[0].name}: {describe_training(curved[0].losses)}"
    return words.strip()


def has_curves(training: Mapping[str, Any]) -> bool:
    """Whether there are curves of members to draw."""
    return any(_has_curve(member) for member in list_stacked(training))


def plot_stack(training: Mapping[str, Any]) -> "Figure":
    """Draw the losses of each member that was trained, in a panel of its own."""
    members = [member for member in list_stacked(training) if _has_curve(member)]
    rows = math.ceil(len(members) / _COLUMNS)
    figure = make_figure(7.5, 0.4 + 2.1 * rows)
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).flat
    for axes, member in zip(panels, members, strict=False):
        tidy_axes(axes)
        for name, color in zip(_LOSSES, (BLUE, RED), strict=True):
            losses = np.asarray(member.losses[name], dtype=float)
            label = "training" if name == _LOSSES[0] else "held out"
            passes = np.arange(1, len(losses) + 1)
            axes.plot(passes, losses, color=color, linewidth=1.4, label=label)
        kept = find_kept(member.losses)
        if kept is not None:
            axes.axvline(kept, color=GREY, linewidth=1, linestyle="--", label="kept")
        weight = "" if member.weight is None else f", weight {member.weight:.2g}"
        title = member.name[0].upper() + member.name[1:]
        axes.set_title(f"{title}{weight}", fontsize=9, color=INK, loc="left")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("pass", color=INK)
        axes.set_ylabel("loss, nats", color=INK)
    for axes in list(figure.axes)[len(members) :]:
        axes.set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def _has_curve(member: StackMember) -> bool:
    return len(member.losses["validation_loss"]) > 1


def _is_finite(value: Any) -> bool:
    return isinstance(value, str) or bool(np.isfinite(value).all())
