"""Report on the last run of a posterior in memory."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from sbi.inference.potentials.ratio_based_potential import RatioBasedPotential
from torch import Tensor

from sbi_aalr.checks import check_non_negative_int, check_positive_int
from sbi_aalr.diagnostics.draws import to_array
from sbi_aalr.posterior.mh_posterior import MHPosterior
from sbi_aalr.report.checks import QUICK, run_checks
from sbi_aalr.report.evidence import Checks, Convergence, Evidence
from sbi_aalr.report.page import check_path, write_report
from sbi_aalr.report.verdicts import Verdict

_SETTINGS = ("kernel", "num_chains", "warmup_steps", "thin", "max_steps")


def report_posterior(
    posterior: MHPosterior,
    path: str | Path,
    *,
    simulator: Callable[..., Any] | None,
    truth: Tensor | None,
    parameter_names: Sequence[str] | None,
    training: Mapping[str, Sequence[float]] | None,
    title: str,
    num_simulations: int,
    seed: int,
) -> Verdict:
    """Write the page that `MHPosterior.report` describes, and return its verdict."""
    check_positive_int("num_simulations", num_simulations)
    check_non_negative_int("seed", seed)
    check_path(path)
    tree = posterior.to_datatree(parameter_names)
    convergence = _read_convergence(posterior, tree)
    true_values = None if truth is None else _check_truth(truth, convergence)
    potential = posterior.potential_fn
    checks = Checks()
    if isinstance(potential, RatioBasedPotential):
        checks, tree = run_checks(
            tree,
            # Another, as sampling for coverage would replace the run reported on.
            MHPosterior(
                potential,
                posterior.proposal,
                posterior.theta_transform,
                posterior.parameters,
            ),
            potential.ratio_estimator,
            simulator,
            potential.prior,
            truth=true_values,
            num_simulations=num_simulations,
            seed=seed,
            **QUICK,
        )
    elif simulator is not None:
        raise TypeError(
            "`simulator` can be used only with a ratio estimator to test, got a "
            f"posterior with a {type(potential).__name__}. Leave it out."
        )
    evidence = Evidence(
        tree=tree,
        title=title,
        truth=true_values,
        training=training or {},
        commands=_list_commands(tree, path, simulator, num_simulations, seed),
        checks=checks,
        convergence=convergence,
    )
    return write_report(evidence, path)


def _read_convergence(posterior: MHPosterior, tree: xr.DataTree) -> Convergence:
    """Take the figures that the sampler stopped on: R-hat is nested for many chains."""
    figures = posterior.diagnostics()
    if "observation" not in figures.dims:
        figures = figures.expand_dims("observation")
    return Convergence.from_figures(figures, tree.attrs)


def _check_truth(truth: Tensor, convergence: Convergence) -> Any:
    values = to_array(truth)
    count, width = convergence.r_hat.shape
    if values.shape == (1, width):
        values = values[0]
    if values.shape not in {(width,), (count, width)} or not np.isfinite(values).all():
        raise ValueError(
            f"`truth` must be finite and have shape ({width},) or ({count}, {width}), "
            f"got shape {values.shape}."
        )
    return values


def _list_commands(
    tree: xr.DataTree,
    path: str | Path,
    simulator: object,
    num_simulations: int,
    seed: int,
) -> str:
    attributes = tree.attrs
    sizes = tree["posterior"].sizes
    method = "sample_batched" if "observation" in sizes else "sample"
    settings = [f"seed={attributes['seed']}"]
    settings += [f"{k}={attributes[k]!r}" for k in _SETTINGS if k in attributes]
    lines = [
        "# with the estimator and x as they were",
        f"posterior.{method}(({sizes['chain'] * sizes['draw']},), x=x,",
        f"    {', '.join(settings)})",
    ]
    checks = ""
    if simulator is not None:
        checks = f", simulator=simulator, num_simulations={num_simulations}"
        checks += f", seed={seed}"
    return "\n".join([*lines, f"posterior.report({str(path)!r}{checks})"])
