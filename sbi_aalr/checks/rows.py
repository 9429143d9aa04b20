"""Checks of tensors whose rows are parameters or data."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Below so many steps of float32 in its spread a feature is blurred by rounding.
_FEW_STEPS = 1_000
# Rows that tell it, and the quantiles between which a spread is measured.
_MOST_ROWS = 10_000
_QUANTILES = (0.1587, 0.5, 0.8413)


def check_real(name: str, value: object) -> Tensor:
    """Return `value` as float32 without gradients, or raise if it is no real tensor."""
    return check_tensor(name, value).float()


def check_tensor(name: str, value: object) -> Tensor:
    """Return `value` dense and without gradients, or raise if it is no real tensor."""
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
    if value.is_meta or value.is_nested or value.is_quantized:
        kind = "on device meta" if value.is_meta else f"{value.layout}, {value.dtype}"
        raise TypeError(
            f"`{name}` must be a tensor with one number in each place, got one that is "
            f"{kind}."
        )
    return value.detach().to_dense()


def unmask(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Make what is masked NaN, so that nobody takes it for a number."""
    if not isinstance(array, np.ma.MaskedArray) or array.dtype.kind not in "biuf":
        return np.asarray(array)
    return np.ma.filled(array.astype(float), np.nan)


def keep_digits(rows: Tensor, device: torch.device | str | None = None) -> Tensor:
    """Round rows to float32, unless that would blur them.

    Values near 1e6 ± 1 are 16 steps of float32 apart. Networks that begin with a
    `Scale` centre them before they are rounded.

    Args:
        rows: Real numbers, shape `(N, *event_shape)`.
        device: Where they are wanted; by default where they are.

    Returns:
        Rows as float32, or as float64 where a feature varies by less than a thousand
        steps of float32.

    Example:
        >>> noise = torch.linspace(-1, 1, 100, dtype=torch.float64)
        >>> keep_digits(noise[:, None]).dtype, keep_digits(1e6 + noise[:, None]).dtype
        (torch.float32, torch.float64)
    """
    device = torch.device(rows.device if device is None else device)
    # Apple's GPUs have no float64.
    if rows.dtype.itemsize > 4 and device.type != "mps" and _are_blurred(rows):
        return rows.to(device, torch.float64)
    return rows.to(torch.float32).to(device)


def _are_blurred(rows: Tensor) -> bool:
    if rows.ndim < 2 or len(rows) < 2:
        return False
    some = rows[:_MOST_ROWS].detach().double().flatten(1)
    levels = torch.tensor(_QUANTILES, dtype=some.dtype, device=some.device)
    # At most as many entries as torch ranks.
    low, centre, high = torch.cat(
        [part.quantile(levels, dim=0) for part in some.split(1_000, dim=1)], dim=1
    )
    spread = (high - low) / 2
    step = torch.finfo(torch.float32).eps * centre.abs()
    return bool(((spread > 0) & (spread < _FEW_STEPS * step)).any())


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
