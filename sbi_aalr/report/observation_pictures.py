"""The pictures of one observation: its posterior, its chains, its predictions."""

import numpy as np

from sbi_aalr.diagnostics import plot_corner, plot_trace_rank
from sbi_aalr.diagnostics.draws import Array, read_draws
from sbi_aalr.diagnostics.plot_style import show_levels
from sbi_aalr.report.chain_figures import (
    plot_autocorrelation,
    plot_ess_growth,
    plot_predictions,
)
from sbi_aalr.report.evidence import ChainCheck, Evidence
from sbi_aalr.report.pictures import Picture, make_picture, make_typesettable

# More do not fit on a page; a table has them all.
_MAX_PARAMETERS = 12
_MAX_FEATURES = 1_000
# Fewer draws have no growth to show.
_MIN_DRAWS = 20


def picture_observation(
    evidence: Evidence, chains: ChainCheck, observation: int
) -> list[Picture]:
    """Draw an observation's figures; none if a draw is NaN or infinite."""
    theta = read_draws(evidence.tree).for_observation(observation)
    if not np.isfinite(theta).all():
        return []
    chosen = _choose_parameters(chains.r_hat[observation])
    names = [evidence.parameter_names[i] for i in chosen]
    of = f"parameters {', '.join(names)}"
    if len(chosen) < theta.shape[-1]:
        of = f"the {len(chosen)} of {theta.shape[-1]} parameters with the largest R-hat"
    return [
        _picture_corner(evidence, observation, theta, chosen, of),
        *_picture_chains(
            theta[..., chosen],
            [make_typesettable(name) for name in names],
            of,
            chains.min_ess,
            evidence.ci_prob,
        ),
        *_picture_predictions(evidence, observation),
    ]


def _choose_parameters(r_hat: Array) -> Array:
    """Choose those with the largest R-hat, and keep them in their order."""
    worst_first = np.argsort(-np.nan_to_num(r_hat, nan=np.inf), kind="stable")
    return np.sort(worst_first[:_MAX_PARAMETERS])


def _picture_corner(
    evidence: Evidence, observation: int, theta: Array, chosen: Array, of: str
) -> Picture:
    truth, reference = evidence.find_truth(observation), evidence.reference
    figure = plot_corner(
        theta[..., chosen].reshape(-1, len(chosen)),
        truth=None if truth is None else truth[chosen],
        reference=None if reference is None else reference[:, chosen],
        parameter_names=[
            make_typesettable(evidence.parameter_names[i]) for i in chosen
        ],
        label="posterior",
        levels=evidence.levels,
    )
    marks = ", with the true values marked" if truth is not None else ""
    behind = ", over the exact posterior in grey" if reference is not None else ""
    return make_picture(
        figure,
        f"Corner plot of {of}: marginal densities and pairwise contours of the "
        f"posterior draws{marks}{behind}.",
        f"Posterior of {of}{marks}{behind}. Contours hold "
        f"{show_levels(evidence.levels)} of the draws; above, medians with the "
        f"{100 * evidence.levels[0]:g} % interval.",
    )


def _picture_chains(
    theta: Array, names: list[str], of: str, min_ess: float, ci_prob: float
) -> list[Picture]:
    pictures = [
        make_picture(
            plot_trace_rank(theta, parameter_names=names),
            f"Trace and rank plots of {theta.shape[0]} chains for {of}.",
            "Left, the chains over time: level and even if they are warm. Right, how "
            "their ranks differ: inside the grey band if they agree.",
        )
    ]
    if theta.shape[1] < _MIN_DRAWS:
        return pictures
    return [
        *pictures,
        make_picture(
            plot_ess_growth(theta, names, min_ess),
            f"Effective sample size of bulk and tail against draws for {of}.",
            "Effective sample size, bulk and tail, as draws come in: a straight line "
            "if chains mix. The limit is dashed.",
        ),
        make_picture(
            plot_autocorrelation(theta, names, ci_prob),
            f"Autocorrelation of the kept draws by lag for {of}: mean over the chains "
            f"and the range of {100 * ci_prob:g} % of them.",
            "Autocorrelation of the kept draws, how alike draws are that lie so many "
            f"apart: mean over chains with the range of {100 * ci_prob:g} % of them. "
            "The sooner at zero, the better.",
        ),
    ]


def _picture_predictions(evidence: Evidence, observation: int) -> list[Picture]:
    if "posterior_predictive" not in evidence.tree.children:
        return []
    batched = read_draws(evidence.tree).batched
    observed = evidence.tree["observed_data"].to_dataset()["x"]
    if observed.size > _MAX_FEATURES * (evidence.num_observations if batched else 1):
        return []
    return [
        make_picture(
            plot_predictions(
                evidence.tree, observation if batched else None, evidence.levels
            ),
            "Observed data among the intervals that the posterior predicts for each "
            "feature.",
            "Posterior predictive: what draws of the posterior, put into the "
            "simulator, give for each feature of the data. About "
            f"{100 * evidence.ci_prob:g} % of those observed should lie in the pale "
            "intervals.",
        )
    ]
