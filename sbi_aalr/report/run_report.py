"""Report on a finished run, from memory or from disk."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbi_aalr.checks import (
    check_fraction,
    check_positive_int,
    check_seed,
    check_type,
    find_outside,
)
from sbi_aalr.diagnostics.draws import to_array
from sbi_aalr.diagnostics.run_tree import run_to_datatree
from sbi_aalr.errors import OtherPriorWarning
from sbi_aalr.report.again import Code, list_commands
from sbi_aalr.report.checks import NUM_SIMULATIONS, QUICK, SEED, run_checks
from sbi_aalr.report.evidence import CI_PROB, Checks, Evidence
from sbi_aalr.report.page import check_path, write_report
from sbi_aalr.report.resample import Resampled
from sbi_aalr.report.verdicts import Verdict
from sbi_aalr.sampling.run import Run
from sbi_aalr.sampling.settings import Settings
from sbi_aalr.sampling.target import RatioTarget


def report_run(
    run: Run,
    path: str | Path,
    *,
    settings: Settings,
    simulator: Callable[..., Any] | None = None,
    truth: Tensor | Any | None = None,
    reference: Tensor | Any | None = None,
    parameter_names: Sequence[str] | None = None,
    training: Mapping[str, Sequence[float]] | None = None,
    title: str = "Posterior",
    facts: Mapping[str, str] | None = None,
    commands: str | None = None,
    num_simulations: int = NUM_SIMULATIONS,
    seed: int = SEED,
    ci_prob: float = CI_PROB,
    exclude_invalid_x: bool = False,
    on_phase: Callable[[str], object] = lambda what: None,
) -> Verdict:
    """Write one self-contained HTML page that says whether to trust a run.

    Args:
        run: The run.
        path: The file to write; its folder is made if needed.
        settings: How to sample the simulated observations that calibration is about.
        simulator: Any simulator that sbi accepts.
        truth: True parameters, shape `(D,)`, or `(B, D)` for a batch.
        reference: Draws from the exact posterior of a single observation, `(N, D)`.
        parameter_names: One name a parameter; by default the run's own.
        training: Losses by name, as in a trainer's `summary`.
        title: Heading of the page.
        facts: What else there is to know of the run, names and values.
        commands: How to do it again; by default as code.
        num_simulations: Simulations for the ROC test.
        seed: Makes the checks repeatable.
        ci_prob: Probability of the intervals on the page.
        exclude_invalid_x: Simulate again where the simulator gives NaN or infinity.
        on_phase: Called with a few words at the start of each part of the work.

    Returns:
        The verdict at the top of the page.

    Raises:
        IsADirectoryError: If the path is a folder.
        TypeError: If a simulator is given, but what was sampled is no ratio.
        ValueError: If shapes do not fit, or the simulator fails.

    Warns:
        FarObservationWarning: If an observation is far from all simulations.
        OtherPriorWarning: If the prior rules the true parameters out.
    """
    num_simulations = check_positive_int("num_simulations", num_simulations)
    seed = check_seed("seed", seed)
    ci_prob = check_fraction("ci_prob", ci_prob)
    check_path(path)
    check_type("title", title, str, "text")
    if training is not None:
        check_type("training", training, Mapping, "a trainer's `summary`")
    tree = run_to_datatree(run, parameter_names)
    true_values = None if truth is None else _check_truth(truth, run)
    checks, target = Checks(), run.target
    if commands is None:
        given: dict[str, Any] = {}
        if simulator is not None:
            given = {
                "simulator": Code("simulator"),
                "num_simulations": num_simulations,
                "seed": seed,
            }
        given |= {
            "truth": None if true_values is None else true_values.tolist(),
            "parameter_names": None
            if parameter_names is None
            else list(parameter_names),
            "title": title,
            "ci_prob": ci_prob,
            "exclude_invalid_x": exclude_invalid_x or None,
        }
        if training:
            given["training"] = Code("trainer.summary")
        commands = list_commands(tree, path, given)
    if isinstance(target, RatioTarget):
        checks, tree = run_checks(
            tree,
            Resampled(run, settings, **QUICK),
            target.estimator,
            simulator,
            target.prior,
            truth=true_values,
            num_simulations=num_simulations,
            seed=seed,
            exclude_invalid_x=exclude_invalid_x,
            on_phase=on_phase,
        )
    elif simulator is not None:
        raise TypeError(
            "`simulator` can be used only with a ratio estimator to test, got a "
            f"posterior with a {target.name}. Leave it out."
        )
    evidence = Evidence(
        tree=tree,
        title=title,
        truth=true_values,
        reference=None if reference is None else to_array("reference", reference),
        training=training or {},
        facts=facts or {},
        commands=commands,
        checks=checks,
        ci_prob=ci_prob,
    )
    return write_report(evidence, path, on_phase=on_phase)


def _check_truth(truth: Any, run: Run) -> Any:
    values = to_array("truth", truth)
    count, width = run.convergence.r_hat.shape
    if values.shape == (1, width):
        values = values[0]
    if values.shape not in {(width,), (count, width)} or not np.isfinite(values).all():
        raise ValueError(
            f"`truth` must be finite and have shape ({width},) or ({count}, {width}), "
            f"got shape {values.shape}."
        )
    rows = torch.as_tensor(values).to(run.chains.theta).reshape(-1, width)
    num_outside = int(find_outside(rows, run.target.proposal).sum())
    if num_outside:
        warnings.warn(
            OtherPriorWarning(
                f"`truth` lies where the prior has no density, in {num_outside} of "
                f"{len(rows)} rows: no draw can be there. Compare units and order of "
                "the parameters with the prior's.",
                num_outside,
            ),
            stacklevel=3,
        )
    return values
