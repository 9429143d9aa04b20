"""Figures of a comparison: a metric against the budget, and against wall time.

In the style of sbibm (Lueckmann et al. 2021, arXiv:2101.04653): a panel for each task,
a line for each method.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sbi_aalr.checks import check_choice
from sbi_aalr.comparison.methods import METHODS
from sbi_aalr.comparison.rows import METRICS, check_table
from sbi_aalr.comparison.summary import order_names
from sbi_aalr.comparison.tasks import TASKS
from sbi_aalr.diagnostics.plot_style import (
    ACCENTS,
    BLUE,
    GREY,
    INK,
    LIGHT_GREY,
    make_figure,
    tidy_axes,
)
from sbi_aalr.files import write_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABELS = {
    "c2st": "C2ST",
    "mmd": "MMD²",
    "roc_auc": "ROC AUC",
    "ratio_roc_auc": "ROC AUC of the ratio",
    "log_prob_true": "log-probability of the truth, nats",
    "coverage": "coverage of 90 % regions",
    "train_seconds": "seconds to train",
    "sample_seconds": "seconds to sample",
    "num_evaluations": "network evaluations to sample",
    "min_ess": "least effective sample size",
    "max_rhat": "worst R-hat",
    "peak_memory": "peak memory, MiB",
}
_LOGARITHMIC = {"train_seconds", "sample_seconds", "num_evaluations", "min_ess"}
# Where a perfect method would be.
_IDEAL = {"c2st": 0.5, "roc_auc": 0.5, "mmd": 0.0, "coverage": 0.9, "max_rhat": 1.0}
_LIMITS = {"c2st": (0.48, 1.02), "roc_auc": (0.48, 1.02), "coverage": (-0.03, 1.03)}
_FILES = ("c2st", "mmd", "roc_auc", "log_prob_true", "coverage", "sample_seconds")
_MARKERS = "osD^vPhX<>"
_MAX_COLUMNS = 3


class Look(NamedTuple):
    """How the line of one method is drawn."""

    color: str
    marker: str
    is_sequential: bool
    is_ours: bool

    def style(self) -> dict[str, Any]:
        """Arguments for matplotlib."""
        return {
            "color": self.color,
            "marker": self.marker,
            "markersize": 5.5,
            "markerfacecolor": "white" if self.is_sequential else self.color,
            "markeredgecolor": self.color if self.is_sequential else "white",
            "markeredgewidth": 1.0 if self.is_sequential else 0.6,
            "linestyle": "--" if self.is_sequential else "-",
            "linewidth": 2.2 if self.is_ours else 1.2,
            "zorder": 4 if self.is_ours else 3,
        }


def plot_metric(table: "pd.DataFrame", metric: str = "c2st") -> "Figure":
    """Draw a metric against the budget, one panel a task, one line a method.

    Points are means over observations and seeds, bars one standard error of the mean.

    Args:
        table: From `compare` or `read_table`.
        metric: A name in `METRICS`.

    Returns:
        The figure.

    Raises:
        ValueError: If `metric` is unknown, or no row has it.
    """
    table = _select(table, metric)
    tasks = order_names(table["task"], TASKS)
    figure, panels = _make_panels(tasks)
    looks = _choose_looks(table)
    for axes, task in zip(panels, tasks, strict=True):
        rows = table[table["task"] == task]
        # Methods side by side, so that bars do not hide one another.
        spread = len(looks) - 1 or 1
        for index, (method, look) in enumerate(looks.items()):
            groups = rows[rows["method"] == method].groupby("budget")[metric]
            mean, error = groups.mean(), groups.sem().fillna(0.0)
            shift = 10 ** (0.12 * (index / spread - 0.5))
            axes.errorbar(
                mean.index * shift,
                mean,
                yerr=error,
                elinewidth=1,
                label=method,
                **look.style(),
            )
        axes.set_xscale("log")
        budgets = sorted(rows["budget"].unique())
        axes.set_xticks(budgets, [f"{budget:,}" for budget in budgets])
        axes.minorticks_off()
        axes.set_xlim(budgets[0] / 1.6, budgets[-1] * 1.6)
        axes.set_xlabel("simulations", fontsize=9, color=INK)
        _finish(axes, task, metric)
    _add_legend(figure, panels)
    return figure


def plot_wall_time(table: "pd.DataFrame", metric: str = "c2st") -> "Figure":
    """Draw a metric against the seconds it took to train and to sample.

    Each point is one budget: means over observations and seeds, joined in the order of
    the budgets, the larger the bigger.

    Args:
        table: From `compare` or `read_table`.
        metric: A name in `METRICS`.

    Returns:
        The figure.

    Raises:
        ValueError: If `metric` is unknown, or no row has it.
    """
    table = _select(table, metric)
    table = table.assign(seconds=table["train_seconds"] + table["sample_seconds"])
    tasks = order_names(table["task"], TASKS)
    figure, panels = _make_panels(tasks)
    sizes = {b: 5.5 + 2.5 * i for i, b in enumerate(sorted(table["budget"].unique()))}
    for axes, task in zip(panels, tasks, strict=True):
        rows = table[table["task"] == task]
        for method, look in _choose_looks(table).items():
            groups = rows[rows["method"] == method].groupby("budget")
            mean, seconds = groups[metric].mean(), groups["seconds"].mean()
            style = look.style()
            axes.plot([], [], label=method, **style)
            axes.plot(seconds, mean, **{**style, "marker": ""})
            for budget in mean.index:
                style["markersize"] = sizes[budget]
                axes.plot(seconds[budget], mean[budget], **style)
        _label_seconds(axes)
        axes.set_xlabel("seconds to train and to sample once", fontsize=9, color=INK)
        _finish(axes, task, metric)
    _add_legend(figure, panels)
    return figure


def save_figures(table: "pd.DataFrame", folder: Path) -> list[Path]:
    """Write one file a metric that some row has, and one of the wall time."""
    files = []
    for metric in _FILES:
        if table[metric].notna().any():
            path = folder / f"{metric}.png"
            files.append(write_figure(path, plot_metric(table, metric)))
    if table["c2st"].notna().any():
        path = folder / "wall_time.png"
        files.append(write_figure(path, plot_wall_time(table)))
    return files


def _select(table: "pd.DataFrame", metric: str) -> "pd.DataFrame":
    check_choice("metric", metric, METRICS)
    table = check_table("table", table)
    rows = table[table[metric].notna()]
    if rows.empty:
        raise ValueError(f"`metric` must be in some row, got {metric!r} in none.")
    return rows


def _make_panels(tasks: Sequence[str]) -> tuple["Figure", list["Axes"]]:
    columns = min(len(tasks), _MAX_COLUMNS)
    rows = math.ceil(len(tasks) / columns)
    figure = make_figure(1.2 + 3.1 * columns, 2.8 * rows + 0.1)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels[len(tasks) :]:
        axes.set_axis_off()
    return figure, list(panels[: len(tasks)])


def _choose_looks(table: "pd.DataFrame") -> dict[str, Look]:
    """Give each method the same look in every figure; rounds are dashed and hollow."""
    colors = (BLUE, *ACCENTS, GREY, INK)
    order = [*METHODS, *order_names(table["method"], METHODS)]
    families = list(dict.fromkeys(map(_name_family, order)))
    looks = {}
    for name in order_names(table["method"], METHODS):
        place = families.index(_name_family(name))
        looks[name] = Look(
            colors[place % len(colors)],
            _MARKERS[place % len(_MARKERS)],
            is_sequential=name in METHODS and METHODS[name].rounds > 1,
            is_ours=name == "aalr",
        )
    return looks


def _name_family(name: str) -> str:
    """Tell which methods differ in their rounds only."""
    return getattr(METHODS[name].trainer, "__name__", name) if name in METHODS else name


def _label_seconds(axes: "Axes") -> None:
    """Label a logarithmic axis with plain numbers, as many as there is room for."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    steps = (1.0,) if high > 100 * low else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _finish(axes: "Axes", task: str, metric: str) -> None:
    tidy_axes(axes)
    axes.set_title(task.replace("_", " "), fontsize=10, color=INK, loc="left")
    if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
        axes.set_ylabel(_LABELS.get(metric, metric), fontsize=9, color=INK)
    axes.grid(axis="y", color=LIGHT_GREY, linewidth=0.6)
    axes.set_axisbelow(True)
    if metric in _LOGARITHMIC:
        axes.set_yscale("log")
    if metric in _LIMITS:
        axes.set_ylim(*_LIMITS[metric])
    if metric in _IDEAL:
        axes.axhline(_IDEAL[metric], color=GREY, linewidth=1, linestyle=":")


def _add_legend(figure: "Figure", panels: Sequence["Axes"]) -> None:
    entries: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        entries.update(zip(labels, handles, strict=True))
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside right upper",
        frameon=False,
        fontsize=8,
        labelcolor=INK,
    )
