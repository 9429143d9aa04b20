"""From evidence to what the template shows: tables and pictures, in order."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sbi_aalr.diagnostics import plot_corner, plot_trace_rank, summary
from sbi_aalr.diagnostics.draws import read_draws
from sbi_aalr.report.chain_figures import (
    plot_autocorrelation,
    plot_ess_growth,
    plot_predictions,
)
from sbi_aalr.report.evidence import Convergence, Evidence
from sbi_aalr.report.pictures import Picture, make_picture, make_typesettable
from sbi_aalr.report.training_figure import has_losses, plot_training

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# So many observations get pictures, the most troubled ones; all others a table.
_MAX_PICTURED = 8
_MAX_CORNER = 12
_MAX_FEATURES = 200


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
    convergence: Convergence,
    on_phase: Callable[[str], object] = lambda what: None,
) -> list[Observation]:
    """Make tables of all observations, the most troubled first, and some pictures."""
    found = evidence.checks.familiarity
    batched = read_draws(evidence.tree).batched
    # Trials of one observation have a distance each.
    far = found.far if found is not None and batched else None
    order = convergence.order_by_trouble(far)
    tables = _tabulate(evidence)
    observations = []
    for place, index in enumerate(order):
        pictures = []
        if place < _MAX_PICTURED:
            on_phase(f"Drawing observation {index}" if batched else "Drawing figures")
            pictures = _picture_observation(evidence, convergence, index)
        observations.append(
            Observation(
                number=index,
                converged=bool(convergence.converged[index]),
                far=None if far is None else bool(far[index]),
                r_hat=f"{convergence.r_hat[index].max():.4f}",
                ess=_round_down(convergence.ess[index].min()),
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
    table = summary(evidence.tree, truth=truth)
    lower, upper = (name for name in table.columns if name.startswith("eti"))
    values = [*(["truth"] if truth is not None else []), "mean", "sd", lower, upper]
    columns = ["parameter", *values[:-2], "94 % from", "to"]
    columns += ["ESS bulk", "ESS tail", "R-hat"]
    rows = []
    for name, (_, row) in zip(names * count, table.iterrows(), strict=True):
        digits = _count_decimals(row["sd"])
        numbers = [f"{row[value]:.{digits}f}" for value in values]
        sizes = [_round_down(row[size]) for size in ("ess_bulk", "ess_tail")]
        rows.append([name, *numbers, *sizes, f"{row['r_hat']:.4f}"])
    width = len(names)
    return [Table(columns, rows[i * width : (i + 1) * width]) for i in range(count)]


def _picture_observation(
    evidence: Evidence, convergence: Convergence, observation: int
) -> list[Picture]:
    theta = read_draws(evidence.tree).for_observation(observation)
    names = [make_typesettable(name) for name in evidence.parameter_names]
    listed = ", ".join(evidence.parameter_names)
    truth = evidence.find_truth(observation)
    few = min(len(names), _MAX_CORNER)
    whose = f"the first {few} of {len(names)} " if few < len(names) else ""
    reference = evidence.reference
    corner = plot_corner(
        theta[..., :few].reshape(-1, few),
        truth=None if truth is None else truth[:few],
        reference=None if reference is None else reference[:, :few],
        parameter_names=names[:few],
        label="posterior",
    )
    marks = " with the true values marked" if truth is not None else ""
    behind = ", over the exact posterior in grey" if reference is not None else ""
    pictures = [
        make_picture(
            corner,
            f"Corner plot of {whose}parameters {listed}: marginal histograms and "
            f"pairwise contours of the posterior draws{marks}{behind}.",
            f"Posterior of {whose}parameters: marginals and pairs{marks}{behind}.",
        )
    ]
    if not np.isfinite(theta).all() or theta.shape[1] < 2:
        return pictures
    r_hat = float(convergence.r_hat[observation].max())
    pictures += [
        make_picture(
            plot_trace_rank(theta, parameter_names=names),
            f"Trace and rank plots of {theta.shape[0]} chains for {listed}; the "
            f"largest R-hat is {r_hat:.4f}.",
            "Left, the chains over time: level and even if they are warm. Right, how "
            "their ranks differ: inside the grey band if they agree.",
        ),
        make_picture(
            plot_ess_growth(theta, names, convergence.min_ess),
            f"Effective sample size of bulk and tail against draws for {listed}; at "
            f"the end the least is {_round_down(convergence.ess[observation].min())}.",
            "Effective sample size, bulk and tail, as draws come in: a straight line "
            "if chains mix. The limit is dashed.",
        ),
        make_picture(
            plot_autocorrelation(theta, names),
            f"Autocorrelation of the kept draws by lag for {listed}: mean over the "
            "chains and the range of nine in ten.",
            "Autocorrelation of the kept draws, mean over chains with the range of "
            "nine in ten: the sooner at zero, the better.",
        ),
    ]
    if "posterior_predictive" in evidence.tree.children:
        chosen = observation if read_draws(evidence.tree).batched else None
        observed = evidence.tree["observed_data"].to_dataset()["x"]
        if observed.size <= _MAX_FEATURES * convergence.r_hat.shape[0]:
            pictures.append(
                make_picture(
                    plot_predictions(evidence.tree, chosen),
                    "Observed data among the intervals that the posterior predicts for "
                    "each feature.",
                    "Posterior predictive: observed features should lie within what "
                    "the posterior predicts for them.",
                )
            )
    return pictures


def picture_checks(evidence: Evidence) -> tuple[list[Picture], list[Missing]]:
    """Make pictures of the checks that were run, and list the others."""
    checks = evidence.checks
    pictures: list[Picture] = []
    missing: list[Missing] = []

    def add(name: str, draw: "Callable[[], Figure] | None", words: str) -> None:
        if draw is None:
            missing.append(Missing(name, "It needs the simulator. Pass `simulator=`."))
        else:
            pictures.append(make_picture(draw(), f"{name}. {words}", words))

    roc, coverage, normal = checks.ratio_roc, checks.coverage, checks.normalisation
    add(
        "Expected coverage",
        coverage.plot if coverage else None,
        f"Coverage over simulated observations. {coverage.verdict}" if coverage else "",
    )
    add(
        "Ratio ROC test",
        roc.plot if roc else None,
        f"The ratio's ROC test. {roc.verdict}" if roc else "",
    )
    add(
        "Normalisation of the ratio",
        normal.plot if normal else None,
        f"Log of the ratio's mean over the prior. {normal.verdict}" if normal else "",
    )
    if has_losses(evidence.training):
        pictures.append(
            make_picture(
                plot_training(evidence.training),
                "Training loss against step.",
                "Training loss. If it still falls at the end, there is more to learn.",
            )
        )
    else:
        missing.append(Missing("Training loss", "It was not given. Pass `training=`."))
    return pictures, missing


def _round_down(ess: float) -> str:
    return f"{np.floor(ess):,.0f}" if np.isfinite(ess) else "undefined"


def _count_decimals(sd: float) -> int:
    """Decimals that show three digits of the standard deviation, at most 8."""
    if not np.isfinite(sd) or sd <= 0:
        return 3
    return int(np.clip(2 - np.floor(np.log10(sd)), 0, 8))
