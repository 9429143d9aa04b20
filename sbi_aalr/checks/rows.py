"""Checks of tensors whose rows are parameters or data."""

from collections.abc import Sequence

import torch
from torch import Tensor


def check_real(name: str, value: object) -> Tensor:
    """Return `value` as float32 without gradients, or raise if it is no real tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"`{name}` must be a torch tensor, got {type(value).__name__}. Convert "
            f"it with torch.as_tensor({name}, dtype=torch.float32)."
        )
    if value.is_complex():
        raise TypeError(
            f"`{name}` must hold real numbers, got {value.dtype}. Pass real and "
            "imaginary parts side by side: torch.view_as_real makes them."
        )
    return value.detach().float()


def check_finite(
    name: str, value: Tensor, advice: str = "Remove or repair these rows."
) -> Tensor:
    """Return `value`, or raise if it holds NaN or infinity, saying how many and where.

    Args:
        name: Name of the argument, for the message.
        value: Tensor of any shape whose first dimension counts rows.
        advice: What to do about it.

    Raises:
        ValueError: If any entry is NaN or infinite.
    """
    bad = ~torch.isfinite(value)
    if bad.any():
        rows = bad.reshape(bad.shape[0], -1).any(dim=1) if bad.ndim else bad.reshape(1)
        first = int(rows.nonzero()[0])
        raise ValueError(
            f"`{name}` must be finite, got NaN or infinity in {int(rows.sum())} of "
            f"{rows.numel()} rows (first: row {first}). {advice}"
        )
    return value


def check_row_shapes(
    theta: Tensor, x: Tensor, shapes: Sequence[torch.Size], source: str
) -> None:
    """Raise if rows of `theta` and `x` do not have the `shapes` that `source` has."""
    for name, value, shape in zip(("theta", "x"), (theta, x), shapes, strict=True):
        if value.shape[1:] != shape:
            raise ValueError(
                f"`{name}` must have rows of shape {tuple(shape)} as in {source}, got "
                f"{tuple(value.shape[1:])}."
            )
