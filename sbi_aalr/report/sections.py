"""From evidence to what the template shows: tables and pictures, in order."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sbi_aalr.diagnostics import ExpectedCoverage, summary
from sbi_aalr.diagnostics.coverage import RECOVERY_LEVEL
from sbi_aalr.diagnostics.draws import read_draws
from sbi_aalr.report.evidence import ChainCheck, Evidence
from sbi_aalr.report.observation_pictures import picture_observation
from sbi_aalr.report.pictures import Picture, make_picture
from sbi_aalr.report.rounding import count_decimals, round_down
from sbi_aalr.report.stack_figure import describe_stack, has_curves, plot_stack
from sbi_aalr.report.training_figure import (
    describe_training,
    has_losses,
    plot_training,
)

# So many observations get pictures, the most troubled ones; all others a table.
_MAX_PICTURED = 8

# Those with a picture: name and what the picture shows.
_CHECKS = {
    "coverage": ("Expected coverage", "Coverage over simulated observations"),
    "ratio_roc": ("Ratio ROC test", "The ratio put to the test by a classifier"),
    "normalisation": (
        "Normalisation of the ratio",
        "Logarithm of the ratio's mean over the prior, in nats",
    ),
    "predictive": (
        "Discrepancy of the data",
        "How far data lie from what the posterior predicts: those observed, and those "
        "simulated from the posterior",
    ),
}


class Table(NamedTuple):
    """A table, all cells as text.

    Attributes:
        columns: Headings.
        rows: Cells, the first of each row heading it.
    """

    columns: list[str]
    rows: list[list[str]]


class Observation(NamedTuple):
    """What the page says about one observation.

    Attributes:
        number: Its number.
        converged: Whether its chains converged.
        far: Whether it is far from all simulations; None if that is not known.
        r_hat: The largest, as text.
        ess: The least, as text.
        table: Summary of its parameters.
        pictures: Figures of its posterior and chains.
    """

    number: int
    converged: bool
    far: bool | None
    r_hat: str
    ess: str
    table: Table
    pictures: list[Picture]


class Missing(NamedTuple):
    """A check that was not run.

    Attributes:
        name: What it is called.
        reason: Why it was not run, and how to.
    """

    name: str
    reason: str


def describe_observations(
    evidence: Evidence,
    chains: ChainCheck,
    on_phase: Callable[[str], object] = lambda what: None,
) -> list[Observation]:
    """Make tables of all observations, the most troubled first, and some pictures."""
    found = evidence.checks.familiarity
    batched = read_draws(evidence.tree).batched
    # Trials of one observation have a distance each.
    far = found.far if found is not None and batched else None
    order = chains.order_by_trouble(far)
    tables = _tabulate(evidence)
    observations = []
    for place, index in enumerate(order):
        pictures = []
        if place < _MAX_PICTURED:
            on_phase(f"Drawing observation {index}" if batched else "Drawing figures")
            pictures = picture_observation(evidence, chains, index)
        observations.append(
            Observation(
                number=index,
                converged=bool(chains.converged[index]),
                far=None if far is None else bool(far[index]),
                r_hat=f"{chains.r_hat[index].max():.4f}",
                ess=round_down(chains.ess[index].min()),
                table=tables[index],
                pictures=pictures,
            )
        )
    return observations


def _tabulate(evidence: Evidence) -> list[Table]:
    """Make the summary of each observation, by its number."""
    count, names = evidence.num_observations, evidence.parameter_names
    truth = evidence.truth
    if truth is not None and read_draws(evidence.tree).batched:
        truth = np.broadcast_to(truth, (count, len(names)))
    table = summary(evidence.tree, truth=truth, ci_prob=evidence.ci_prob)
    lower, upper = (name for name in table.columns if name.startswith("eti"))
    values = [*(["truth"] if truth is not None else []), "mean", "sd", lower, upper]
    columns = ["parameter", *values[:-2], f"{100 * evidence.ci_prob:g} % from", "to"]
    columns += ["ESS bulk", "ESS tail", "R-hat"]
    rows = []
    for name, (_, row) in zip(names * count, table.iterrows(), strict=True):
        digits = count_decimals(row["sd"])
        numbers = [f"{row[value]:.{digits}f}" for value in values]
        sizes = [round_down(row[size]) for size in ("ess_bulk", "ess_tail")]
        rows.append([name, *numbers, *sizes, f"{row['r_hat']:.4f}"])
    width = len(names)
    return [Table(columns, rows[i * width : (i + 1) * width]) for i in range(count)]


def picture_checks(evidence: Evidence) -> tuple[list[Picture], list[Missing]]:
    """Make pictures of the checks that were run, and list the others."""
    pictures: list[Picture] = []
    missing: list[Missing] = []
    for field, (name, words) in _CHECKS.items():
        check = getattr(evidence.checks, field)
        if check is None:
            missing.append(Missing(name, _explain_missing(field, evidence)))
            continue
        if field == "ratio_roc" and evidence.checks.roc_theta is not None:
            place = ", ".join(f"{value:.3g}" for value in evidence.checks.roc_theta)
            words += f" at the parameters ({place})"
        alt, caption = f"{name}. {check.verdict}", f"{words}. {check.verdict}"
        pictures.append(make_picture(check.plot(), alt, caption))
        if field == "coverage" and check.truth is not None:
            pictures.append(_picture_recovery(check))
    if has_curves(evidence.training):
        pictures.append(
            make_picture(
                plot_stack(evidence.training),
                "Loss of each estimator of the stack against passes.",
                f"Training loss. {describe_stack(evidence.training)}",
            )
        )
    elif has_losses(evidence.training):
        pictures.append(
            make_picture(
                plot_training(evidence.training),
                "Training loss against step.",
                f"Training loss. {describe_training(evidence.training)}",
            )
        )
    else:
        missing.append(Missing("Training loss", "It was not given. Pass `training=`."))
    return pictures, missing


def _picture_recovery(found: ExpectedCoverage) -> Picture:
    level = f"{100 * RECOVERY_LEVEL:g} %"
    return make_picture(
        found.plot_recovery(),
        f"Recovery. Medians with {level} intervals against the true parameters of "
        "simulated observations.",
        "Recovery: what was estimated from each simulated observation against the "
        f"parameters that made it, with {level} intervals. Far from the line, "
        "parameters are not constrained by such data, or not found.",
    )


def _explain_missing(field: str, evidence: Evidence) -> str:
    if field == "coverage" and evidence.checks.num_trials > 1:
        return "Of single trials it would say nothing of the sum of several."
    if field == "normalisation":
        return "It needs a ratio, and not the sum that i.i.d. trials make."
    return "It needs the simulator. Pass `simulator=`, or `--simulator`."
