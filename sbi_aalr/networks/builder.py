"""What all builders of ratio estimators do: check arguments and rows, and go ahead."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from numbers import Real

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn

from sbi_aalr.networks.digits import warn_about_rounding

Build = Callable[[Tensor, Tensor], RatioEstimator]


@contextlib.contextmanager
def float32_by_default() -> Iterator[None]:
    """Make weights that are float32, whatever torch's default dtype is."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def builds_network(build: Build) -> Build:
    """Make a builder check its rows, and build alike in whatever mode torch is.

    Weights are float32 and can be trained, whatever torch's default dtype is, and under
    `torch.inference_mode` too.

    Args:
        build: Makes a ratio estimator of rows of theta and x.

    Returns:
        The builder. It raises `TypeError` for rows that are no tensors, `ValueError`
        for tensors that are no rows.
    """

    @functools.wraps(build)
    def build_anywhere(theta: Tensor, x: Tensor) -> RatioEstimator:
        _check_rows(theta, x)
        warn_about_rounding("theta", theta)
        warn_about_rounding("x", x)
        with float32_by_default(), torch.inference_mode(False):
            return build(theta, x)

    return build_anywhere


def check_dropout(value: object) -> float:
    """Return `value` as a float, or raise if it is no share below one."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"`dropout` must be a number, got {value!r} of type {type(value).__name__}."
        )
    share = float(value)
    if not 0 <= share < 1:
        raise ValueError(f"`dropout` must be at least 0 and below 1, got {value!r}.")
    return share


def check_embedding_nets(theta: object, x: object) -> None:
    """Raise if an embedding net is no module of torch's."""
    for name, value in (("theta", theta), ("x", x)):
        if value is not None and not isinstance(value, nn.Module):
            raise TypeError(
                f"`embedding_net_{name}` must be a torch.nn.Module or None, got "
                f"{value!r} of type {type(value).__name__}."
            )


def _check_rows(theta: object, x: object) -> None:
    for name, value in (("theta", theta), ("x", x)):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"`{name}` must be a torch tensor, got {type(value).__name__}."
            )
        if value.is_complex():
            raise TypeError(f"`{name}` must be real, got {value.dtype}.")
        if value.ndim < 2 or value.numel() == 0:
            raise ValueError(
                f"`{name}` must have at least one row and one column, got shape "
                f"{tuple(value.shape)}."
            )
