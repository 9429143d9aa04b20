"""Checks of what a posterior is given: potential, data, parameters, shape of draws."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sbi.inference.potentials.base_potential import BasePotential
from sbi.inference.potentials.ratio_based_potential import RatioBasedPotential
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor
from torch.distributions.transforms import Transform

from sbi_aalr.checks import check_finite, check_positive_int, check_tensor, unmask
from sbi_aalr.networks.digits import find_scales, warn_about_lost_digits
from sbi_aalr.networks.reach import warn_if_beyond
from sbi_aalr.posterior.parameters import MHPosteriorParameters


def check_estimator(estimator: object) -> RatioEstimator:
    """Return the estimator, or raise if it is no `RatioEstimator`."""
    if isinstance(estimator, RatioEstimator):
        return estimator
    raise TypeError(
        f"`estimator` must be a RatioEstimator, got {type(estimator).__name__}. Pass "
        "what `train` returned."
    )


def check_potential(potential_fn: object) -> Any:
    """Return the potential, or raise if it can be neither set nor called."""
    if callable(potential_fn) and not isinstance(potential_fn, type):
        return potential_fn
    raise TypeError(
        "`potential_fn` must be a potential of sbi's, or a callable (theta, x_o) -> "
        f"(N,), got {potential_fn!r:.60} of type {type(potential_fn).__name__}."
    )


def check_is_ratio(potential_fn: BasePotential) -> RatioBasedPotential:
    """Return the potential, or raise if it is not that of a ratio estimator."""
    if isinstance(potential_fn, RatioBasedPotential):
        return potential_fn
    raise TypeError(
        "Only a ratio can be measured, got a potential of type "
        f"{type(potential_fn).__name__}. Its `potential` is known up to a constant."
    )


def check_transform(theta_transform: object) -> Transform | None:
    """Return the transform, or raise if it is none of torch's."""
    if theta_transform is None or isinstance(theta_transform, Transform):
        return theta_transform
    raise TypeError(
        "`theta_transform` must be a torch Transform or None, got "
        f"{type(theta_transform).__name__}. sbi.utils.mcmc_transform(prior) makes one."
    )


def check_parameters(parameters: object) -> MHPosteriorParameters:
    """Return the settings, by default the usual ones, or raise if they are others."""
    if parameters is None:
        return MHPosteriorParameters()
    if isinstance(parameters, MHPosteriorParameters):
        return parameters
    raise TypeError(
        "`parameters` must be MHPosteriorParameters or None, got "
        f"{type(parameters).__name__}. Single settings go by name, such as "
        "`num_chains=20`."
    )


def check_x(x: object, potential_fn: BasePotential, stacklevel: int = 1) -> Tensor:
    """Return observations as rows `(n, *event_shape)`, or raise.

    They are float32, and float64 only where the network can tell more digits apart than
    float32 has.

    Args:
        x: One observation, shape `event_shape`, or several rows of that shape: tensors,
            arrays or lists of real numbers of any kind.
        potential_fn: Knows the event shape, if it has a ratio estimator.
        stacklevel: As the caller would give it to `warnings.warn`.

    Raises:
        TypeError: If `x` is not made of real numbers.
        ValueError: If it is empty, has another shape than in training, NaN or infinity.

    Warns:
        PrecisionWarning: If it is float32, and the data of training had more digits.
        FarObservationWarning: If it is a whole range beyond what was simulated.
    """
    rows = _read_numbers("x", x).detach()
    estimator = find_estimator(potential_fn)
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
    scales = [] if estimator is None else find_scales(estimator.embedding_net_x)
    if any(scale.location.device != rows.device for scale in scales):
        # Compared where the numbers are: not every device has float64.
        scales = [copy.deepcopy(scale).to(rows.device) for scale in scales]
    warn_about_lost_digits(rows, scales, stacklevel + 1)
    if not any(scale.sees_rounding(rows) for scale in scales):
        # A copy, as the default observation must not follow what the user's becomes.
        rows = rows.to(torch.float32, copy=True)
    check_finite("x", rows)
    warn_if_beyond(rows, scales, stacklevel + 1)
    return rows


def check_theta(
    theta: object, potential_fn: BasePotential, dim: int, name: str = "theta"
) -> Tensor:
    """Return parameters as float32 rows `(N, D)`, or raise.

    Args:
        theta: Parameters, shape `(N, D)` or `(D,)`; tensors keep their graph.
        potential_fn: Whose ratio estimator was trained on them, if it has one.
        dim: Number of parameters, `D`.
        name: Name of the argument, for messages.

    Raises:
        TypeError: If `theta` is not made of real numbers.
        ValueError: If it is empty, has another width, NaN or infinity.
    """
    rows = torch.atleast_2d(_read_numbers(name, theta)).to(torch.float32)
    if rows.ndim != 2 or rows.shape[1] != dim:
        where = "the prior" if find_estimator(potential_fn) is None else "training"
        raise ValueError(
            f"`{name}` must have shape (N, {dim}), as in {where}, got "
            f"{tuple(rows.shape)}."
        )
    if len(rows) == 0:
        raise ValueError(
            f"`{name}` must have at least one row, got {tuple(rows.shape)}."
        )
    return check_finite(name, rows)


def count_samples(sample_shape: Any) -> int:
    """Return how many draws a shape asks for, or raise."""
    if not isinstance(sample_shape, tuple | list | torch.Size):
        number = sample_shape if isinstance(sample_shape, int) else "1_000"
        raise TypeError(
            f"`sample_shape` must be a tuple of ints, got {sample_shape!r:.60}. Write "
            f"`({number},)` for that many draws."
        )
    return math.prod(check_positive_int("sample_shape", size) for size in sample_shape)


def find_estimator(potential_fn: Any) -> RatioEstimator | None:
    """The ratio estimator of a potential, or of the one that it is a condition of."""
    while potential_fn is not None:
        estimator = getattr(potential_fn, "ratio_estimator", None)
        if isinstance(estimator, RatioEstimator):
            return estimator
        potential_fn = getattr(potential_fn, "potential_fn", None)
    return None


def _read_numbers(name: str, value: Any) -> Tensor:
    """Make a tensor of numbers in whatever form, or raise; tensors keep their graph."""
    if isinstance(value, Sequence) and any(isinstance(part, Tensor) for part in value):
        value = _stack(name, value)
    if not isinstance(value, Tensor):
        value = _read_array(name, value)
    if value.is_complex():
        raise TypeError(
            f"`{name}` must be real, got {value.dtype}. Give real and imaginary part "
            "as numbers of their own."
        )
    check_tensor(name, value)
    # Tensors of inference mode take no part in gradients, wherever they are used.
    with torch.inference_mode(False):
        value = value.clone() if value.is_inference() else value
    value = value.to_dense() if value.layout != torch.strided else value
    return value if value.is_floating_point() else value.to(torch.float64)


def _stack(name: str, parts: Sequence[Any]) -> Tensor:
    try:
        return torch.stack([torch.as_tensor(part) for part in parts])
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"`{name}` must be a tensor or an array of numbers, got a "
            f"{type(parts).__name__} of tensors that do not fit: {error}."
        ) from error


def _read_array(name: str, value: object) -> Tensor:
    try:
        array = unmask(np.asanyarray(value))
    except (TypeError, ValueError, RuntimeError, OverflowError):
        array = np.asarray(None)
    if array.dtype == object:
        # Such as a table of pandas with columns of different kinds.
        try:
            is_given = value is not None and array.ndim > 0
            array = array.astype(np.float64) if is_given else array
        except (TypeError, ValueError, OverflowError):
            pass
    if array.dtype.kind not in "biufc":
        raise TypeError(
            f"`{name}` must be a tensor or an array of numbers, got "
            f"{type(value).__name__}."
        )
    kind: Any = np.complex128 if array.dtype.kind == "c" else np.float64
    if array.dtype.kind == "f" and array.dtype.itemsize <= 4:
        kind = np.float32
    # A copy, as torch takes no arrays of another machine's or of negative strides.
    return torch.from_numpy(array.astype(kind, copy=True, order="C"))
