"""R-hat and effective sample size (ESS) of many chains.

Rank-normalised split R-hat, bulk and tail ESS as ArviZ computes them, and one thing
that they can miss: among many chains, one that never moves hardly changes them. Such
chains are counted beside the figures.

References:
    Vehtari, Gelman, Simpson, Carpenter & Bürkner (2021), Bayesian Analysis 16(2),
    arXiv:1903.08008.
"""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from sbi_aalr.diagnostics.draws import DrawsLike, read_draws
from sbi_aalr.mcmc import convergence

# Below these the statistics are not defined.
MIN_CHAINS = 2
MIN_DRAWS = 4


def measure_convergence(
    draws: DrawsLike,
    *,
    parameter_names: Sequence[str] | None = None,
    batched: bool | None = None,
) -> xr.Dataset:
    """Compute R-hat and effective sample size of every parameter.

    What is not defined is NaN and cannot pass for success: R-hat of a single chain,
    anything from fewer than 4 draws a chain or from draws with NaN, and ESS of draws
    that are all the same (for which ArviZ gives `C * S`).

    Args:
        draws: A `Chains`, a tensor or array of shape `(C, S, D)` or `(C, S, B, D)`, or
            a DataTree made by `to_datatree`.
        parameter_names: One name a parameter, by default those of the DataTree, else
            `theta_1` to `theta_D`.
        batched: Whether there is a dimension `observation`, as in `to_datatree`.

    Returns:
        Variables `r_hat` (infinite if no chain moved and they differ), `ess_bulk`,
        `ess_tail` (the smaller ESS of the 5 % and 95 % quantiles) and `stuck_chains`
        (how many chains never moved), with dimensions `([observation, ]parameter)`.

    Raises:
        TypeError: If draws are of another type.
        ValueError: If shapes or names do not fit.

    Example:
        >>> import torch
        >>> theta = torch.randn(4, 500, 2, generator=torch.Generator().manual_seed(0))
        >>> figures = measure_convergence(theta)
        >>> bool((figures["r_hat"] < 1.01).all())
        True
        >>> theta[0] = 3.0
        >>> measure_convergence(theta)["stuck_chains"].values
        array([1, 1])
    """
    read = read_draws(draws, parameter_names=parameter_names, batched=batched)
    theta = torch.from_numpy(read.theta.astype(np.float64))
    figures = {
        "r_hat": convergence.rhat(theta),
        "ess_bulk": convergence.ess_bulk(theta),
        "ess_tail": convergence.ess_tail(theta),
        "stuck_chains": convergence.count_stuck_chains(theta),
    }
    dims = ("observation", "parameter")
    dataset = xr.Dataset(
        {name: (dims, value.numpy()) for name, value in figures.items()},
        coords={"parameter": read.parameter_names},
    )
    if read.batched:
        return dataset.assign_coords(observation=np.arange(theta.shape[2]))
    return dataset.isel(observation=0)
