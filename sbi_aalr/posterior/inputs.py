"""Checks of what a posterior is given: estimator, data, parameters, shape of draws."""

from typing import Any

import torch
from sbi.inference.potentials.base_potential import BasePotential
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

from sbi_aalr.checks import check_finite, check_positive_int


def check_estimator(estimator: object) -> RatioEstimator:
    """Return the estimator, or raise if it is no `RatioEstimator`."""
    if isinstance(estimator, RatioEstimator):
        return estimator
    raise TypeError(
        f"`estimator` must be a RatioEstimator, got {type(estimator).__name__}. Pass "
        "what `train` returned."
    )


def check_x(x: object, potential_fn: BasePotential) -> Tensor:
    """Return observations as float32 rows `(n, *event_shape)`, or raise.

    Args:
        x: One observation, shape `event_shape`, or several rows of that shape.
        potential_fn: Knows the event shape, if it has a ratio estimator.

    Raises:
        TypeError: If `x` is not made of numbers.
        ValueError: If it is empty, has another shape than in training, NaN or infinity.
    """
    rows = _read_numbers("x", x)
    estimator = getattr(potential_fn, "ratio_estimator", None)
    shape = getattr(estimator, "condition_shape", None)
    if shape is None:
        rows = torch.atleast_2d(rows)
    elif rows.shape == shape:
        rows = rows.unsqueeze(0)
    elif rows.shape[1:] != shape:
        many = ", ".join(["n", *map(str, shape)])
        raise ValueError(
            f"`x` must have shape {tuple(shape)} or ({many}), as in training, got "
            f"{tuple(rows.shape)}."
        )
    if rows.numel() == 0:
        raise ValueError(f"`x` must not be empty, got shape {tuple(rows.shape)}.")
    return check_finite("x", rows)


def check_theta(theta: object, potential_fn: BasePotential) -> Tensor:
    """Return parameters as float32 rows `(N, D)`, or raise.

    Args:
        theta: Parameters, shape `(N, D)` or `(D,)`.
        potential_fn: Knows `D`, if it has a ratio estimator.

    Raises:
        TypeError: If `theta` is not made of numbers.
        ValueError: If it is empty, has another width than in training, NaN or infinity.
    """
    rows = torch.atleast_2d(_read_numbers("theta", theta))
    estimator = getattr(potential_fn, "ratio_estimator", None)
    width = getattr(estimator, "input_shape", rows.shape[1:])
    if rows.ndim != 2 or rows.shape[1:] != width or rows.numel() == 0:
        raise ValueError(
            f"`theta` must have shape (N, {width[0]}), as in training, got "
            f"{tuple(rows.shape)}."
        )
    return check_finite("theta", rows)


def count_samples(sample_shape: Any) -> int:
    """Return how many draws a shape asks for, or raise."""
    if not isinstance(sample_shape, tuple | list | torch.Size):
        raise TypeError(
            "`sample_shape` must be a tuple of ints, got "
            f"{sample_shape!r}. Write `({sample_shape},)` for that many draws."
        )
    for size in sample_shape:
        check_positive_int("sample_shape", size)
    return torch.Size(sample_shape).numel()


def _read_numbers(name: str, value: object) -> Tensor:
    try:
        return torch.as_tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"`{name}` must be a tensor or an array of numbers, got "
            f"{type(value).__name__}."
        ) from error
