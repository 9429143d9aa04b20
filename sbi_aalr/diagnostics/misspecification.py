"""Is an observation like anything that was simulated?

A network says something about any data, and says it with the same confidence where it
has never been. So the distance of an observation to the nearest simulations is compared
with that of other simulations, held out. If those were exchangeable with it, it would
be the farthest of all with probability 1/(n + 1), whatever their distribution.

References:
    Vovk, Gammerman & Shafer (2005), *Algorithmic Learning in a Random World*, for
    conformal prediction, whose p-value this is.
"""

import warnings
from typing import NamedTuple

import numpy as np
from torch import Tensor

from sbi_aalr.diagnostics.draws import Array
from sbi_aalr.diagnostics.inputs import check_rows
from sbi_aalr.errors import FarObservationWarning

_NUM_NEIGHBOURS = 5
MIN_SIMULATIONS = 100


class Misspecification(NamedTuple):
    """How far observations are from simulations.

    Attributes:
        distance: Mean distance of each observation to its 5 nearest simulations, in
            interquartile ranges of the features, large ones logarithmic; shape `(B,)`.
        typical: Median of the same for simulations held out.
        largest: The largest of them.
        num_held_out: How many they are.
        p_value: Share of the held-out simulations, and of the observation itself, that
            are at least as far, shape `(B,)`.
    """

    distance: Array
    typical: float
    largest: float
    num_held_out: int
    p_value: Array

    @property
    def far(self) -> Array:
        """Which observations are farther than every simulation, bool, shape `(B,)`."""
        return self.distance > self.largest

    def describe(self, distance: float) -> str:
        """A distance in words, in units of the typical one.

        Counts and categories have most often their equals among the simulations; then
        the typical distance is zero and no unit.
        """
        if self.typical == 0:
            return f"{distance:.2g} interquartile ranges"
        return f"{distance / self.typical:.1f} times the typical one"


def measure_misspecification(x_o: Tensor, x: Tensor) -> Misspecification:
    """Compare observations with simulations from the prior.

    Features are scaled by their interquartile range and passed through the inverse
    hyperbolic sine, so that heavy tails do not decide everything.

    Args:
        x_o: Observations, shape `(B, *event_shape)`.
        x: Simulations from the prior, shape `(N, *event_shape)`, in random order; half
            of them are neighbours, half are held out.

    Returns:
        Distances and p-values.

    Raises:
        TypeError: If either is no tensor.
        ValueError: If shapes do not fit, there are fewer than 100 simulations, or there
            is NaN or infinity.

    Example:
        >>> import torch
        >>> x = torch.randn(1_000, 3, generator=torch.Generator().manual_seed(0))
        >>> x_o = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
        >>> measure_misspecification(x_o, x).far
        array([False,  True])
    """
    from scipy.spatial import cKDTree

    rows, simulations = check_rows("x_o", x_o), check_rows("x", x)
    if rows.shape[1:] != simulations.shape[1:]:
        raise ValueError(
            f"`x_o` must have rows of shape {tuple(simulations.shape[1:])} as `x`, got "
            f"{tuple(rows.shape[1:])}."
        )
    if len(simulations) < MIN_SIMULATIONS:
        raise ValueError(
            f"`x` must have at least {MIN_SIMULATIONS} rows, got {len(simulations)}."
        )
    observed, simulated = (
        part.flatten(1).double().cpu().numpy() for part in (rows, simulations)
    )
    near, held_out = np.array_split(simulated, 2)
    low, centre, high = np.quantile(near, [0.25, 0.5, 0.75], axis=0)
    width = np.where(high > low, high - low, np.maximum(near.std(axis=0), 1e-12))

    def scale(values: Array) -> Array:
        return np.arcsinh((values - centre) / width)

    tree = cKDTree(scale(near))
    distance, usual = (
        tree.query(scale(values), k=_NUM_NEIGHBOURS)[0].mean(axis=1)
        for values in (observed, held_out)
    )
    at_least = (usual[None] >= distance[:, None]).sum(axis=1)
    return Misspecification(
        distance=distance,
        typical=float(np.median(usual)),
        largest=float(usual.max()),
        num_held_out=len(usual),
        p_value=(at_least + 1) / (len(usual) + 1),
    )


def warn_if_misspecified(
    x_o: Tensor, x: Tensor, *, stacklevel: int = 2
) -> Misspecification:
    """Warn if an observation is far from anything simulated.

    Args:
        x_o: Observations, shape `(B, *event_shape)`.
        x: Simulations from the prior, shape `(N, *event_shape)`, in random order.
        stacklevel: Frames from the warning to the line it points at; 2 is the line
            that calls this function.

    Returns:
        What `measure_misspecification` gives.

    Warns:
        FarObservationWarning: If an observation is farther from its nearest simulations
            than every simulation held out. Its `value` is the distance over the typical
            one, infinite where that is zero.

    Raises:
        TypeError: If either is no tensor.
        ValueError: As `measure_misspecification` does.
    """
    found = measure_misspecification(x_o, x)
    if found.far.any():
        worst = int(found.distance.argmax())
        distance = float(found.distance[worst])
        what = "The observation"
        if len(found.distance) > 1:
            what = f"{int(found.far.sum())} of {len(found.distance)} observations"
            what += f", the worst is number {worst}: it"
        warning = FarObservationWarning(
            f"{what} is farther from the simulations than each of "
            f"{found.num_held_out} simulations held out: the distance is "
            f"{found.describe(distance)}. The network has not been there: check units "
            "and order of the data, the simulator and the prior.",
            value=distance / found.typical if found.typical else float("inf"),
        )
        warnings.warn(warning, stacklevel=stacklevel)
    return found
