"""Simulations that are left out, and told of."""

import warnings

import torch
from torch import Tensor

from sbi_aalr.errors import InvalidSimulationsWarning


def leave_out_invalid(theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows whose x is finite, and the theta of others, with a warning."""
    valid = torch.isfinite(x).flatten(1).all(dim=1)
    num_invalid = int((~valid).sum())
    if num_invalid == len(x):
        raise ValueError(
            f"`x` must be finite in some rows, got NaN or infinity in all {len(x)}. "
            "Repair the simulator."
        )
    if num_invalid:
        warnings.warn(
            InvalidSimulationsWarning(
                f"{num_invalid} of {len(x)} simulations have NaN or infinity in `x` "
                "and were left out. `build_posterior` corrects for where such are "
                "common; the ratio alone is systematically wrong there.",
                num_invalid / len(x),
            ),
            # Past `append_simulations`, to whoever called it.
            stacklevel=3,
        )
    return theta[valid], x[valid], theta[~valid]
