"""What of a posterior goes to disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sbi.inference.potentials.ratio_based_potential import RatioBasedPotential
from torch import Tensor

from sbi_aalr.persistence.posterior_files import Saved, write


def save(
    folder: str | Path,
    potential_fn: Any,
    settings: Mapping[str, Any],
    x: Tensor | None,
    parameter_names: list[str] | None,
) -> Path:
    """Write the parts of a posterior; see `MHPosterior.save`.

    Args:
        folder: Where to.
        potential_fn: With a ratio estimator and a prior.
        settings: How to sample, by name.
        x: Default observation, or None.
        parameter_names: One name a parameter, or None.

    Raises:
        TypeError: If the potential has no ratio estimator.
    """
    if not isinstance(potential_fn, RatioBasedPotential):
        raise TypeError(
            "Only posteriors with a ratio estimator can be saved, got a "
            f"{type(potential_fn).__name__}."
        )
    parts = potential_fn.ratio_estimator, potential_fn.prior
    return write(folder, Saved(*parts, settings, x, parameter_names))
