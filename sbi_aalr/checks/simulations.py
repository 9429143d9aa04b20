"""Checks of simulations that exist already, by whatever simulator they were made."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks.rows import (
    check_finite,
    check_row_shapes,
    check_tensor,
    keep_digits,
)
from sbi_aalr.checks.support import check_inside


def check_simulations(
    theta: object,
    x: object,
    allow_invalid_x: bool = False,
    earlier: Sequence[Tensor] | None = None,
    prior: Distribution | None = None,
) -> tuple[Tensor, Tensor]:
    """Return copies of stored simulations without gradients, or raise.

    They are float32, and data are float64 where float32 would blur them; see
    `keep_digits`. Of a single row nobody can tell, and it keeps what it has. Whatever
    becomes of what was given, they stay as they are.

    Args:
        theta: Parameters, shape `(N, D)`.
        x: Data, shape `(N, *event_shape)`.
        allow_invalid_x: Let NaN and infinity in `x` pass.
        earlier: Parameters and data stored before, whose widths these must have.
        prior: The prior that allows the parameters, where it is known.

    Raises:
        TypeError: If either is no tensor of real numbers.
        ValueError: If they are empty, differ in their number of rows, from `earlier` or
            from the prior in their width, lie outside the prior, or hold NaN or
            infinity.
    """
    theta, x = check_tensor("theta", theta), check_tensor("x", x)
    for name, value in (("theta", theta), ("x", x)):
        if value.ndim < 2 or value.numel() == 0:
            raise ValueError(
                f"`{name}` must have at least one row and one column, got shape "
                f"{tuple(value.shape)}."
            )
    if theta.ndim != 2:
        raise ValueError(f"`theta` must be (N, D), got shape {tuple(theta.shape)}.")
    if theta.shape[0] != x.shape[0]:
        raise ValueError(
            "`theta` and `x` must have the same number of rows, got "
            f"{theta.shape[0]} and {x.shape[0]}."
        )
    if earlier:
        shapes = [before.shape[1:] for before in earlier]
        check_row_shapes(theta, x, shapes, "the simulations appended before")
    is_lone = len(x) == 1 and x.dtype == torch.float64
    theta = theta.to(torch.float32, copy=True)
    x = (x if is_lone else keep_digits(x)).clone()
    check_finite("theta", theta)
    if prior is not None:
        check_inside("theta", theta, prior)
    if not allow_invalid_x:
        advice = "Repair these rows, or leave them out by `exclude_invalid_x=True`."
        check_finite("x", x, advice)
    return theta, x
