"""What the command line shows: messages of one line, tables with sensible rounding."""

import math
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

_MAX_ROWS = 20
_COMPARED = (
    "c2st",
    "mmd",
    "roc_auc",
    "log_prob_true",
    "coverage",
    "train_seconds",
    "sample_seconds",
    "min_ess",
    "max_rhat",
)


def show_line(text: str, style: str = "") -> None:
    """Write one line to the standard output."""
    Console().print(Text(text, style), soft_wrap=True)


def show_problem(kind: str, message: object, style: str = "bold red") -> None:
    """Write one line to the standard error, whatever the message looked like."""
    line = Text.assemble((kind, style), f": {' '.join(str(message).split())}")
    Console(stderr=True).print(line, soft_wrap=True)


def show_summary(table: "pd.DataFrame", title: str) -> None:
    """Show ArviZ's summary, with the truth where it is in the table.

    Args:
        table: From `sbi_aalr.diagnostics.summary`, one row a parameter.
        title: Line above the table.
    """
    # Not above, as it would load what draws reports.
    from sbi_aalr.report.rounding import count_decimals, round_down

    lower, upper = (name for name in table.columns if name.startswith("eti"))
    probability = lower.removeprefix("eti").removesuffix("_lb")
    has_truth = "truth" in table.columns
    shown = _make_table(
        title,
        "parameter",
        *(["truth"] if has_truth else []),
        *("mean", "sd", f"{probability}% interval", "ESS bulk", "ESS tail", "R-hat"),
    )
    decimals = [count_decimals(sd) for sd in table["sd"]]
    if max(decimals) - min(decimals) < 2:
        decimals = [max(decimals)] * len(decimals)
    for (name, row), digits in zip(table.iterrows(), decimals, strict=True):
        shown.add_row(
            str(name),
            *([f"{row['truth']:.{digits}f}"] if has_truth else []),
            f"{row['mean']:.{digits}f}",
            f"{row['sd']:.{digits}f}",
            f"{row[lower]:.{digits}f} to {row[upper]:.{digits}f}",
            round_down(row["ess_bulk"]),
            round_down(row["ess_tail"]),
            f"{row['r_hat']:.4f}",
        )
    _show_table(shown)


def show_observations(figures: "xr.Dataset", title: str) -> None:
    """Show the convergence of each observation, the worst first where they are many.

    Args:
        figures: From `MHPosterior.diagnostics` after `sample_batched`.
        title: Line above the table.
    """
    # Not above, as it would load what draws reports.
    from sbi_aalr.report.rounding import round_down

    worst = figures["r_hat"].max("parameter").values
    order = list(range(len(worst)))
    if len(order) > _MAX_ROWS:
        # NaN is worst of all.
        order.sort(key=lambda i: -math.inf if math.isnan(worst[i]) else -worst[i])
        title += f"; the {_MAX_ROWS} with the largest R-hat"
    names = ("observation", "largest R-hat", "least ESS", "acceptance", "steps")
    shown = _make_table(title, *names)
    for i in order[:_MAX_ROWS]:
        one = figures.isel(observation=i)
        ess = min(float(one["ess_bulk"].min()), float(one["ess_tail"].min()))
        shown.add_row(
            str(int(one["observation"])),
            f"{worst[i]:.4f}",
            round_down(ess),
            f"{float(one['acceptance_rate']):.0%}",
            f"{int(one['num_steps']):,}",
            style="" if bool(one["converged"]) else "yellow",
        )
    _show_table(shown)


def show_comparison(summary: "pd.DataFrame", title: str) -> None:
    """Show mean ± standard deviation over observations, of what some method has.

    Args:
        summary: From `sbi_aalr.comparison.summarise`.
        title: Line above the table.
    """
    metrics = [
        name
        for name in _COMPARED
        if name in summary and summary[(name, "mean")].notna().any()
    ]
    failed = summary[("errors", "count")].any()
    names = ("task", "budget", "method", *metrics, *(["errors"] if failed else []))
    shown = _make_table(title, *(name.replace("_", " ") for name in names))
    before = None
    for (task, budget, method), row in summary.iterrows():
        if before not in (None, (task, budget)):
            shown.add_section()
        before = task, budget
        cells = [
            _show_spread(
                row[(name, "mean")],
                row[(name, "std")],
                least_digits=3 if name == "max_rhat" else 0,
            )
            for name in metrics
        ]
        errors = int(row[("errors", "count")])
        shown.add_row(
            str(task),
            f"{budget:,}",
            str(method),
            *cells,
            *([f"{errors} of {int(row[('rows', 'count')])}"] if failed else []),
            style="yellow" if errors else "",
        )
    _show_table(shown)


def _show_spread(mean: float, sd: float, least_digits: int) -> str:
    """Show three digits of the mean and as many decimals of its spread."""
    if not math.isfinite(mean):
        return "" if math.isnan(mean) else str(mean)
    digits = 3 if mean == 0 else min(4, 2 - math.floor(math.log10(abs(mean))))
    digits = max(least_digits, digits)
    spread = f" ± {sd:,.{digits}f}" if math.isfinite(sd) else ""
    return f"{mean:,.{digits}f}{spread}"


def show_verdict(figures: "xr.Dataset") -> None:
    """Say in one line whether the chains converged, and by which figures."""
    # Not above, as it would load what draws reports.
    from sbi_aalr.report.rounding import round_down

    r_hat = float(figures["r_hat"].max(skipna=False))
    ess = min(
        float(figures[name].min(skipna=False)) for name in ("ess_bulk", "ess_tail")
    )
    converged = figures["converged"].values
    if converged.all():
        verdict = "Chains converged"
    elif converged.ndim:
        verdict = f"{(~converged).sum()} of {converged.size} not converged"
    else:
        verdict = "Chains not converged"
    show_line(
        f"{verdict}: R-hat is at most {r_hat:.4f}, the effective sample size at least "
        f"{round_down(ess)}.",
        "green" if converged.all() else "yellow",
    )


def _make_table(title: str, *columns: str) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        title=Text(title),
        title_style="bold",
        title_justify="left",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    return table


def _show_table(table: Table) -> None:
    """Show a table at its full width: a long line can be read, a cut number cannot."""
    console = Console()
    wanted = table.__rich_measure__(console, console.options.update(max_width=1_000))
    console.width = max(console.width, wanted.maximum)
    console.print(table)
