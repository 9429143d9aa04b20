"""Checks of the rows that the tests of a ratio are given."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks import (
    check_finite,
    check_inside,
    check_real,
    check_tensor,
    count_parameters,
)


def check_theta_row(theta: object, prior: Distribution) -> Tensor:
    """Return one set of parameters as a row `(1, D)`, or raise.

    Raises:
        TypeError: If theta is no tensor of real numbers.
        ValueError: If it is not one set of as many parameters as the prior has, lies
            outside the prior, or holds NaN or infinity.
    """
    row = torch.atleast_2d(check_real("theta", theta))
    width = count_parameters(prior)
    if row.shape != (1, width):
        raise ValueError(
            f"`theta` must be one set of parameters, shape ({width},), got "
            f"{tuple(row.shape)}."
        )
    check_inside("theta", check_finite("theta", row), prior)
    return row


def check_rows(name: str, value: object) -> Tensor:
    """Return rows as a tensor `(B, *event_shape)` of float32 or float64, or raise.

    Raises:
        TypeError: If the value is no tensor of real numbers.
        ValueError: If it has no rows, no second dimension, or NaN or infinity.
    """
    rows = check_tensor(name, value)
    rows = rows if rows.dtype == torch.float64 else rows.float()
    if rows.ndim < 2 or rows.numel() == 0:
        raise ValueError(
            f"`{name}` must have one row an observation, (B, *event_shape), got shape "
            f"{tuple(rows.shape)}. Add a dimension to a single one: {name}[None]."
        )
    return check_finite(name, rows)
