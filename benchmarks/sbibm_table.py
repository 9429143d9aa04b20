"""Rows of `sbibm.py` in a file that survives a kill; table and figure made of them."""

import csv
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean

import matplotlib.pyplot as plt
from matplotlib.ticker import NullLocator
from sbibm_data import AMORTIZED, BUDGETS, PUBLISHED, TASK_NAMES, published

KEY = ("source", "task", "budget", "method", "seed", "observation")
FIELDS = (
    *KEY,
    "c2st",
    "train_seconds",
    "sample_seconds",
    "max_rhat",
    "min_ess",
    "commit",
)
# How far above the best published mean a cell may be, and above the published NRE.
NEAR_BEST, ABOVE_NRE = 0.01, 0.02
_COLORS = ("#e69f00", "#009e73", "#999999")


def read_rows(path: Path) -> dict[tuple[str, ...], dict[str, str]]:
    """Rows by their keys; one that a kill cut short does not count."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["commit"]]
    return {tuple(row[name] for name in KEY): row for row in rows}


def append_row(path: Path, row: Mapping[str, object]) -> None:
    """Write a row at once, on a line of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = path.read_bytes() if path.exists() else b""
    with path.open("a", newline="") as file:
        if content and not content.endswith(b"\n"):
            file.write("\n")
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        if not content:
            writer.writeheader()
        writer.writerow(row)
        file.flush()
        os.fsync(file.fileno())


def print_table(
    rows: Iterable[Mapping[str, str]], source: str, path: Path = PUBLISHED
) -> None:
    """Print mean C2STs by task, budget and method, and how they compare.

    Published means go over the same observations where `path` has a row for each.

    Args:
        rows: What `read_rows` found.
        source: "sbibm", or "own", to which no published score belongs.
        path: Table for `published`.
    """
    cells: dict[tuple[str, int, str], list[Mapping[str, str]]] = {}
    for row in rows:
        if row["source"] == source:
            key = row["task"], int(row["budget"]), row["method"]
            cells.setdefault(key, []).append(row)
    print(
        f"| task | simulations | method | C2ST | {' | '.join(AMORTIZED)} "
        "| observations | worst R-hat | training, s |"
    )
    print("|---" * (7 + len(AMORTIZED)) + "|")
    near: dict[str, list[bool]] = {}
    above: dict[str, list[bool]] = {}
    for key in sorted(cells, key=_order):
        task, budget, method = key
        found = cells[key]
        value = mean(float(row["c2st"]) for row in found)
        numbers = tuple(sorted({int(row["observation"]) for row in found}))
        theirs = published(task, budget, path, numbers) if source == "sbibm" else {}
        best = min(theirs[name] for name in AMORTIZED) if theirs else math.inf
        shown = f"{value:.3f}"
        if theirs:
            is_near = value <= best + NEAR_BEST
            is_above = value > theirs["NRE"] + ABOVE_NRE
            near.setdefault(method, []).append(is_near)
            above.setdefault(method, []).append(is_above)
            shown += "" if is_near else " (missed)"
        others = [f"{theirs[name]:.3f}" if theirs else "–" for name in AMORTIZED]
        print(
            f"| {task} | {budget:,} | {method} | {shown} | {' | '.join(others)} "
            f"| {len(found)} | {max(float(row['max_rhat']) for row in found):.3f} "
            f"| {mean(float(row['train_seconds']) for row in found):.0f} |"
        )
    for method, reached in near.items():
        print(
            f"\n{method}: at most the best of {', '.join(AMORTIZED)} + {NEAR_BEST} in "
            f"{sum(reached)} of {len(reached)} cells; more than {ABOVE_NRE} above NRE "
            f"in {sum(above[method])}."
        )


def draw_figure(
    rows: Iterable[Mapping[str, str]], path: Path, table: Path = PUBLISHED
) -> None:
    """Draw mean C2STs of `aalr` against simulations, beside what was published.

    Args:
        rows: What `read_rows` found.
        path: Picture to write.
        table: Table for `published`.
    """
    scores: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        if row["source"] == "sbibm" and row["method"] == "aalr":
            cell = row["task"], int(row["budget"])
            scores.setdefault(cell, []).append(float(row["c2st"]))
    figure, grid = plt.subplots(2, 5, figsize=(11, 5), sharex=True, sharey=True)
    for task, axes in zip(TASK_NAMES, grid.flat, strict=True):
        for method, color in zip(AMORTIZED, _COLORS, strict=True):
            values = [published(task, budget, table)[method] for budget in BUDGETS]
            axes.plot(BUDGETS, values, "o-", color=color, ms=3, lw=1, label=method)
        known = [budget for budget in BUDGETS if (task, budget) in scores]
        values = [mean(scores[task, budget]) for budget in known]
        axes.plot(known, values, "o-", color="#0072b2", ms=5, lw=2, label="AALR")
        axes.set(title=task, xscale="log", xticks=BUDGETS, ylim=(0.48, 1.02))
        axes.set_xticklabels(["1k", "10k", "100k"])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.title.set_fontsize(9)
        axes.axhline(0.5, color="0.6", lw=0.8, ls=":")
    figure.supxlabel("simulations", fontsize=10)
    figure.supylabel("C2ST (0.5 is perfect)", fontsize=10)
    handles, names = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, ncols=4, loc="upper center", frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.94))
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _order(key: tuple[str, int, str]) -> tuple[int, int, str]:
    task, budget, method = key
    rank = BUDGETS.index(budget) if budget in BUDGETS else len(BUDGETS)
    return TASK_NAMES.index(task), rank, method
