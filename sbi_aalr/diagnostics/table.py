"""The table of a posterior, in numbers.

The columns are ArviZ's; R-hat and ESS in it are those of `measure_convergence`, which
are those that the sampler stopped on where the DataTree has them, and NaN where ArviZ
calls draws that never move effective.
"""

from typing import TYPE_CHECKING

import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor

from sbi_aalr.checks import check_fraction
from sbi_aalr.diagnostics.convergence import measure_convergence
from sbi_aalr.diagnostics.draws import check_tree, to_array
from sbi_aalr.diagnostics.split_parameters import join_parameters

if TYPE_CHECKING:
    import pandas as pd


def summary(
    datatree: xr.DataTree,
    *,
    truth: Tensor | ArrayLike | None = None,
    ci_prob: float = 0.94,
) -> "pd.DataFrame":
    """Tabulate the posterior: mean, sd, interval, ESS and R-hat of each parameter.

    Args:
        datatree: What `to_datatree` returns.
        truth: True parameters, shape `(D,)`, for a batch `(B, D)`, prior units; shown
            in a first column.
        ci_prob: Probability of the equal-tailed interval.

    Returns:
        A row a parameter, labelled with its name (for a batch with observation and
        name); columns `[truth, ]mean, sd, eti94_lb, eti94_ub, ess_bulk, ess_tail,
        r_hat`, unrounded numbers.

    Raises:
        ValueError: If the truth has another shape or the DataTree has no `theta`.

    Example:
        >>> import torch
        >>> from sbi_aalr.diagnostics import to_datatree
        >>> theta = torch.randn(4, 500, 2, generator=torch.Generator().manual_seed(0))
        >>> table = summary(to_datatree(theta), truth=[0.0, 0.0])
        >>> list(table.columns[:3]), list(table.index)
        (['truth', 'mean', 'sd'], ['theta_1', 'theta_2'])
    """
    # Imported here because it takes seconds, which `import sbi_aalr` should not.
    import arviz_stats

    datatree = join_parameters(check_tree("datatree", datatree))
    convergence = measure_convergence(datatree)
    statistics = arviz_stats.summary(
        datatree,
        var_names=["theta"],
        kind="stats",
        fmt="xarray",
        ci_prob=check_fraction("ci_prob", ci_prob),
        ci_kind="eti",
        round_to="none",
    )["theta"]
    dims = convergence["r_hat"].dims
    columns = {
        str(name): statistics.sel(summary=name).transpose(*dims).values
        for name in statistics["summary"].values
    }
    for name in ("ess_bulk", "ess_tail", "r_hat"):
        columns[name] = convergence[name].values
    if truth is not None:
        true_values = to_array("truth", truth)
        shape = convergence["r_hat"].shape
        if true_values.shape != shape:
            raise ValueError(
                f"`truth` must have shape {shape}, one value a row of the table, got "
                f"{true_values.shape}."
            )
        columns = {"truth": true_values, **columns}
    table = xr.Dataset(
        {name: (dims, values) for name, values in columns.items()},
        coords=convergence.coords,
    )
    return table.to_dataframe()[list(columns)]
