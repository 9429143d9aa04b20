"""Chains as an ArviZ DataTree: the form that ArviZ reads, draws and stores.

The layout follows the ArviZ schema: groups `posterior`, `sample_stats`, their warm-up
twins and `observed_data`; dimensions `(chain, draw, ...)`. A further group,
`diagnostics`, keeps what the sampler stopped on.

References:
    ArviZ: a unified library for exploratory analysis of Bayesian models,
    https://python.arviz.org/en/latest/schema/schema.html
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from numbers import Integral, Real
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor

from sbi_aalr._version import __version__
from sbi_aalr.checks import check_type
from sbi_aalr.diagnostics.convergence import label_convergence
from sbi_aalr.diagnostics.draws import Array, Draws, DrawsLike, read_draws, to_array
from sbi_aalr.diagnostics.split_parameters import split_parameters
from sbi_aalr.mcmc.chains import Chains
from sbi_aalr.mcmc.convergence import Convergence

_INT64 = np.iinfo(np.int64)


def to_datatree(
    chains: Chains | Tensor | Array,
    *,
    warmup: Chains | Tensor | Array | None = None,
    observed_data: Tensor | ArrayLike | None = None,
    parameter_names: Sequence[str] | None = None,
    attributes: Mapping[str, Any] | None = None,
    batched: bool | None = None,
    convergence: Convergence | None = None,
    split: bool = False,
) -> xr.DataTree:
    """Convert chains to a DataTree that ArviZ, and NetCDF, understand.

    | group | variables | dimensions |
    |---|---|---|
    | `posterior` | `theta` | `chain, draw[, observation], parameter` |
    | `sample_stats` | `lp`, `acceptance_rate`, `accepted` | `chain, draw[, ...]` |
    | `warmup_posterior`, `warmup_sample_stats` | the same | the same |
    | `observed_data` | `x` | `[observation or trial, ]x_dim_0, ...` |
    | `diagnostics` | `r_hat`, `ess_bulk`, ... | `[observation, ]parameter` |

    Args:
        chains: The draws. A bare tensor or array of shape `(C, S, D)` or
            `(C, S, B, D)`, prior units, has no statistics to go with it.
        warmup: Draws made before these, of the same chains; none where it is empty.
        observed_data: What the chains are conditioned on. One observation is
            `(*event,)` or `(1, *event)`, `T` i.i.d. trials are `(T, *event)`, and a
            batch is `(B, *event)`.
        parameter_names: One name a parameter, `theta_1` to `theta_D` by default.
        attributes: What made the chains, such as kernel, thin or seed. Kept on every
            group in a form that NetCDF can hold: `None` is left out, booleans become 0
            or 1, whatever is neither number nor text becomes JSON text.
        batched: Whether there is a dimension `observation`. By default there is if
            there are several observations, or if a bare array has four dimensions.
        convergence: What the sampler stopped on, measured on just these draws. It goes
            into the group `diagnostics`, for tables, plots and warnings to show.
        split: Whether to have a variable for each parameter, named like it, in the
            place of `theta`; for `var_names`, as ArviZ's functions take them.

    Returns:
        The tree. Its arrays share memory with the chains where these are on the CPU.

    Raises:
        TypeError: If chains are no `Chains`, tensor or array.
        ValueError: If shapes or names do not fit together, or a name can be none of
            a variable.

    Example:
        >>> import torch
        >>> tree = to_datatree(torch.zeros(4, 250, 2), parameter_names=["rate", "size"])
        >>> tree["posterior"]["theta"].dims
        ('chain', 'draw', 'parameter')
        >>> [str(name) for name in tree["posterior"]["parameter"].values]
        ['rate', 'size']
    """
    # Imported here because it takes a second, which `import sbi_aalr` should not.
    from arviz_base import from_dict

    if attributes is not None:
        check_type("attributes", attributes, Mapping, "a mapping of names to values")
    draws = read_draws(
        chains, parameter_names=parameter_names, batched=batched, name="chains"
    )
    groups = {"posterior": {"theta": _drop_observation(draws.theta, draws)}}
    if isinstance(chains, Chains):
        groups["sample_stats"] = _collect_statistics(chains, draws)
    if warmup is not None and _count_draws(warmup) > 0:
        early = _read_warmup(warmup, draws)
        groups["warmup_posterior"] = {"theta": _drop_observation(early.theta, early)}
        if isinstance(warmup, Chains):
            groups["warmup_sample_stats"] = _collect_statistics(warmup, early)
    per_draw = ["observation"] if draws.batched else []
    dims = {
        "theta": [*per_draw, "parameter"],
        "lp": per_draw,
        "acceptance_rate": per_draw,
        "accepted": per_draw,
    }
    if observed_data is not None:
        x, dims["x"] = _arrange_observed(
            to_array("observed_data", observed_data), draws
        )
        groups["observed_data"] = {"x": x}
    made_by = {
        "created_at": datetime.now(UTC).isoformat(),
        "inference_library": "sbi_aalr",
        "inference_library_version": __version__,
        **_make_storable(attributes or {}),
    }
    tree = from_dict(
        groups,
        sample_dims=["chain", "draw"],
        save_warmup=True,
        index_origin=0,
        coords={"parameter": draws.parameter_names},
        dims=dims,
        # More chains than draws is what batched sampling is for, not a slip.
        check_conventions=False,
        attrs={name: made_by for name in ("/", *groups)},
    )
    if convergence is not None:
        labelled = _label(convergence, draws)
        labelled.attrs = {**made_by, **labelled.attrs}
        tree["diagnostics"] = xr.DataTree(labelled)
    return split_parameters(tree) if split else tree


def to_inference_data(datatree: xr.DataTree) -> Any:
    """Convert a DataTree to the `InferenceData` of ArviZ 0.x.

    ArviZ 1.0 and later work on the DataTree itself and need no conversion.

    Args:
        datatree: What `to_datatree` returns.

    Returns:
        The same groups as `arviz.InferenceData`.

    Raises:
        ImportError: If ArviZ 0.x is not installed.
    """
    try:
        import arviz  # type: ignore[import, unused-ignore]
    except ImportError as error:
        raise ImportError(
            "`to_inference_data` needs ArviZ 0.x. Install it with "
            "`pip install 'arviz<1'`."
        ) from error
    if int(arviz.__version__.split(".")[0]) >= 1:
        raise ImportError(
            f"`to_inference_data` needs ArviZ 0.x, got {arviz.__version__}. That works "
            "on the DataTree itself: pass it on as it is."
        )
    return arviz.from_datatree(datatree)


def _label(convergence: Convergence, draws: Draws) -> xr.Dataset:
    check_type("convergence", convergence, Convergence, "what `Run.convergence` is")
    num_chains, num_draws, *shape = draws.theta.shape
    if tuple(convergence.r_hat.shape) != tuple(shape):
        raise ValueError(
            "`convergence` must have the observations and parameters of `chains`, got "
            f"{tuple(convergence.r_hat.shape)}, not {tuple(shape)}."
        )
    labelled = label_convergence(
        convergence, num_chains, num_draws, draws.parameter_names
    )
    return labelled if draws.batched else labelled.isel(observation=0, drop=True)


def _read_warmup(warmup: DrawsLike, draws: Draws) -> Draws:
    early = read_draws(
        warmup,
        parameter_names=draws.parameter_names,
        batched=draws.batched,
        name="warmup",
    )
    kept, thrown = draws.theta.shape, early.theta.shape
    if (kept[0], *kept[2:]) != (thrown[0], *thrown[2:]):
        raise ValueError(
            "`warmup` must have the chains, observations and parameters of `chains`, "
            f"got {(thrown[0], *thrown[2:])}, not {(kept[0], *kept[2:])}."
        )
    return early


def _count_draws(chains: DrawsLike) -> int:
    theta = chains.theta if isinstance(chains, Chains) else chains
    if not isinstance(theta, Tensor | np.ndarray):
        theta = to_array("warmup", theta)
    return int(theta.shape[1] if len(theta.shape) > 1 else np.prod(theta.shape))


def _collect_statistics(chains: Chains, draws: Draws) -> dict[str, Array]:
    statistics = {
        "lp": chains.log_prob,
        "acceptance_rate": chains.acceptance_rate,
        "accepted": chains.accepted,
    }
    return {
        name: _drop_observation(to_array(name, value), draws)
        for name, value in statistics.items()
    }


def _drop_observation(value: Array, draws: Draws) -> Array:
    return value if draws.batched else value[:, :, 0]


def _arrange_observed(x: Array, draws: Draws) -> tuple[Array, list[str]]:
    num_observations = draws.theta.shape[2]
    if draws.batched:
        if x.ndim == 0 or x.shape[0] != num_observations:
            raise ValueError(
                f"`observed_data` must have one row for each of {num_observations} "
                f"observations, got shape {x.shape}."
            )
        return x, ["observation"]
    if x.ndim < 2:
        return x, []
    return (x[0], []) if x.shape[0] == 1 else (x, ["trial"])


def _make_storable(attributes: Mapping[str, Any]) -> dict[str, str | int | float]:
    return {
        str(name): _store(value)
        for name, value in attributes.items()
        if value is not None
    }


def _store(value: Any) -> str | int | float:
    if isinstance(value, Tensor | np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, str):
        return value
    if isinstance(value, Integral):
        number = int(value)
        return number if _INT64.min <= number <= _INT64.max else str(number)
    if isinstance(value, Real):
        return float(value)
    return json.dumps(value, default=str)
