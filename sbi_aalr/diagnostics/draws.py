"""Read draws in any of the forms that users hold them in.

The rest of this room works on one form: an array `(C, S, B, D)`, one name a parameter,
and whether the observation axis is the user's or was put in here.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor

from sbi_aalr.checks import (
    check_bool,
    check_non_negative_int,
    check_parameter_names,
    check_type,
    unmask,
)
from sbi_aalr.diagnostics.split_parameters import join_parameters
from sbi_aalr.mcmc.chains import Chains

Array: TypeAlias = np.ndarray[Any, Any]
DrawsLike: TypeAlias = Chains | Tensor | Array | xr.DataTree


class Draws(NamedTuple):
    """Draws of many chains, with the names that label them.

    Attributes:
        theta: Draws, shape `(C, S, B, D)`, prior units.
        parameter_names: One name a parameter, length `D`.
        batched: Whether the observations are to be told apart by a dimension.
    """

    theta: Array
    parameter_names: list[str]
    batched: bool

    def for_observation(self, observation: int | None) -> Array:
        """Return the draws of one observation, shape `(C, S, D)`.

        Args:
            observation: Its index. `None` will do where there is only one.

        Raises:
            ValueError: If there are several and none is chosen, or there is no such.
        """
        count = self.theta.shape[2]
        if observation is not None:
            observation = check_non_negative_int("observation", observation)
        if observation is None and count == 1:
            observation = 0
        if observation is None or not 0 <= observation < count:
            raise ValueError(
                f"`observation` must be an index from 0 to {count - 1}, got "
                f"{observation!r}. The draws hold {count} observations: choose one."
            )
        return self.theta[:, :, observation]


def read_draws(
    draws: DrawsLike,
    *,
    parameter_names: Sequence[str] | None = None,
    batched: bool | None = None,
    name: str = "draws",
) -> Draws:
    """Bring draws into the one form that diagnostics work on.

    Args:
        draws: A `Chains`, a tensor or array of shape `(C, S, D)` or `(C, S, B, D)`, or
            a DataTree with the variable `theta` in its group `posterior`.
        parameter_names: One name a parameter; by default those of the DataTree, else
            `theta_1` to `theta_D`.
        batched: Whether there is a dimension of observations. By default there is if
            there are several, if a bare array has four dimensions, or if the DataTree
            has it.
        name: What the caller's user knows the draws by, for messages.

    Returns:
        The draws, a view of the memory passed in where that is possible.

    Raises:
        TypeError: If the draws are of another type.
        ValueError: If shapes or names do not fit.
    """
    if batched is not None:
        batched = check_bool("batched", batched)
    if isinstance(draws, xr.DataTree):
        return _read_datatree(draws, parameter_names)
    theta = to_array(name, draws.theta if isinstance(draws, Chains) else draws)
    if theta.ndim not in (3, 4) or 0 in theta.shape:
        raise ValueError(
            f"`{name}` must have shape (chains, draws, parameters) or (chains, draws, "
            f"observations, parameters), none of them empty, got {theta.shape}."
        )
    if batched is None:
        bare = not isinstance(draws, Chains)
        batched = theta.ndim == 4 and (bare or theta.shape[2] > 1)
    theta = theta if theta.ndim == 4 else theta[:, :, None]
    if not batched and theta.shape[2] > 1:
        raise ValueError(
            f"`batched` must be True for {theta.shape[2]} observations, got False."
        )
    names = check_parameter_names(parameter_names, theta.shape[-1])
    return Draws(theta, names, batched)


def check_tree(name: str, tree: object) -> xr.DataTree:
    """Return a DataTree, or raise if it is none."""
    return check_type(name, tree, xr.DataTree, "a DataTree, as `to_datatree` makes it")


def to_array(name: str, value: Tensor | ArrayLike) -> Array:
    """Return a tensor of any device, or anything array-like, as a numpy array.

    Args:
        name: Name of the argument, for the message.
        value: The numbers.

    Raises:
        TypeError: If the value is neither a tensor nor made of real numbers.
        ValueError: If its rows differ in length.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        # NumPy has no such type.
        value = value.float() if value.dtype == torch.bfloat16 else value
    try:
        array = unmask(np.asanyarray(value))
    except ValueError as error:
        raise ValueError(
            f"`{name}` must have rows of one length, got {type(value).__name__} of "
            f"which NumPy says: {error}."
        ) from error
    if array.dtype.kind not in "biuf":
        kind = f" of {array.dtype}" if isinstance(value, Tensor | np.ndarray) else ""
        raise TypeError(
            f"`{name}` must be a tensor or an array of real numbers, got "
            f"{type(value).__name__}{kind}."
        )
    return array


def _read_datatree(tree: xr.DataTree, parameter_names: Sequence[str] | None) -> Draws:
    tree = join_parameters(tree)
    if "posterior" not in tree.children or "theta" not in tree["posterior"].data_vars:
        raise ValueError(
            "The DataTree must have a variable `theta` in its group `posterior`, got "
            f"the groups {sorted(tree.children)}. Make it with `to_datatree`."
        )
    theta = tree["posterior"]["theta"]
    batched = "observation" in theta.dims
    if not batched:
        theta = theta.expand_dims("observation")
    theta = theta.transpose("chain", "draw", "observation", "parameter")
    if parameter_names is None:
        parameter_names = [str(name) for name in theta["parameter"].values]
    names = check_parameter_names(parameter_names, theta.sizes["parameter"])
    return Draws(theta.values, names, batched)
