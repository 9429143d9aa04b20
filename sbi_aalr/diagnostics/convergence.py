"""R-hat and effective sample size (ESS) of many chains, measured or looked up.

Rank-normalised split R-hat, bulk and tail ESS as ArviZ computes them, and one thing
that they can miss: among many chains, one that never moves hardly changes them. Such
chains are counted beside the rest.

A sampler measures them to know when to stop, with nested R-hat where chains are many
and short. What it stopped on travels in the DataTree, and is what is shown from there
on; bare draws are measured here.

References:
    Vehtari, Gelman, Simpson, Carpenter & Bürkner (2021), Bayesian Analysis 16(2),
    arXiv:1903.08008; Margossian et al. (2024), arXiv:2110.13017, for nested R-hat.
"""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sbi_aalr.checks import check_parameter_names
from sbi_aalr.diagnostics.draws import Draws, DrawsLike, check_tree, read_draws
from sbi_aalr.diagnostics.split_parameters import join_parameters
from sbi_aalr.mcmc.convergence import (
    Convergence,
    count_stuck_chains,
    ess_bulk,
    ess_tail,
    rhat,
)

# Below these the statistics are not defined.
MIN_CHAINS = 2
MIN_DRAWS = 4

_DIMS = ("observation", "parameter")
_MEASURES = {
    "r_hat": rhat,
    "ess_bulk": ess_bulk,
    "ess_tail": ess_tail,
    "stuck_chains": count_stuck_chains,
}


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
            a DataTree made by `to_datatree`, which may know them from its sampler; see
            `read_convergence`.
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
        >>> convergence = measure_convergence(theta)
        >>> bool((convergence["r_hat"] < 1.01).all())
        True
        >>> theta[0] = 3.0
        >>> measure_convergence(theta)["stuck_chains"].values
        array([1, 1])
    """
    if not isinstance(draws, xr.DataTree):
        read = read_draws(draws, parameter_names=parameter_names, batched=batched)
        return _measure(read)
    convergence = read_convergence(draws)[list(_MEASURES)]
    if parameter_names is None:
        return convergence
    names = check_parameter_names(parameter_names, convergence.sizes["parameter"])
    return convergence.assign_coords(parameter=names)


def read_convergence(tree: xr.DataTree) -> xr.Dataset:
    """Look up the convergence that a DataTree came with, or measure it.

    It is measured anew, with plain R-hat, where the tree has none or has been cut since
    to other chains, draws, observations or parameters.

    Args:
        tree: What `to_datatree` returns, perhaps read back from a file.

    Returns:
        `r_hat`, `ess_bulk`, `ess_tail` and `stuck_chains` as `measure_convergence`
        gives them; where they are the sampler's, `acceptance_rate`, `num_steps` and
        `converged` too, with the dimension `([observation])`.

    Raises:
        ValueError: If the DataTree has no draws.
    """
    tree = join_parameters(check_tree("tree", tree))
    read = read_draws(tree)
    if "diagnostics" in tree.children:
        found = tree["diagnostics"].to_dataset()
        if _is_about(found, tree["posterior"].to_dataset()["theta"]):
            return found
    return _measure(read)


def label_convergence(
    convergence: Convergence,
    num_chains: int,
    num_draws: int,
    parameter_names: Sequence[str] | None = None,
) -> xr.Dataset:
    """Label what a sampler measured, and note what it was measured on.

    Args:
        convergence: Of `B` observations and `D` parameters.
        num_chains: Number of chains of each observation.
        num_draws: Number of draws of each chain.
        parameter_names: One name a parameter; `theta_1` to `theta_D` by default.

    Returns:
        A variable for each field, with dimensions `(observation, parameter)` or
        `(observation)`; `num_chains` and `num_draws` are attributes.

    Raises:
        ValueError: If names do not fit.
    """
    count, width = convergence.r_hat.shape
    return xr.Dataset(
        {
            name: (_DIMS[: values.ndim], values.cpu().numpy())
            for name, values in convergence._asdict().items()
        },
        coords={
            "observation": np.arange(count),
            "parameter": check_parameter_names(parameter_names, width),
        },
        attrs={"num_chains": num_chains, "num_draws": num_draws},
    )


def _measure(draws: Draws) -> xr.Dataset:
    theta = torch.from_numpy(draws.theta.astype(np.float64))
    values: dict[str, Tensor] = {
        name: measure(theta) for name, measure in _MEASURES.items()
    }
    dataset = xr.Dataset(
        {name: (_DIMS, value.numpy()) for name, value in values.items()},
        coords={"parameter": draws.parameter_names},
    )
    if draws.batched:
        return dataset.assign_coords(observation=np.arange(theta.shape[2]))
    return dataset.isel(observation=0)


def _is_about(convergence: xr.Dataset, theta: xr.DataArray) -> bool:
    """Whether it was measured on just these chains, draws, observations and names."""
    dims = [name for name in _DIMS if name in theta.dims]
    return (
        all(name in convergence for name in _MEASURES)
        and convergence["r_hat"].dims == tuple(dims)
        and convergence.attrs.get("num_chains") == theta.sizes["chain"]
        and convergence.attrs.get("num_draws") == theta.sizes["draw"]
        and all(np.array_equal(convergence[d], theta[d]) for d in dims)
    )
