"""Checks of the rows that the tests of a ratio are given."""

from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks import check_finite


def check_theta_row(theta: object, prior: Distribution) -> Tensor:
    """Return one set of parameters as a row `(1, D)`, or raise.

    Raises:
        TypeError: If theta is no tensor.
        ValueError: If it is not one set of as many parameters as the prior has, or
            holds NaN or infinity.
    """
    if not isinstance(theta, Tensor):
        raise TypeError(
            f"`theta` must be a torch tensor, got {type(theta).__name__}. Convert it "
            "with torch.as_tensor(theta, dtype=torch.float32)."
        )
    width = int(prior.event_shape[0])
    if theta.shape not in {(width,), (1, width)}:
        raise ValueError(
            f"`theta` must be one set of parameters, shape ({width},), got "
            f"{tuple(theta.shape)}."
        )
    return check_finite("theta", theta.reshape(1, width).float())


def check_rows(name: str, value: object) -> Tensor:
    """Return rows as a float32 tensor `(B, *event_shape)`, or raise.

    Raises:
        TypeError: If the value is no tensor.
        ValueError: If it has no rows, no second dimension, or NaN or infinity.
    """
    if not isinstance(value, Tensor):
        raise TypeError(
            f"`{name}` must be a torch tensor, got {type(value).__name__}. Convert it "
            f"with torch.as_tensor({name}, dtype=torch.float32)."
        )
    if value.ndim < 2 or value.numel() == 0:
        raise ValueError(
            f"`{name}` must have one row an observation, (B, *event_shape), got shape "
            f"{tuple(value.shape)}. Add a dimension to a single one: {name}[None]."
        )
    return check_finite(name, value.float())
