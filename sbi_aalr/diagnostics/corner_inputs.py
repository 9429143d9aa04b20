"""What a corner plot is made of: draws of one posterior or of several, and marks."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr

from sbi_aalr.checks import check_fraction, check_parameter_names
from sbi_aalr.diagnostics.draws import Array, DrawsLike, read_draws, to_array
from sbi_aalr.diagnostics.plot_style import BLUE, OVERLAYS
from sbi_aalr.mcmc.chains import Chains
from sbi_aalr.mcmc.convergence import ess_bulk


class Posterior(NamedTuple):
    """Draws that share a colour.

    Attributes:
        label: What the legend calls them.
        draws: Shape `(N, D)`, prior units.
        num_effective: How many independent draws they are worth.
        color: As matplotlib takes it.
    """

    label: str
    draws: Array
    num_effective: float
    color: str


def check_levels(levels: Sequence[float]) -> list[float]:
    """Return shares of draws, the largest first, or raise."""
    shares = sorted({check_fraction("levels", level) for level in levels}, reverse=True)
    if not shares:
        raise ValueError("`levels` must have a share at least, got none.")
    return shares


def read_posteriors(
    samples: DrawsLike | Mapping[str, DrawsLike],
    parameter_names: Sequence[str] | None,
    observation: int | None,
    label: str,
) -> tuple[list[Posterior], list[str]]:
    """Return each posterior's draws, and the names that they share, or raise."""
    # A DataTree is a mapping of its groups.
    several = isinstance(samples, Mapping) and not isinstance(samples, xr.DataTree)
    given: Mapping[str, DrawsLike] = samples if several else {label: samples}  # type: ignore[assignment,dict-item]
    if not given:
        raise ValueError("`samples` must hold draws, got an empty dict.")
    found, names = [], None
    for color, (name, one) in zip(_list_colors(len(given)), given.items(), strict=True):
        draws, own, count = _flatten(one, parameter_names, observation)
        if not np.isfinite(draws).all():
            raise ValueError("`samples` must be finite, got NaN or infinity.")
        if names is not None and len(own) != len(names):
            raise ValueError(
                f"`samples` must have the same parameters in all posteriors, got "
                f"{len(names)} and, in {name!r}, {len(own)}."
            )
        names = names or own
        found.append(Posterior(name, draws, count, color))
    return found, names or []


def _list_colors(count: int) -> list[str]:
    return [(BLUE, *OVERLAYS)[index % (1 + len(OVERLAYS))] for index in range(count)]


def _flatten(
    samples: DrawsLike, parameter_names: Sequence[str] | None, observation: int | None
) -> tuple[Array, list[str], float]:
    if not isinstance(samples, Chains | xr.DataTree):
        array = to_array("samples", samples)
        if array.ndim == 2 and array.size:
            names = check_parameter_names(parameter_names, array.shape[1])
            return array, names, float(len(array))
    read = read_draws(samples, parameter_names=parameter_names, name="samples")
    theta = read.for_observation(observation)
    draws = theta.reshape(-1, theta.shape[-1])
    ess = ess_bulk(torch.from_numpy(theta[:, :, None].astype(np.float64)))
    # It is not defined for few draws, nor for those that do not move.
    least = float(ess.nan_to_num(nan=len(draws)).min())
    return draws, read.parameter_names, float(np.clip(least, 1, len(draws)))


def check_others(
    reference: object, truth: object, width: int
) -> tuple[Array | None, Array | None]:
    """Return draws to compare with and the true parameters, or raise."""
    exact = None if reference is None else to_array("reference", reference)  # type: ignore[arg-type]
    if exact is not None and (
        exact.ndim != 2 or exact.shape[1] != width or exact.size == 0
    ):
        raise ValueError(
            f"`reference` must have shape (N, {width}) with a row at least, got "
            f"{exact.shape}."
        )
    marks = None if truth is None else to_array("truth", truth)  # type: ignore[arg-type]
    if marks is not None and marks.shape != (width,):
        raise ValueError(
            f"`truth` must have shape ({width},), one value a parameter, got "
            f"{marks.shape}."
        )
    for name, rows in (("reference", exact), ("truth", marks)):
        if rows is not None and not np.isfinite(rows).all():
            raise ValueError(f"`{name}` must be finite, got NaN or infinity.")
    return exact, marks
