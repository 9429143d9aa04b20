"""What simulators are given and what they return, by one rule for all of them."""

import torch
from sbi.utils import BoxUniform
from torch import Tensor

from sbi_aalr.checks import check_finite, check_seed


def check_features(name: str, value: object, width: int) -> None:
    """Raise unless `value` is a finite tensor of floats with rows of that width."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"`{name}` must be a torch.Tensor, got {type(value).__name__}. "
            "Convert it with `torch.as_tensor`."
        )
    if not value.is_floating_point():
        raise TypeError(
            f"`{name}` must hold floats, got {value.dtype}. Convert it with `.float()`."
        )
    if value.ndim == 0 or value.shape[-1] != width:
        raise ValueError(
            f"`{name}` must have a last dimension of {width}, got shape "
            f"{tuple(value.shape)}. Put the {width} values of a row there."
        )
    if value.numel() == 0:
        raise ValueError(
            f"`{name}` must have at least one row, got shape {tuple(value.shape)}."
        )
    check_finite(name, value)


def check_parameters(theta: Tensor, width: int) -> None:
    """Raise unless `theta` is a finite tensor of floats, shape `(N, width)`."""
    check_features("theta", theta, width)
    if theta.ndim != 2:
        raise ValueError(
            f"`theta` must have shape (N, {width}), got "
            f"{tuple(theta.shape)}. Add a batch dimension with `theta[None]`."
        )


def check_positive(name: str, value: Tensor) -> None:
    """Raise unless all values are positive."""
    least = float(value.min())
    if least <= 0:
        raise ValueError(
            f"`{name}` must be positive, got {least:.4g}. Take the exponential of "
            "logarithms, and check the order of the values."
        )


def check_broadcast(theta: Tensor, x: Tensor) -> None:
    """Raise unless the leading dimensions of `theta` and `x` broadcast."""
    try:
        torch.broadcast_shapes(theta.shape[:-1], x.shape[:-1])
    except RuntimeError:
        raise ValueError(
            "`theta` and `x` must have leading dimensions that broadcast, got "
            f"{tuple(theta.shape)} and {tuple(x.shape)}. Add dimensions of size 1."
        ) from None


def read_observation(x_o: object, width: int) -> Tensor:
    """Return one observation in float64 on the CPU, or raise.

    Args:
        x_o: A tensor, array or sequence of floats, shape `(E,)` or `(1, E)`.
        width: Its number of features E.

    Returns:
        The observation, in the shape it was given.
    """
    try:
        given = torch.as_tensor(x_o)
        # Python floats are float64; torch would round a plain sequence of them.
        value = torch.as_tensor(x_o, dtype=torch.float64, device="cpu").detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"`x_o` must be a tensor, array or sequence of {width} floats, got {x_o!r}."
        ) from error
    check_features("x_o", given, width)
    if value.shape not in {(width,), (1, width)}:
        raise ValueError(
            f"`x_o` must be one observation of shape ({width},) or (1, {width}), got "
            f"{tuple(value.shape)}. Pass one row at a time."
        )
    return value


def make_generator(seed: int | None) -> torch.Generator:
    """Return a generator on the CPU; without a seed torch's global one decides."""
    if seed is None:
        seed = int(torch.randint(2**63 - 1, ()))
    return torch.Generator().manual_seed(check_seed("seed", seed))


def round_into_support(draws: Tensor, prior: BoxUniform) -> Tensor:
    """Round exact draws `(S, D)` to float32 on the prior's device.

    Rounding up must not leave the half-open support of the prior.
    """
    high = prior.high
    below = torch.nextafter(high, torch.zeros_like(high))
    return draws.float().to(high.device).minimum(below)
