"""A finished run as a DataTree, as a table of its convergence, and as a warning."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import xarray as xr

from sbi_aalr.diagnostics.convergence import label_convergence
from sbi_aalr.diagnostics.convergence_warning import judge
from sbi_aalr.diagnostics.datatree import to_datatree
from sbi_aalr.diagnostics.draws import read_draws

if TYPE_CHECKING:
    from sbi_aalr.sampling.run import Run


def run_to_datatree(
    run: "Run", parameter_names: Sequence[str] | None = None, split: bool = False
) -> xr.DataTree:
    """Convert a finished run to a DataTree, with what its sampler stopped on.

    Args:
        run: The run. Its settings become attributes.
        parameter_names: One name a parameter; by default the run's, else `theta_1` to
            `theta_D`.
        split: Whether to have a variable for each parameter, as in `to_datatree`.

    Returns:
        What `to_datatree` gives, made at the time of the run.

    Raises:
        ValueError: If names do not fit.
    """
    return to_datatree(
        run.chains,
        warmup=run.warmup,
        observed_data=run.observed,
        parameter_names=_choose_names(run, parameter_names),
        attributes={**run.settings, "created_at": run.created_at.isoformat()},
        batched=run.batched,
        convergence=run.convergence,
        split=split,
    )


def run_to_dataset(
    run: "Run", parameter_names: Sequence[str] | None = None
) -> xr.Dataset:
    """Label how far a run has converged.

    Args:
        run: The run.
        parameter_names: One name a parameter; by default the run's, else `theta_1` to
            `theta_D`.

    Returns:
        `r_hat`, `ess_bulk`, `ess_tail` and `stuck_chains` with the dimensions
        `(observation, parameter)`; `acceptance_rate`, `num_steps` and `converged` with
        `(observation)`.

    Raises:
        ValueError: If names do not fit.
    """
    chains = run.chains
    return label_convergence(
        run.convergence,
        chains.num_chains,
        chains.num_draws,
        _choose_names(run, parameter_names),
    )


def warn_about_run(
    run: "Run", max_rhat: float | None, min_ess: float | None, stacklevel: int
) -> None:
    """Warn about the worst observation and parameter, if limits were not met.

    Args:
        run: The run.
        max_rhat: Largest R-hat that passes; None if any does.
        min_ess: Smallest effective sample size that passes; None if any does.
        stacklevel: As the caller would give it to `warnings.warn`.

    Warns:
        ConvergenceWarning: As `warn_if_not_converged` does.
    """
    draws = read_draws(
        run.chains, parameter_names=run.parameter_names, batched=run.batched
    )
    warning = judge(run_to_dataset(run), draws, max_rhat, min_ess)
    if warning is not None:
        warnings.warn(warning, stacklevel=stacklevel + 1)


def _choose_names(
    run: "Run", parameter_names: Sequence[str] | None
) -> Sequence[str] | None:
    return run.parameter_names if parameter_names is None else parameter_names
