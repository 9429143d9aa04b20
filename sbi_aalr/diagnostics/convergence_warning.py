"""A warning where chains do not suffice: which parameter, how far off, what to do.

References:
    Vehtari et al. (2021), Bayesian Analysis 16(2), arXiv:1903.08008, which gives the
    limits 1.01 on R-hat and 400 on the effective sample size (ESS).
"""

import warnings
from collections.abc import Sequence

import numpy as np
import xarray as xr

from sbi_aalr.checks import check_positive_float, check_positive_int
from sbi_aalr.diagnostics.convergence import (
    MIN_CHAINS,
    MIN_DRAWS,
    measure_convergence,
)
from sbi_aalr.diagnostics.draws import Draws, DrawsLike, read_draws
from sbi_aalr.errors import ConvergenceWarning
from sbi_aalr.mcmc.convergence import meets_limits

_UNSTICK = "Raise `warmup_steps`, or propose smaller steps."


def warn_if_not_converged(
    draws: DrawsLike,
    *,
    max_rhat: float = 1.01,
    min_ess: float = 400,
    parameter_names: Sequence[str] | None = None,
    batched: bool | None = None,
    stacklevel: int = 2,
) -> xr.Dataset:
    """Warn, once, if any parameter of any observation has not converged.

    Args:
        draws: A `Chains`, a tensor or array of shape `(C, S, D)` or `(C, S, B, D)`, or
            a DataTree made by `to_datatree`.
        max_rhat: Largest R-hat that passes.
        min_ess: Smallest effective sample size that passes, bulk and tail.
        parameter_names: One name a parameter, by default those of the DataTree, else
            `theta_1` to `theta_D`.
        batched: Whether there is a dimension `observation`, as in `to_datatree`.
        stacklevel: Frames from the warning to the line it points at; 2 is the line
            that calls this function.

    Returns:
        The numbers, as `measure_convergence` gives them.

    Warns:
        ConvergenceWarning: If an R-hat is above `max_rhat`, an ESS is below `min_ess`,
            either is NaN, or a chain never moved. It names the worst parameter; its
            `value` is the R-hat, the number of stuck chains or the ESS at fault.

    Raises:
        TypeError: If draws or limits are of another type.
        ValueError: If shapes or names do not fit, or a limit is not positive.

    Example:
        >>> import torch
        >>> theta = torch.randn(4, 500, 2, generator=torch.Generator().manual_seed(0))
        >>> convergence = warn_if_not_converged(theta)  # No warning.
        >>> float(convergence["ess_bulk"].min()) > 400
        True
    """
    max_rhat = check_positive_float("max_rhat", max_rhat)
    min_ess = check_positive_float("min_ess", min_ess)
    stacklevel = check_positive_int("stacklevel", stacklevel)
    read = read_draws(draws, parameter_names=parameter_names, batched=batched)
    convergence = measure_convergence(
        draws, parameter_names=parameter_names, batched=batched
    )
    every = convergence if read.batched else convergence.expand_dims("observation")
    warning = judge(every, read, max_rhat, min_ess)
    if warning is not None:
        warnings.warn(warning, stacklevel=stacklevel)
    return convergence


def judge(
    convergence: xr.Dataset,
    draws: Draws,
    max_rhat: float | None,
    min_ess: float | None,
) -> ConvergenceWarning | None:
    """Return the warning that is called for, or None if all pass.

    Args:
        convergence: As from `measure_convergence`, with the dimension `observation`.
        draws: The draws they were measured on.
        max_rhat: Largest R-hat that passes; None if any does.
        min_ess: Smallest effective sample size that passes; None if any does.
    """
    r_hat, stuck = convergence["r_hat"].values, convergence["stuck_chains"].values
    ess = np.minimum(convergence["ess_bulk"].values, convergence["ess_tail"].values)
    bad = ~meets_limits(r_hat, ess, stuck, max_rhat, min_ess)
    if not bad.any():
        return None
    # The gravest kind of failure is the one to report; `argmax` puts NaN first.
    has_bad_rhat = not meets_limits(r_hat, ess, 0 * stuck, max_rhat, None).all()
    gravest = r_hat if has_bad_rhat else stuck if stuck.any() else -ess
    worst = np.unravel_index(np.argmax(gravest), gravest.shape)
    observation, parameter = (int(index) for index in worst)
    name = f"`{draws.parameter_names[parameter]}`"
    verdict = "The chains have not converged"
    if draws.batched:
        name += f" for observation {observation}"
        verdict = (
            f"The chains of {int(bad.any(axis=1).sum())} of {len(bad)} observations "
            "have not converged; the worst"
        )
    if gravest is r_hat:
        value = float(r_hat[worst])
        what, advice = _explain_rhat(
            name, value, int(stuck[worst]), draws, max_rhat or np.inf
        )
    elif gravest is stuck:
        value = float(stuck[worst])
        what, advice = f"{_count_stuck(int(value), draws)} in {name}", _UNSTICK
    else:
        value = float(ess[worst])
        what, advice = _explain_ess(name, value, draws, min_ess or 0.0)
    return ConvergenceWarning(f"{verdict}: {what}. {advice}", value=value)


def _explain_rhat(
    name: str, value: float, num_stuck: int, draws: Draws, max_rhat: float
) -> tuple[str, str]:
    num_chains, num_draws = draws.theta.shape[:2]
    what = f"R-hat of {name} is {value:.4f}, above {max_rhat:g}"
    if np.isnan(value):
        what = f"R-hat of {name} is not defined"
    if num_stuck:
        return f"{what} ({_count_stuck(num_stuck, draws)})", _UNSTICK
    if not np.isnan(value):
        return what, "Raise `max_steps`, `warmup_steps` or `thin`."
    if num_draws < MIN_DRAWS:
        what += f" for fewer than {MIN_DRAWS} draws a chain, got {num_draws}"
        return what, "Draw more samples."
    if num_chains < MIN_CHAINS:
        what += f" for fewer than {MIN_CHAINS} chains, got {num_chains}"
        return what, "Raise `num_chains`."
    return f"{what} for draws with NaN", "Check the log-density that was sampled."


def _explain_ess(
    name: str, value: float, draws: Draws, min_ess: float
) -> tuple[str, str]:
    num_samples = draws.theta.shape[0] * draws.theta.shape[1]
    # Rounded down, so that the number shown is below the limit too.
    what = f"ESS of {name} is {np.floor(value):.0f}, below {min_ess:g}"
    if num_samples < min_ess:
        return what, f"Draw more than these {num_samples} samples."
    return what, "Raise `max_steps` or `thin`, or draw more samples."


def _count_stuck(num_stuck: int, draws: Draws) -> str:
    return f"{num_stuck} of {draws.theta.shape[0]} chains never moved"
